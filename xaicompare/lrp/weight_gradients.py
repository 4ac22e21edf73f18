"""What guidance does where the gradients of weights arrive: filters are scaled, and learned factors learn."""

import math
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xaicompare.errors import SettingError

_TINY = 1e-30


class FilterScales:
    """Multiplies the gradient of each filter's weights by the mean of its multiplier over the batch."""

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        self._pending: dict[str, Tensor] = {}
        self._transposed = {name: _transposed(model, name) for name in layers}
        _on_weight_gradients(self, model, layers)

    def put(self, layer: str, scale: Tensor) -> None:
        """The multipliers (c,) of a layer's filters, for the gradient that is about to arrive."""
        self._pending[layer] = scale

    def arrived(self, layer: str, gradient: Tensor) -> Tensor | None:
        """What stands for that gradient of a weight from now on."""
        scale = self._pending.pop(layer, None)
        if scale is None:
            return None
        shape = [1] * gradient.ndim
        shape[int(self._transposed[layer])] = -1
        return (gradient * scale.view(shape)).to(gradient.dtype)


class LearnedFactors(nn.Module):
    """A factor for every layer, bound * tanh(parameter), that starts at 0 and learns from one batch to the next.

    Had the factor been greater, the last step would have gone further along `direction`, the part of the weights'
    gradient that relevance makes. If the next batch's gradient points the same way, that would have been better: the
    parameter's gradient is minus their cosine. It is handed to the optimizer with the batch after.

    Source: Baydin et al. 2018, Online learning rate adaptation with hypergradient descent, arXiv:1703.04782, eq. 5.
    Differs: the cosine instead of the product, so that one learning rate suits all layers; the next gradient is the
    guided one; only the layer's own weights count.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], bound: float) -> None:
        if not (isinstance(bound, (int, float)) and math.isfinite(bound) and bound > 0):
            raise SettingError(f"bound={bound!r}; expected a finite number above 0.")
        super().__init__()
        device = next(model.parameters()).device
        self.bound = float(bound)
        self._places = {name: place for place, name in enumerate(layers)}
        self.raw = nn.ParameterList([nn.Parameter(torch.zeros((), device=device)) for _ in layers])
        self._pending: dict[str, Tensor] = {}
        self._directions: dict[str, Tensor] = {}
        self._signals: dict[str, Tensor] = {}
        _on_weight_gradients(self, model, layers)

    def values(self) -> dict[str, float]:
        """The factors by layer, each from -bound to bound."""
        made = self.bound * torch.tanh(torch.stack([raw.detach() for raw in self.raw]))
        return dict(zip(self._places, made.tolist(), strict=True))

    def parameter(self, layer: str) -> nn.Parameter:
        """What the optimizer moves."""
        return self.raw[self._places[layer]]

    def gradient(self, layer: str) -> Tensor:
        """Of `parameter(layer)`, as known so far."""
        raw = self.parameter(layer).detach()
        cosine = self._signals.get(layer, torch.zeros_like(raw))
        return -cosine.to(raw) * self.bound * (1 - torch.tanh(raw).square())

    def put(self, layer: str, direction: Tensor) -> None:
        """What relevance adds to a weight's gradient, for a factor of 1; of its shape."""
        known = self._pending.get(layer)
        self._pending[layer] = direction if known is None else known + direction

    def arrived(self, layer: str, gradient: Tensor) -> None:
        """Compares that gradient of a weight with the last direction."""
        before, now = self._directions.get(layer), gradient.detach().to(torch.float32)
        if before is not None:
            size = (now.norm() * before.norm()).clamp(min=_TINY)
            self._signals[layer] = (now * before).sum() / size
        if layer in self._pending:
            self._directions[layer] = self._pending.pop(layer)


def _on_weight_gradients(owner: Any, model: nn.Module, layers: Sequence[str]) -> None:
    """`owner.arrived(layer, gradient)` is called whenever a layer's weight gets a gradient, while the owner lives."""
    known = weakref.ref(owner)

    def arrived(layer: str, gradient: Tensor) -> Tensor | None:
        alive = known()
        with torch.no_grad():
            return None if alive is None else alive.arrived(layer, gradient)

    for layer in layers:
        weight = model.get_parameter(f"{layer}.weight")
        if weight.requires_grad:
            weight.register_hook(partial(arrived, layer))


def _transposed(model: nn.Module, layer: str) -> bool:
    return bool(getattr(model.get_submodule(layer), "transposed", False))
