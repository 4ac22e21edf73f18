"""The affine map of a layer, taken apart: what goes up, what comes down, and with which weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xaicompare.diagnosis import recorded

Statistics: TypeAlias = tuple[Tensor, Tensor]
"""The mean and the variance that a BatchNorm used, (c,) each."""


@dataclass(frozen=True, eq=False)
class Affine:
    """z = weight * a + bias, where * is a matrix product, a convolution, or a product channel by channel.

    Rules ask for the same map with other weights, so both directions take them as arguments.
    """

    weight: Tensor
    bias: Tensor | None
    convolution: tuple[Any, ...] | None = None  # stride, padding, dilation, transposed, output padding, groups
    diagonal: bool = False  # BatchNorm on its own: weight (c,)

    def up(self, a: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """(n, lower) -> (n, upper)."""
        if self.diagonal:
            z = a * _channels(weight, a)
            return z if bias is None else z + _channels(bias, a)
        if self.convolution is None:
            return F.linear(a, weight, bias)
        return torch.convolution(a, weight, bias, *self.convolution)

    def down(self, s: Tensor, weight: Tensor, like: Tensor) -> Tensor:
        """The transposed map, (n, upper) -> (n, lower); only the shape of `like`, of the lower side, counts."""
        if self.diagonal:
            return s * _channels(weight, s)
        if self.convolution is None:
            return s @ weight
        shape = like.expand(len(s), *like.shape[1:])
        # Differentiable in s and in the weight, and the fastest way there is.
        made = torch.ops.aten.convolution_backward(s, shape, weight, None, *self.convolution, [True, False, False])
        return made[0]

    def weight_gradient(self, a: Tensor, s: Tensor) -> Tensor:
        """The gradient of (s * up(a)).sum() with respect to the weight, for s (n, upper) and a (n, lower)."""
        return self.gradients(a, s)[0]

    def gradients(self, a: Tensor, s: Tensor, *, of_bias: bool = False) -> tuple[Tensor, Tensor | None]:
        """The gradients of (s * up(a)).sum() with respect to weight and, if it is asked for, bias."""
        s = s.to(a.dtype)
        if self.convolution is None:
            s = s.flatten(0, -2)
            return s.t() @ a.flatten(0, -2), s.sum(0) if of_bias else None
        weight, sizes = self.weight.to(a.dtype), list(self.bias.shape) if of_bias and self.bias is not None else None
        made = torch.ops.aten.convolution_backward(s, a, weight, sizes, *self.convolution, [False, True, of_bias])
        return made[1], made[2]

    def of_bias(self, s: Tensor, bias: Tensor) -> Tensor:
        """What falls to a bias (upper,) of s (n, upper, ...): the sum of s * bias, (n,)."""
        channel_last = self.convolution is None and not self.diagonal
        summed = s.flatten(1, -2).sum(1) if channel_last and s.ndim > 2 else s if channel_last else _summed(s)
        return summed @ bias


def _channels(values: Tensor, a: Tensor) -> Tensor:
    """(c,) in a shape that broadcasts over (n, c, ...)."""
    return values.view(-1, *[1] * (a.ndim - 2))


def _summed(s: Tensor) -> Tensor:
    """(n, c, ...) -> (n, c)."""
    return s.flatten(2).sum(2) if s.ndim > 2 else s


def affine_of(module: nn.Module, statistics: Statistics | None = None) -> Affine | None:
    """The affine map of a linear layer, a convolution or a BatchNorm; None for every other module.

    Args:
        statistics: those of a BatchNorm, where it didn't use the running ones.
    """
    if isinstance(module, nn.Linear):
        return Affine(module.weight, module.bias)
    if isinstance(module, nn.modules.conv._ConvNd):
        transposed = module.transposed
        out = module.output_padding if transposed else (0,) * len(module.stride)
        padding = (0,) * len(module.stride) if outer_padding(module) else module.padding
        given = (module.stride, padding, module.dilation, transposed, out, module.groups)
        return Affine(module.weight, module.bias, given)
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
        scale, shift = _scale_and_shift(module, statistics)
        return Affine(scale, shift, diagonal=True)
    return None


def affine_of_call(target: Any, args: Sequence[Any]) -> Affine:
    """The affine map of a recorded operation, by its arguments: see `diagnosis.recorded`."""
    if target is recorded.linear:
        return Affine(args[1], args[2])
    if target is recorded.batch_norm:
        _, weight, bias, mean, variance, eps = args
        scale = torch.rsqrt(variance + eps) * (1 if weight is None else weight)
        shift = -mean * scale
        return Affine(scale, shift if bias is None else shift + bias, diagonal=True)
    _, weight, bias, stride, padding, dilation, transposed, out, groups = args
    return Affine(weight, bias, (stride, padding, dilation, transposed, out, groups))


def outer_padding(module: nn.Module) -> tuple[list[int], str] | None:
    """What `F.pad` does before a convolution whose padding is not plain zeros, as (amounts, mode); else None."""
    if not isinstance(module, nn.modules.conv._ConvNd) or module.transposed:
        return None
    if module.padding_mode == "zeros" and not isinstance(module.padding, str):
        return None
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return list(module._reversed_padding_repeated_twice), mode


def merged(layer: Affine, norm: nn.modules.batchnorm._BatchNorm, statistics: Statistics | None = None) -> Affine:
    """The layer with the BatchNorm after it, as one affine map; differentiable in the parameters of both."""
    scale, shift = _scale_and_shift(norm, statistics)
    bias = shift if layer.bias is None else shift + scale * layer.bias
    weight = layer.weight
    if layer.convolution is not None and layer.convolution[3]:  # transposed: (lower, upper / groups, ...)
        groups = layer.convolution[5]
        spread = scale.view(groups, 1, -1, *[1] * (weight.ndim - 2))
        return replace(layer, weight=(weight.unflatten(0, (groups, -1)) * spread).flatten(0, 1), bias=bias)
    return replace(layer, weight=weight * scale.view(-1, *[1] * (weight.ndim - 1)), bias=bias)


def _scale_and_shift(norm: nn.modules.batchnorm._BatchNorm, statistics: Statistics | None) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = statistics or (norm.running_mean, norm.running_var)
    scale = torch.rsqrt(variance + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias
