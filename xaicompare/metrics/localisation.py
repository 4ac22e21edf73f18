"""Whether a map lies on the object: metrics that ask for masks (n, h, w), True on the object.

All look at the signed map. Equal values share their places evenly, so that no corner of the image is favoured.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from xaicompare.core import Attribution, Metric, MetricTraits
from xaicompare.metrics._similarity import mean_ranks
from xaicompare.metrics.removal import importance_of
from xaicompare.registry import metric
from xaicompare.settings import Share, frozen

_TRAITS = MetricTraits("localisation", 0, 1, masks=True)


@metric
@frozen
class PointingGame(Metric):
    """1 where the greatest value lies on the object, else 0; of several greatest, the share that does.

    Source: Zhang, Lin, Brandt, Shen, Sclaroff 2016, arXiv:1608.00507, section 4.2.
    Differs: without a margin around the object. Quantus gives 1 where any of several greatest values is on it.
    """

    name: ClassVar[str] = "pointing_game"
    traits: ClassVar[MetricTraits] = _TRAITS
    higher_is_better = True

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        values, inside = _both(attribution, masks)
        greatest = (values == values.amax(1, keepdim=True)).to(values)
        return (greatest * inside).sum(1) / greatest.sum(1)


@metric
@frozen
class RelevanceMass(Metric):
    """The share of the positive values' sum that lies on the object; its share of the image where none is positive.

    Source: Arras, Osman, Samek 2022, arXiv:2003.07258, eq. 1 (relevance mass accuracy).
    Differs: negative values count as none; Quantus divides by the signed sum, which may be anything.
    """

    name: ClassVar[str] = "relevance_mass"
    traits: ClassVar[MetricTraits] = _TRAITS
    higher_is_better = True

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        values, inside = _both(attribution, masks)
        positive = values.clamp(min=0)
        total = positive.sum(1)
        share = (positive * inside).sum(1) / total.clamp_min(torch.finfo(total.dtype).tiny)
        return torch.where(total > 0, share, inside.mean(1))


@metric
@frozen
class RelevanceRank(Metric):
    """Of as many most important positions as the object has, the share that lies on it.

    Source: Arras, Osman, Samek 2022, arXiv:2003.07258, eq. 2 (relevance rank accuracy).
    """

    name: ClassVar[str] = "relevance_rank"
    traits: ClassVar[MetricTraits] = _TRAITS
    higher_is_better = True

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        values, inside = _both(attribution, masks)
        size = inside.sum(1)
        return _among_first(values, inside, size) / size


@metric
@frozen
class TopKIntersection(Metric):
    """The share of the most important positions that lies on the object.

    Source: Theiner, Mueller-Budack, Ewerth 2022, arXiv:2104.14995, section 4.3.
    Differs: the positions are a share of the image, not 1,000.
    """

    name: ClassVar[str] = "top_k_intersection"
    traits: ClassVar[MetricTraits] = _TRAITS
    higher_is_better = True

    share: Share = 0.02

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        values, inside = _both(attribution, masks)
        count = values.new_full((len(values),), max(1, round(self.share * values.shape[1])))
        return _among_first(values, inside, count) / count


@metric
@frozen
class AttributionAUC(Metric):
    """Area under the ROC curve of the map as a classifier of object positions: 1/2 for a map without meaning.

    Source: Fawcett 2006, An introduction to ROC analysis, doi:10.1016/j.patrec.2005.10.010, section 7.
    """

    name: ClassVar[str] = "attribution_auc"
    traits: ClassVar[MetricTraits] = _TRAITS
    higher_is_better = True

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        values, inside = _both(attribution, masks)
        on = inside.sum(1)
        off = values.shape[1] - on
        below = (mean_ranks(values) * inside).sum(1) - on * (on - 1) / 2  # pairs in which the object's is greater
        return below / (on * off)


def _both(attribution: Attribution, masks: Tensor | None) -> tuple[Tensor, Tensor]:
    """The signed map and the masks, (n, positions) in double precision."""
    assert masks is not None
    values = importance_of(attribution).double()
    return values, masks.to(values)


def _among_first(values: Tensor, inside: Tensor, count: Tensor) -> Tensor:
    """How many of the `count` (n,) greatest values are inside, (n,); those equal to the last share what is left."""
    last = values.sort(1, descending=True).values.gather(1, count.long()[:, None] - 1)
    above, equal = (values > last).to(values), (values == last).to(values)
    left = (count - above.sum(1)) / equal.sum(1)
    return (above * inside).sum(1) + left * (equal * inside).sum(1)
