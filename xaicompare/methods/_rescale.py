"""DeepLIFT's rescale rule on a recorded graph, for every operation of today's networks.

Inputs and references run side by side, each value a pair. Backward, autograd carries multipliers: linear operations
have their own gradient; f(x) has (f(x) - f(x')) / (x - x'), or its derivative where x is x'; a product xy shares its
difference as dx (y + y') / 2 + dy (x + x') / 2, the Shapley value of two players. What is made of these is taken apart
into them: division, softmax, the normalisations, the norm of a vector. Each step is complete, and so is the whole.

Source: Shrikumar, Greenside, Kundaje 2017, arXiv:1704.02685, equations 3, 6 and 7 (multipliers, linear, rescale).
Differs: products, which the paper leaves out, and all that is made of them.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from xaicompare.boundary import picked, shaped_outputs
from xaicompare.diagnosis import recorded as ops
from xaicompare.diagnosis.linear_ops import LINEAR
from xaicompare.diagnosis.recorded import check_same, recorded
from xaicompare.errors import UnsupportedModelError
from xaicompare.methods._max_pool import max_pool_shares

aten = torch.ops.aten
_NEAR = 1e-6  # differences so small, in units of the greatest, have no quotient but the derivative


class Pair(NamedTuple):
    """A value for the inputs, which carries multipliers back, and the same for the references."""

    here: Tensor
    there: Tensor


def rescaled(model: nn.Module, inputs: Tensor, references: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Contributions of the inputs (n, ...) to the difference of the scores, and the scores (n,) of the references.

    Raises:
        UnsupportedModelError: an operation without a rule, named; or no record can be had.
    """
    traced = recorded(model, inputs)
    point, there = inputs.detach().requires_grad_(), references.detach()
    with torch.no_grad():
        expected = shaped_outputs(model.forward(inputs.detach()), len(inputs))
    with torch.enable_grad():
        ended = _Paired(traced).run(Pair(point, there))
        logits, beside = (shaped_outputs(each, len(inputs)) for each in ended)
        check_same(expected, logits.detach())
        (multipliers,) = torch.autograd.grad(picked(logits, target).sum(), point)
    return multipliers * (inputs.detach() - there), picked(beside, target)


class _Paired(fx.Interpreter):
    """Runs a graph on pairs."""

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One operation: plain on constants, by its rule on pairs."""
        if not any(isinstance(leaf, Pair) for leaf in _leaves((args, kwargs))):
            return super().call_function(target, args, kwargs)
        if target in ops.SHAPED:
            return target(*_side(args, 1), **_side(kwargs, 1))
        rule = RULES.get(target)
        if rule is not None:
            return rule(*args, **kwargs)
        if target in POINTWISE:
            return pointwise(lambda x: target(x, *args[1:], **kwargs), args[0])
        if target in LINEAR or (target in _LINEAR_BESIDE_CONSTANTS and _pairs((args, kwargs)) == 1):
            return linearly(target, *args, **kwargs)
        if target in _BILINEAR:
            return product(target, *args, **kwargs)
        raise UnsupportedModelError(
            f"DeepLIFT has no rule for {target}(). Use a method that needs gradients or outputs only, such as "
            "integrated_gradients."
        )


def linearly(target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """An operation that is linear, or affine, in its pairs: its own gradient is the multiplier."""
    here = target(*_side(args, 0), **_side(kwargs, 0))
    with torch.no_grad():
        there = target(*_side(args, 1), **_side(kwargs, 1))
    if isinstance(here, Tensor):
        return Pair(here, there)
    return [Pair(*both) for both in zip(here, there, strict=True)]


def pointwise(function: Callable[[Tensor], Tensor], x: Pair) -> Pair:
    """A function of each number."""
    with torch.no_grad():
        there = function(x.there)
    return Pair(_Quotient.apply(x.here, x.there, there, function), there)


def product(target: Callable[..., Tensor], x: Pair, y: Pair, **kwargs: Any) -> Pair:
    """A bilinear operation of two pairs."""
    with torch.no_grad():
        there = target(x.there, y.there, **kwargs)
    made = _Shared.apply(x.here, x.there, y.here, y.there, lambda a, b: target(a, b, **kwargs))
    return Pair(made, there)


class _Quotient(torch.autograd.Function):
    """f(x), whose gradient is the quotient of differences."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, x0: Tensor, y0: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """The function itself."""
        y = function(x)
        ctx.save_for_backward(x, x0, y, y0)
        ctx.function = function
        return y

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None, None]:
        """Multipliers."""
        x, x0, y, y0 = ctx.saved_tensors
        difference = x - x0
        apart = difference.abs() > _NEAR * torch.maximum(x.abs(), x0.abs()).clamp_min(_NEAR)
        slope = (y - y0) / torch.where(apart, difference, 1.0)
        if not bool(apart.all()):
            with torch.enable_grad():
                point = x.detach().requires_grad_()
                (tangent,) = torch.autograd.grad(ctx.function(point).sum(), point)
            slope = torch.where(apart, slope, tangent)
        return above[0] * slope, None, None, None


class _Shared(torch.autograd.Function):
    """A bilinear operation, whose gradients are taken at the middle of the other factor."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, x0: Tensor, y: Tensor, y0: Tensor, function: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """The operation itself."""
        ctx.save_for_backward((x + x0) / 2, (y + y0) / 2)
        ctx.function = function
        return function(x, y)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
        """Multipliers."""
        with torch.enable_grad():
            x, y = (middle.detach().requires_grad_() for middle in ctx.saved_tensors)
            of_x, of_y = torch.autograd.grad(ctx.function(x, y), (x, y), above[0])
        return of_x, None, of_y, None, None


class _Normalised(torch.autograd.Function):
    """A value x times the scale r of its group, by shares that stay bounded.

    A blank reference has a scale of 1 / sqrt(eps), hundreds of times the usual one: at the middle of both, shares of x
    and of r would be as large, and cancel, layer after layer. dx takes the harmonic mean 2 r r' / (r + r') instead, and
    dr the rest, (y + y') / (r + r'): complete, the same with inputs and references exchanged, and equal to the middle
    where r = r'.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, x0: Tensor, r: Tensor, r0: Tensor, y0: Tensor) -> Tensor:
        """The product."""
        y = x * r
        ctx.save_for_backward(r, r0, y, y0)
        return y

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
        """Multipliers."""
        r, r0, y, y0 = ctx.saved_tensors
        of_r = (above[0] * (y + y0) / (r + r0)).sum_to_size(r.shape)
        return above[0] * (2 * r * r0 / (r + r0)), None, of_r, None, None


