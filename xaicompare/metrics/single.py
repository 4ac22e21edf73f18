"""Metrics that ask for one removal: of each feature by itself, one more each time, or of what the map leaves dark."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from xaicompare.boundary import outputs, picked, probabilities
from xaicompare.core import Attribution, Metric, MetricTraits
from xaicompare.metrics._similarity import spearman
from xaicompare.metrics.fill import Blank, Fill, filled
from xaicompare.metrics.removal import (
    Features,
    Removal,
    Sign,
    at_target,
    every_feature,
    feature_means,
    importance_of,
    outputs_without,
    removal_outputs,
)
from xaicompare.registry import metric
from xaicompare.settings import BatchSize, Count, Seed, frozen

_FALL = 1e-6  # of a probability, below which rounding may have made it


@metric
@frozen
class Monotonicity(Metric):
    """Whether more important features matter more to the explained output.

    - `kind` "correlation": Spearman's correlation of the features' importance with what the output loses when each is
      replaced by itself, from -1 to 1; of their absolute values where `sign` is "absolute". 0 for a constant map.
    - "steps": features come back one by one into a fully replaced image, the least important first; the share of steps
      at which the class's probability does not fall. "all": 1 where it never falls, else 0. On a model in which every
      feature helps, every order has 1.

    Source: Nguyen and Martinez 2020, arXiv:2007.07584, monotonicity ("correlation"); Arya et al. 2019,
    arXiv:1909.03012, monotonicity metric ("all").
    Differs: patches rather than pixels; one replacement by `fill`, where Nguyen and Martinez (and Quantus's
    MonotonicityCorrelation) take the mean squared change over many; the default keeps signs. Quantus's Monotonicity
    is "all".
    """

    name: ClassVar[str] = "monotonicity"
    traits: ClassVar[MetricTraits] = MetricTraits("removal", -1, 1)
    higher_is_better = True

    kind: Literal["correlation", "steps", "all"] = "correlation"
    features: Features = "patch"
    n_features: Count = 64
    sign: Sign = "signed"
    fill: Fill = "mean"
    seed: Seed = 0
    batch_size: BatchSize = 128

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        segments = every_feature(attribution.inputs, self.features, self.n_features)  # (n, positions)
        how = Removal(self.features, self.n_features, self.sign, self.fill, self.seed, self.batch_size)
        if self.kind == "correlation":
            return self._correlation(model, attribution, segments, how)
        count = int(segments.max()) + 1
        shares = tuple(1 - step / count for step in range(count + 1))  # removed, most important first
        logits = removal_outputs(model, attribution, "most", shares, how)
        rises = at_target(probabilities(logits), attribution.target).diff(dim=1) >= -_FALL
        # An image of fewer features than others has fewer steps.
        present = feature_means(importance_of(attribution), segments)[1].sum(1)
        left = torch.stack([(share * present).round() for share in shares], 1)
        steps = left.diff(dim=1) != 0
        return ((rises | ~steps).all(1) if self.kind == "all" else (rises & steps).sum(1) / steps.sum(1)).to(
            attribution.values
        )

    def _correlation(self, model: nn.Module, attribution: Attribution, segments: Tensor, how: Removal) -> Tensor:
        count, inputs = int(segments.max()) + 1, attribution.inputs
        alone = lambda image, step: segments[image] == step[:, None]  # noqa: E731
        logits = outputs_without(model, inputs, alone, count, how)
        lost = attribution.score[:, None] - at_target(logits, attribution.target)  # (n, f)
        lost = lost.abs() if self.sign == "absolute" else lost
        importance, present = feature_means(importance_of(attribution, self.sign), segments)
        pairs = zip(importance.double(), lost.double(), present, strict=True)
        return torch.cat([spearman(a[here][None], b[here][None]) for a, b, here in pairs]).to(inputs)


class _Lit(Metric, ABC):
    """Metrics of the image through its map: multiplied with the map's positive part, whose greatest value is 1.

    Where no value is positive, nothing is left of the image.
    """

    fill: Blank
    seed: int
    batch_size: int

    @final
    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        inputs = attribution.inputs
        positive = importance_of(attribution).clamp(min=0)
        greatest = positive.amax(1, keepdim=True)
        light = (positive / torch.where(greatest > 0, greatest, 1)).view_as(attribution.map)
        light = light[:, None] if inputs.ndim == 4 else light
        dark = filled(inputs, self.fill, self.seed)
        before, after = (
            self._chance(model, each, attribution.target) for each in (inputs, dark + light * (inputs - dark))
        )
        return self._compared(before, after)

    def _chance(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
        return picked(probabilities(outputs(model, inputs, self.batch_size)), target)

    @abstractmethod
    def _compared(self, before: Tensor, after: Tensor) -> Tensor:
        """The value, of the class's probability (n,) for the image and through the map."""


@metric
@frozen
class AverageDrop(_Lit):
    """The share of the class's probability that is lost when the image is multiplied with its map; 0 for a gain.

    The map is its positive part, divided by its greatest value; where nothing is positive, nothing is left of the
    image. The mean over images is the paper's figure.

    Source: Chattopadhyay, Sarkar, Howlader, Balasubramanian 2018, arXiv:1710.11063, average drop.
    Differs: a share, not per cent. What the map leaves dark goes to `fill`: the default, 0, is the product with
    the inputs as the model gets them, which is black only where 0 is.
    """

    name: ClassVar[str] = "average_drop"
    traits: ClassVar[MetricTraits] = MetricTraits("masking", 0, 1)
    higher_is_better = False

    fill: Blank = 0.0
    seed: Seed = 0
    batch_size: BatchSize = 128

    def _compared(self, before: Tensor, after: Tensor) -> Tensor:
        # A class without any chance to begin with can't lose it.
        return (before - after).clamp(min=0) / torch.where(before > 0, before, 1)


@metric
@frozen
class AverageIncrease(_Lit):
    """1 where the class's probability rises when the image is multiplied with its map, else 0.

    The map and what it leaves dark are as in `average_drop`; a map that keeps all of the image has 0.

    Source: Chattopadhyay, Sarkar, Howlader, Balasubramanian 2018, arXiv:1710.11063, increase in
    confidence.
    Differs: a share, not per cent; `fill` as in `average_drop`.
    """

    name: ClassVar[str] = "average_increase"
    traits: ClassVar[MetricTraits] = MetricTraits("masking", 0, 1)
    higher_is_better = True

    fill: Blank = 0.0
    seed: Seed = 0
    batch_size: BatchSize = 128

    def _compared(self, before: Tensor, after: Tensor) -> Tensor:
        return (after > before + _FALL).to(before)
