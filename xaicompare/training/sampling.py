"""Training on the images whose explanations score highest, beside choices that need no explanation."""

from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from xaicompare.core import Attribution
from xaicompare.draws import generator
from xaicompare.errors import InputError
from xaicompare.registry import METRICS
from xaicompare.settings import Count, Share, frozen
from xaicompare.training._common import attributions, built_method, logits_of
from xaicompare.training.arms import Arm, arm
from xaicompare.training.course import Course

MapScore = Literal["mean", "sum", "max", "entropy", "gini"]
"""What a map is boiled down to.

- "sum": of the signed values. What speaks for the class and what speaks against it cancels, and where a method
  conserves (LRP, DeepSHAP, ...) it is the explained output itself, less what biases or baselines hold: it ranks images
  by how sure the network is, not by their maps. "mean" is the sum over the number of positions: the same order.
- "max": the greatest signed value.
- "entropy", in nats, and "gini": how evenly or unevenly the absolute values are spread; the metrics `complexity` and
  `sparseness`, whose docstrings define them. They don't depend on the map's scale.
"""

Score = Literal[MapScore, "loss", "margin", "random"]
"""What images are chosen by: a score of their maps; their cross-entropy; the output of their class less the greatest of
the others; or chance."""

_METRICS = {"entropy": "complexity", "gini": "sparseness"}


def map_scores(model: nn.Module, attribution: Attribution, score: MapScore) -> Tensor:
    """The score of each sample's map, (n,), in double precision."""
    if score in _METRICS:
        return METRICS.build(_METRICS[score])(model, attribution).double()
    values = attribution.map.flatten(1).double()  # (n, positions)
    if score == "max":
        return values.amax(1)
    return values.mean(1) if score == "mean" else values.sum(1)


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """The output of each image's class less the greatest of the others, (n,): negative where it is misclassified.

    >>> margins(torch.tensor([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0]]), torch.tensor([1, 2])).tolist()
    [2.0, -2.0]
    """
    own = labels[:, None]
    others = logits.scatter(1, own, -torch.inf).amax(1)
    return logits.gather(1, own).squeeze(1) - others


def kept(scores: Tensor, keep: float, *, highest: bool = True) -> Tensor:
    """Where the best of n samples stand, rising: exactly round(keep * n) of them, at least one.

    Of equal scores the earlier sample goes first.

    Args:
        scores: (n,).
        highest: whether the highest are the best, or the lowest.

    Raises:
        InputError: scores that are not (n,), n >= 1, and finite.

    >>> kept(torch.tensor([0.1, 0.9, 0.4, 0.8]), 0.5).tolist()
    [1, 3]
    """
    if scores.ndim != 1 or len(scores) == 0 or not bool(torch.isfinite(scores).all()):
        raise InputError(f"scores have shape {tuple(scores.shape)}; expected (n,), n >= 1, all finite.")
    order = scores.sort(descending=highest, stable=True).indices
    return order[: max(1, round(keep * len(scores)))].sort().values


@final
@arm
@frozen
class Sampled(Arm):
    """Training on a share of the images, chosen by what a network that was trained for a moment says of them.

    The scout starts from the same weights as the network, learns from all images, and is thrown away; its steps and
    its seconds count. What is explained is the output of the class that each image has. "random" needs no scout.
    With `keep` = 1 the network is that of plain training, bit by bit.
    """

    name = "sampled"

    keep: Share = 0.5  # of the images; at least one image
    score: Score = "entropy"
    method: str | dict[str, Any] = "input_x_gradient"  # whose maps are scored; or {name = "lrp", ...}
    highest: bool = True  # keep the highest scores, or the lowest
    scout_epochs: Count = 1

    def train(self, course: Course) -> nn.Module:
        """The scout's stage, unless chance decides, and the network's."""
        images = course.dataset.train
        chosen = kept(self._scores(course), self.keep, highest=self.highest)
        model = course.network()
        course.fit(model, images=images.subset(chosen))
        return model

    def _scores(self, course: Course) -> Tensor:
        images = course.dataset.train
        if self.score == "random":
            return torch.rand(len(images), generator=generator(course.recipe.seed), dtype=torch.float64)
        scout, labels = course.network(), images.labels.cpu()
        course.fit(scout, epochs=self.scout_epochs)
        if self.score == "loss":
            return cross_entropy(logits_of(scout, images).double(), labels, reduction="none")
        if self.score == "margin":
            return margins(logits_of(scout, images), labels)
        made = attributions(built_method(self.method), scout, images, labels)
        return torch.cat([map_scores(scout, each, self.score).cpu() for each in made])