def _multiplied(x: Pair, y: Pair) -> Pair:
    return product(torch.mul, x, y)


def _squared(x: Pair) -> Pair:
    return pointwise(torch.square, x)


def _divided(x: Any, y: Any, **kwargs: Any) -> Pair:
    if kwargs:
        raise UnsupportedModelError(f"DeepLIFT has no rule for division with {kwargs}. Use integrated_gradients.")
    if not isinstance(y, Pair):
        return linearly(torch.div, x, y)
    over = pointwise(torch.reciprocal, y)
    return _multiplied(x, over) if isinstance(x, Pair) else linearly(torch.mul, over, x)


def _softmax(x: Pair, dim: int, *_: Any) -> Pair:
    """exp(x - c) over its sum; c, the greatest of both, is one number for both, which changes nothing."""
    greatest = torch.maximum(x.here.detach(), x.there).amax(dim, keepdim=True)
    greatest = torch.where(greatest.isfinite(), greatest, 0.0)
    powers = pointwise(lambda values: (values - greatest).exp(), _finite(x))
    whole = linearly(lambda values: values.sum(dim, keepdim=True), powers)
    return _multiplied(powers, pointwise(torch.reciprocal, whole))


def _finite(x: Pair) -> Pair:
    """Without the -inf of a mask, whose power is 0 in both."""
    low = torch.finfo(x.here.dtype).min / 4
    return linearly(lambda values: values.masked_fill(values == -torch.inf, low), x)


def _normalised(x: Pair, dims: tuple[int, ...], eps: float) -> Pair:
    """(x - mean) / sqrt(var + eps) over some dimensions."""
    centred = linearly(lambda values: values - values.mean(dims, keepdim=True), x)
    variance = linearly(lambda values: values.mean(dims, keepdim=True), _squared(centred))
    scale = pointwise(lambda values: (values + eps).rsqrt(), variance)
    there = centred.there * scale.there
    return Pair(_Normalised.apply(*centred, *scale, there), there)


def _layer_norm(x: Pair, shape: list[int], weight: Any, bias: Any, eps: float) -> Pair:
    made = _normalised(x, tuple(range(-len(shape), 0)), eps)
    return _scaled(made, weight, bias)


def _group_norm(x: Pair, groups: int, weight: Any, bias: Any, eps: float) -> Pair:
    apart = linearly(lambda values: values.unflatten(1, (groups, -1)).flatten(2), x)
    made = linearly(lambda values: values.reshape(x.here.shape), _normalised(apart, (2,), eps))
    spread = [1, -1, *[1] * (x.here.ndim - 2)]
    return _scaled(made, *(None if each is None else each.view(spread) for each in (weight, bias)))


def _scaled(x: Pair, weight: Any, bias: Any) -> Pair:
    def scaled(values: Tensor) -> Tensor:
        values = values if weight is None else values * weight
        return values if bias is None else values + bias

    return linearly(scaled, x)


