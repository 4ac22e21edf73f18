"""One real forward pass, and every operation in it: which function, in which module, on which line."""

import os
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from xaicompare import attended

_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
_TORCH = os.path.dirname(torch.__file__) + os.sep
_MODULES = attended.__file__  # of ours, that are part of a model


@dataclass(frozen=True)
class Operation:
    """A function that ran outside torch's own modules, on values that depend on the inputs."""

    name: str  # such as "relu", "add", "cat"
    moving: int  # how many of its operands depend on the inputs
    where: str  # file:line


@dataclass
class Record:
    """What one forward pass did."""

    operations: list[Operation] = field(default_factory=list)
    calls: Counter[nn.Module] = field(default_factory=Counter)  # how often each of torch's modules ran
    outputs: Any = None


def watched_pass(model: nn.Module, inputs: Tensor) -> Record:
    """Runs the model once; control flow hides nothing, since this is a real pass."""
    record = Record()
    moving = inputs.detach().clone().requires_grad_()
    with torch.enable_grad(), _Watch(record) as watch, watch.modules(model):
        record.outputs = model(moving)
    return record


class _Watch(TorchFunctionMode):
    """Writes down every function that the model's own code calls; inside torch's modules it looks away."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record
        self.inside = 0  # depth of torch's own modules around the present call

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self.inside and _moves(result):
            operands = _tensors(args) + _tensors((kwargs or {}).values())
            moving = sum(operand.requires_grad for operand in operands)
            if moving:
                name = getattr(func, "__name__", str(func)).strip("_")
                self.record.operations.append(Operation(name, moving, _line()))
        return result

    @contextmanager
    def modules(self, model: nn.Module) -> Iterator[None]:
        """Counts calls of torch's modules, and tells when the pass is inside one."""

        def enter(module: nn.Module, _: object) -> None:
            if not self.inside:
                self.record.calls[module] += 1
            self.inside += 1

        def leave(*_: object) -> None:
            self.inside -= 1

        handles = []
        for module in model.modules():
            if is_torchs(module):
                handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def is_torchs(module: nn.Module) -> bool:
    """Whether a module is one of torch.nn's or of a repaired copy's that compute something, not a container."""
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    homes = ("torch.nn.modules", "xaicompare.diagnosis.repair")
    known = type(module).__module__.startswith(homes) or isinstance(module, attended.PositionSoftmax)
    return known and not isinstance(module, containers)


def _tensors(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _tensors(value)
    return found


def _moves(result: Any) -> bool:
    """Whether a result holds values that depend on the inputs."""
    return any(tensor.requires_grad for tensor in _tensors([result]))


def _line() -> str:
    """The innermost line of the model's own code, as file:line."""
    for frame, number in traceback.walk_stack(sys._getframe(2)):
        name = frame.f_code.co_filename
        if name == _MODULES or not name.startswith((_OURS, _TORCH)):
            return f"{_short(name)}:{number}"
    return "the model's forward"


def _short(path: str) -> str:
    return os.sep.join(path.split(os.sep)[-3:]) if "site-packages" in path else os.path.basename(path)
