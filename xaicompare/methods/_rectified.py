"""Guided backpropagation and deconvnets on a recorded graph: every activation that rectifies, however it is called."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from xaicompare.boundary import picked, shaped_outputs
from xaicompare.diagnosis.recorded import check_same, recorded
from xaicompare.errors import UnsupportedModelError

Kind = Literal["guided", "deconvnet"]
aten = torch.ops.aten

RECTIFIERS = frozenset(
    {aten.relu.default, aten.relu_.default, aten.leaky_relu.default, aten.leaky_relu_.default, aten.elu.default}
    | {aten.elu_.default, aten.silu.default, aten.silu_.default, aten.gelu.default, aten.hardswish.default}
    | {aten.hardswish_.default, aten._prelu_kernel.default, aten.softplus.default, aten.mish.default}
)
"""ELU stands for SELU and CELU too, which torch makes of it."""
_CLAMPS = frozenset({aten.hardtanh.default, aten.hardtanh_.default, aten.clamp.default, aten.clamp_min.default})


def changed_backprop(model: nn.Module, inputs: Tensor, target: Tensor, kind: Kind) -> Tensor:
    """The gradient of the explained score, (n, ...), with the rule at every activation that rectifies.

    ReLU keeps its published rule; others have it with their own derivative f': "guided" sends down f'(x) max(g, 0),
    "deconvnet" max(g, 0), of the gradient g from above. Everything else passes the plain gradient, LayerNorm, softmax
    and gates by a sigmoid among it.

    Raises:
        UnsupportedModelError: nothing rectifies, so that this would be the plain gradient; or no record can be had.
    """
    traced = recorded(model, inputs)
    with torch.no_grad():
        expected = shaped_outputs(model.forward(inputs), len(inputs))
    point = inputs.detach().requires_grad_()
    with torch.enable_grad():
        passed = _Rectifying(traced, kind)
        logits = shaped_outputs(passed.run(point), len(inputs))
        check_same(expected, logits.detach())
        if not passed.met:
            raise UnsupportedModelError(
                f"{type(model).__name__} has no ReLU or alike, so this would be the plain gradient; expected one. Use "
                "'saliency' for the plain gradient."
            )
        return torch.autograd.grad(picked(logits, target).sum(), point)[0]


class _Rectifying(fx.Interpreter):
    """Runs a graph with another backward pass through its rectifiers."""

    def __init__(self, traced: fx.GraphModule, kind: Kind) -> None:
        super().__init__(traced)
        self.kind = kind
        self.met = 0

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One operation."""
        moves = any(isinstance(arg, Tensor) and arg.requires_grad for arg in args)
        if not moves or not (target in RECTIFIERS or (target in _CLAMPS and args[1] == 0)):
            return super().call_function(target, args, kwargs)
        self.met += 1
        return _Activation.apply(args[0], lambda x: target(x, *args[1:], **kwargs), self.kind)


class _Activation(torch.autograd.Function):
    """An activation whose backward pass is a method's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Callable[[Tensor], Tensor], kind: Kind) -> Tensor:
        """The activation itself."""
        ctx.save_for_backward(x)
        ctx.call, ctx.kind = call, kind
        return call(x)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None]:
        """What the method sends down."""
        positive = above[0].clamp(min=0)
        if ctx.kind == "deconvnet":
            return positive, None, None
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            (below,) = torch.autograd.grad(ctx.call(x), x, positive)
        return below, None, None