def _vector_norm(x: Pair, order: float = 2, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Pair:
    if order != 2 or kwargs.get("dtype") is not None:
        raise UnsupportedModelError(f"DeepLIFT has no rule for a norm of order {order}. Use integrated_gradients.")
    dims = tuple(range(x.here.ndim)) if dim is None else dim
    return pointwise(torch.sqrt, linearly(lambda values: values.sum(dims, keepdim=keepdim), _squared(x)))


def _variance(x: Pair, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> Pair:
    dims = tuple(range(x.here.ndim)) if dim is None else tuple(dim)
    count = 1
    for each in dims:
        count *= x.here.shape[each]
    centred = linearly(lambda values: values - values.mean(dims, keepdim=True), x)
    less = 1 if correction is None else correction
    return linearly(lambda values: values.sum(dims, keepdim=keepdim) / (count - less), _squared(centred))


def _greatest_of_windows(x: Pair, *window: Any) -> Pair:
    """Max-pooling: see `max_pool_shares`."""
    settings = dict(zip(("kernel_size", "stride", "padding", "dilation", "ceil_mode"), window, strict=False))
    settings["stride"] = settings.get("stride") or None
    with torch.no_grad():
        there = F.max_pool2d(x.there, **settings)
    return Pair(_Greatest.apply(x.here, x.there, nn.MaxPool2d(**settings)), there)


def _greatest(x: Pair, dim: Any = (), keepdim: bool = False) -> Pair:
    """The maximum over dimensions, as max-pooling with one window."""
    count = x.here.ndim
    dims = sorted(each % count for each in dim) if len(dim) else list(range(count))
    others = [each for each in range(count) if each not in dims]
    window = math.prod(x.here.shape[each] for each in dims)
    apart = linearly(lambda values: values.permute(*others, *dims).reshape(1, -1, window), x)
    with torch.no_grad():
        there = F.max_pool1d(apart.there, window)
    made = Pair(_Greatest.apply(*apart, nn.MaxPool1d(window)), there)
    shape = [1 if each in dims else size for each, size in enumerate(x.here.shape) if keepdim or each not in dims]
    return linearly(lambda values: values.reshape(shape), made)


class _Greatest(torch.autograd.Function):
    """Max-pooling, by its own rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, x0: Tensor, pool: nn.Module) -> Tensor:
        """The pooling itself."""
        ctx.save_for_backward(x, x0)
        ctx.pool = pool
        made: Tensor = pool(x)
        return made

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None]:
        """Multipliers."""
        x, x0 = ctx.saved_tensors
        difference = x - x0
        apart = difference.abs() > _NEAR * torch.maximum(x.abs(), x0.abs()).clamp_min(_NEAR)
        shares = max_pool_shares(ctx.pool, x, x0, above[0])
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            (tangent,) = torch.autograd.grad(ctx.pool(point), point, above[0])
        return torch.where(apart, shares / torch.where(apart, difference, 1.0), tangent), None, None


def _power(x: Any, exponent: Any) -> Pair:
    if isinstance(x, Pair) and not isinstance(exponent, Pair):
        return pointwise(lambda values: values**exponent, x)
    raise UnsupportedModelError("DeepLIFT has no rule for a power of the inputs. Use integrated_gradients.")


def _leaves(given: Any) -> list[Any]:
    if isinstance(given, dict):
        return [leaf for each in given.values() for leaf in _leaves(each)]
    if isinstance(given, (tuple, list)) and not isinstance(given, Pair):
        return [leaf for each in given for leaf in _leaves(each)]
    return [given]


def _pairs(given: Any) -> int:
    return sum(isinstance(leaf, Pair) for leaf in _leaves(given))


def _side(given: Any, which: int) -> Any:
    """One side of all pairs."""
    if isinstance(given, Pair):
        return given[which]
    if isinstance(given, dict):
        return {name: _side(each, which) for name, each in given.items()}
    if isinstance(given, (tuple, list)):
        return type(given)(_side(each, which) for each in given)
    return given


POINTWISE = frozenset(
    {aten.relu.default, aten.leaky_relu.default, aten.elu.default, aten.silu.default, aten.gelu.default}
    | {aten.hardswish.default, aten.hardsigmoid.default, aten.hardtanh.default, aten.sigmoid.default}
    | {aten.tanh.default, aten.softplus.default, aten.mish.default, aten.exp.default, aten.log.default}
    | {aten.sqrt.default, aten.rsqrt.default, aten.reciprocal.default, aten.abs.default, aten.clamp.default}
    | {aten.clamp_min.default, aten.clamp_max.default, aten.erf.default, aten.log1p.default, aten.expm1.default}
    | {aten.softshrink.default, aten.log_sigmoid_forward.default, aten.sin.default, aten.cos.default}
)
_BILINEAR = frozenset({aten.mul.Tensor, aten.bmm.default, aten.mm.default})
_LINEAR_BESIDE_CONSTANTS = frozenset({*_BILINEAR, aten.convolution.default, aten.addmm.default, ops.linear})
RULES: dict[Any, Callable[..., Any]] = {
    aten.div.Tensor: _divided,
    aten.div.Scalar: _divided,
    aten._softmax.default: _softmax,
    aten._safe_softmax.default: _softmax,
    aten.linalg_vector_norm.default: _vector_norm,
    aten.var.correction: _variance,
    aten.amax.default: _greatest,
    aten.pow.Tensor_Scalar: _power,
    aten._prelu_kernel.default: lambda x, weight: pointwise(lambda values: aten._prelu_kernel(values, weight), x),
    ops.layer_norm: _layer_norm,
    ops.group_norm: _group_norm,
    ops.max_pool2d: _greatest_of_windows,
}
