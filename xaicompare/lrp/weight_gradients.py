"""What guidance does where the gradients of weights arrive: filters are scaled, and learned factors learn."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_TINY = 1e-30


def filters_scaled(gradient: Tensor, multiplier: Tensor, *, transposed: bool) -> Tensor:
    """The gradient of a weight, (filters, ...), times the batch's mean multiplier of each filter, (filters,).

    Args:
        transposed: of a transposed convolution, whose weight is (lower, filters, ...).
    """
    shape = [1] * gradient.ndim
    shape[int(transposed)] = -1
    return (gradient * multiplier.view(shape)).to(gradient.dtype)


class LearnedFactors(nn.Module):
    """A factor for every layer, bound * tanh(parameter), that starts at 0 and learns from one batch to the next.

    Had the factor been greater, the last step would have gone further along `direction`, the part of the weights'
    gradient that relevance makes. If the next batch's gradient points the same way, that would have been better: the
    parameter's gradient is minus their cosine. It is handed to the optimizer with the batch after.

    Source: Baydin et al. 2018, Online learning rate adaptation with hypergradient descent, arXiv:1703.04782, eq. 5.
    Differs: the cosine instead of the product, so that one learning rate suits all layers; the next gradient is the
    guided one; only the layer's own weights count.
    """

    def __init__(self, layers: Sequence[str], bound: float, device: torch.device) -> None:
        super().__init__()
        self.bound = bound
        self._places = {name: place for place, name in enumerate(layers)}
        self.raw = nn.ParameterList([nn.Parameter(torch.zeros((), device=device)) for _ in layers])
        self._directions: dict[str, Tensor] = {}
        self._cosines: dict[str, Tensor] = {}

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
        cosine = self._cosines.get(layer, torch.zeros_like(raw))
        return -cosine.to(raw) * self.bound * (1 - torch.tanh(raw).square())

    def learn(self, layer: str, gradient: Tensor, direction: Tensor) -> None:
        """Compares the gradient of a layer's weight with the last direction, and notes the new one; of one shape."""
        now, before = gradient.float(), self._directions.get(layer)
        if before is not None:
            size = (now.norm() * before.norm()).clamp(min=_TINY)
            self._cosines[layer] = (now * before).sum() / size
        self._directions[layer] = direction.float()
