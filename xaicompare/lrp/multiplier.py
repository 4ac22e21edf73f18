"""What a gradient is multiplied by: 1 + factor * relevance, and the stabilisers of it."""

from typing import Literal

import torch
from torch import Tensor

from xaicompare.errors import SettingError
from xaicompare.settings import Finite, Settings, frozen

_TINY = 1e-30  # keeps a sample without any relevance from 0 / 0


@frozen
class Multiplier(Settings):
    """How relevance becomes a multiplier; each stabiliser is off by default, and they act in this order."""

    name = "multiplier"

    filters: bool = False  # a map's relevance is summed, and scales the gradient of its filter's weights alone
    normalise: Literal["max", "mean"] | None = None  # relevance over its largest, or mean, magnitude in the sample
    centre: bool = False  # relevance less its mean in the sample: the multiplier's mean is 1
    clamp: tuple[Finite, Finite] | None = None  # the least and the greatest multiplier

    def __post_init__(self) -> None:
        if self.clamp is not None and not self.clamp[0] <= 1 <= self.clamp[1]:
            raise SettingError(f"clamp={self.clamp}; expected (least, greatest) with 1 between them.")

    @property
    def plain(self) -> bool:
        """Whether it is 1 + factor * relevance as it stands."""
        return not self.filters and self.normalise is None and not self.centre and self.clamp is None

    def used(self, relevance: Tensor, *, channels_last: bool = False) -> Tensor:
        """The relevance (n, c, ...) that counts, per sample and layer; with `filters` (n, c).

        Args:
            channels_last: it is (n, ..., c), as linear layers make it.
        """
        if self.filters and relevance.ndim > 2:
            relevance = relevance.flatten(1, -2).sum(1) if channels_last else relevance.flatten(2).sum(2)
        if self.normalise is not None:
            sizes = relevance.abs().flatten(1)
            size = sizes.amax(1) if self.normalise == "max" else sizes.mean(1)
            relevance = relevance / _beside(size.clamp(min=_TINY), relevance)
        if self.centre:
            relevance = relevance - _beside(relevance.flatten(1).mean(1), relevance)
        return relevance

    def of(self, relevance: Tensor, factor: float) -> Tensor:
        """The multiplier of relevance that was made by `used`, of its shape."""
        made = 1 + factor * relevance
        return made if self.clamp is None else made.clamp(*self.clamp)

    def scaled(self, gradient: Tensor, relevance: Tensor, factor: float, *, fresh: bool) -> Tensor:
        """gradient * (1 + factor * relevance), in the gradient's precision; both (n, c, ...).

        Args:
            fresh: nobody else reads the gradient: it may be written over, which saves the time to get new memory.
        """
        if self.plain and gradient.dtype == relevance.dtype:  # one pass over memory, not three
            out = gradient if fresh else None
            return torch.addcmul(gradient, gradient, relevance, value=factor, out=out)
        return (gradient * self.of(self.used(relevance), factor)).to(gradient.dtype)


def _beside(values: Tensor, like: Tensor) -> Tensor:
    """(n,) in a shape that broadcasts over (n, c, ...)."""
    return values.view(-1, *[1] * (like.ndim - 1))
