"""How concentrated a map is, whatever it says of the model: on the absolute values of its positions."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from xaicompare.core import Attribution, Metric, MetricTraits
from xaicompare.metrics.removal import importance_of
from xaicompare.registry import metric
from xaicompare.settings import NonNegative, frozen


@metric
@frozen
class Sparseness(Metric):
    """Gini index of the absolute values: 0 where all are equal, near 1 where one position holds everything.

    A map of zeros is as even as can be: 0.

    Source: Chalasani, Chen, Chowdhury, Jha, Wu 2020, arXiv:1810.06583, definition 2.
    """

    name: ClassVar[str] = "sparseness"
    traits: ClassVar[MetricTraits] = MetricTraits("complexity", 0, 1)
    higher_is_better = True

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        sizes = _sizes(attribution).sort(1).values  # (n, positions), rising
        count = sizes.shape[1]
        weights = 2 * torch.arange(1, count + 1).to(sizes) - count - 1
        total = sizes.sum(1)
        return torch.where(total > 0, sizes @ weights / (count * total.clamp_min(_tiny(total))), 0)


@metric
@frozen
class Complexity(Metric):
    """Entropy, in nats, of the absolute values as shares of their sum: 0 for one position, log(positions) if all equal.

    A map of zeros is as even as can be: log(positions).

    Source: Bhatt, Weller, Moura 2020, arXiv:2005.00631, definition 3.
    """

    name: ClassVar[str] = "complexity"
    traits: ClassVar[MetricTraits] = MetricTraits("complexity", 0)
    higher_is_better = False

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        sizes = _sizes(attribution)
        total = sizes.sum(1, keepdim=True)
        even = torch.full_like(sizes, 1 / sizes.shape[1])
        shares = torch.where(total > 0, sizes / total.clamp_min(_tiny(total)), even)
        return torch.special.entr(shares).sum(1)


@metric
@frozen
class EffectiveComplexity(Metric):
    """The share of positions whose absolute value is above `threshold` times the largest of the map.

    Source: Nguyen and Martinez 2020, arXiv:2007.07584, section 3.3.
    Differs: the threshold is relative to each map, as in no scale of their own maps compare otherwise; Quantus counts
    values above an absolute one. A share, not a number, so that images of any size compare.
    """

    name: ClassVar[str] = "effective_complexity"
    traits: ClassVar[MetricTraits] = MetricTraits("complexity", 0, 1)
    higher_is_better = False

    threshold: NonNegative = 0.01

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        sizes = _sizes(attribution)
        return (sizes > self.threshold * sizes.amax(1, keepdim=True)).to(sizes).mean(1)


def _sizes(attribution: Attribution) -> Tensor:
    """(n, positions), at least 0, in double precision: sums over many positions."""
    return importance_of(attribution, "absolute").double()


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny
