"""Programs of torch.jit as networks: their outputs and gradients can be had, their layers can't."""

from typing import Any

import torch
from torch import Tensor, nn


class TorchScriptProgram(nn.Module):
    """What torch.jit.script or torch.jit.trace made, called in evaluation mode.

    Such a program takes no hooks, so it is called from here and is no child of this module: methods that need outputs
    or gradients are right, and those that need layers find none and refuse.
    """

    program: Any

    def __init__(self, program: torch.jit.ScriptModule) -> None:
        super().__init__()
        object.__setattr__(self, "program", program)

    def forward(self, inputs: Tensor) -> Any:
        """What the program returns."""
        training = self.program.training
        self.program.eval()
        try:
            return self.program(inputs)
        finally:
            self.program.train(training)

    def named_parameters(self, *given: Any, **more: Any) -> Any:
        """Those of the program."""
        return self.program.named_parameters(*given, **more)

    def named_buffers(self, *given: Any, **more: Any) -> Any:
        """Those of the program."""
        return self.program.named_buffers(*given, **more)


def callable_network(model: nn.Module) -> nn.Module:
    """The model, or a program of torch.jit as a module that takes hooks."""
    return TorchScriptProgram(model) if isinstance(model, torch.jit.ScriptModule) else model
