"""Metrics that remove features in the order of a map and look at the curve.

A metric declares the settings of `Removal` that make sense for it; what it does not declare has its default there.
"""

from abc import ABC
from dataclasses import replace
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from xaicompare.core import Attribution, Curve, CurveMetric, MetricTraits
from xaicompare.metrics.confidence import Basis
from xaicompare.metrics.fill import Fill
from xaicompare.metrics.removal import (
    Features,
    GainCurve,
    Order,
    Quantity,
    Removal,
    RemovalCurve,
    Sign,
    removal_outputs,
)
from xaicompare.registry import metric
from xaicompare.settings import BatchSize, Count, Seed, Share, Shares, frozen

_TWENTIETHS = tuple(step / 20 for step in range(21))
_TENTHS = tuple(step / 10 for step in range(1, 10))


class RemovalMetric(CurveMetric, ABC):
    """What the metrics of this file have in common: how features go."""

    shares: tuple[float, ...]  # every leaf declares them as a field

    def _removed(
        self,
        model: nn.Module,
        attribution: Attribution,
        order: Order,
        *,
        quantity: Quantity = "probability",
        basis: Basis = "probabilities",
        shares: tuple[float, ...] | None = None,
    ) -> RemovalCurve:
        """The engine's record with this metric's settings."""
        wanted = self.shares if shares is None else shares
        how = Removal(**{name: getattr(self, name) for name in Removal._fields if hasattr(self, name)})
        logits = removal_outputs(model, attribution, order, wanted, how)
        return RemovalCurve(torch.tensor(wanted), logits, attribution.target, order, quantity, basis)

    def _untouched_and_removed(
        self, model: nn.Module, attribution: Attribution, order: Order, quantity: Quantity = "probability"
    ) -> tuple[Tensor, RemovalCurve]:
        """The quantity (n,) of the untouched images, and the record, in one run of the engine."""
        first = () if self.shares[0] == 0 else (0.0,)
        whole = self._removed(model, attribution, order, quantity=quantity, shares=(*first, *self.shares))
        asked = replace(whole, shares=whole.shares[len(first) :], logits=whole.logits[:, len(first) :])
        return whole.values[:, 0], asked


class UnderCurve(RemovalMetric, ABC):
    """Metrics whose value is the area under their curve."""

    @final
    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        return self._curve(model, attribution).area()


@metric
@frozen
class ConfidenceRemoval(RemovalMetric):
    """The confidence, (max - second max) / max, once a share of the features is removed in the order of the map.

    Equal values are removed in random order. Where the most important go first, a low confidence speaks for the map;
    where the least important do, a high one. `curve` gives all of `shares` at once.

    Source: Samek, Binder, Montavon, Lapuschkin, Mueller 2017, arXiv:1509.06321, section III (region perturbation).
    Differs: the confidence is recorded beside the explained output, and single positions are removed.
    """

    name: ClassVar[str] = "confidence_removal"
    traits: ClassVar[MetricTraits] = MetricTraits("removal", 0, 1)

    order: Order = "most"
    share: Share = 0.2
    shares: tuple[Share, ...] = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
    features: Features = "pixel"
    n_features: Count = 64
    sign: Sign = "signed"
    fill: Fill = "mean"
    of: Basis = "probabilities"
    seed: Seed = 0
    batch_size: BatchSize = 128
    bf16: bool = False

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Whether a high value speaks for the map: only where the least important features go first."""
        return self.order == "least"

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        return self._removed(model, attribution, self.order, basis=self.of, shares=(self.share,)).confidence(self.of)[
            :, 0
        ]

    def _curve(self, model: nn.Module, attribution: Attribution) -> RemovalCurve:
        return self._removed(model, attribution, self.order, quantity="confidence", basis=self.of)


@metric
@frozen
class Deletion(UnderCurve):
    """Area under the softmax probability of the explained class while the most important features are deleted.

    Source: Petsiuk, Das, Saenko 2018, arXiv:1806.07421, section 4.2 and algorithm 1.
    Differs: in twenty steps rather than one for each row of pixels; `shares` takes any.
    """

    name: ClassVar[str] = "deletion"
    traits: ClassVar[MetricTraits] = MetricTraits("removal", 0, 1)
    higher_is_better = False

    shares: Shares = _TWENTIETHS
    features: Features = "pixel"
    n_features: Count = 64
    sign: Sign = "signed"
    fill: Fill = 0.0
    seed: Seed = 0
    batch_size: BatchSize = 128
    bf16: bool = False

    def _curve(self, model: nn.Module, attribution: Attribution) -> Curve:
        return self._removed(model, attribution, "most")


@metric
@frozen
class Insertion(UnderCurve):
    """Area under the softmax probability of the explained class while a blurred image gets its features back.

    The most important come first. That is the removal of the least important first, backwards: `shares` and the curve
    count what is still missing.

    Source: Petsiuk, Das, Saenko 2018, arXiv:1806.07421, section 4.2.
    Differs: the blur is a Gaussian of a sixteenth of the shorter side, not 5 pixels, so that small images lose theirs.
    """

    name: ClassVar[str] = "insertion"
    traits: ClassVar[MetricTraits] = MetricTraits("removal", 0, 1)
    higher_is_better = True

    shares: Shares = _TWENTIETHS
    features: Features = "pixel"
    n_features: Count = 64
    sign: Sign = "signed"
    fill: Fill = "blur"
    seed: Seed = 0
    batch_size: BatchSize = 128
    bf16: bool = False

    def _curve(self, model: nn.Module, attribution: Attribution) -> Curve:
        return self._removed(model, attribution, "least")


class TwoSided(RemovalMetric, ABC):
    """Metrics whose `order` says which end of the map goes first: "most", "least", or the "gain" of one over the other.

    The gain is the curve of the least important first less that of the most important first.
    """

    order: Literal["most", "least", "gain"]
    of: Quantity

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Whether a high value speaks for the map: not where the most important features go first."""
        return self.order != "most"

    def _curve(self, model: nn.Module, attribution: Attribution) -> Curve:
        if self.order != "gain":
            return self._removed(model, attribution, self.order, quantity=self.of)
        most = self._removed(model, attribution, "most", quantity=self.of)
        return GainCurve(most, self._removed(model, attribution, "least", quantity=self.of))


@metric
@frozen
class PixelFlipping(TwoSided, UnderCurve):
    """Area between the curves of a quantity with the least and with the most important features removed first.

    `order` "most" (MoRF) and "least" (LeRF) give the area under one of the curves.

    Source: Bach, Binder, Montavon, Klauschen, Mueller, Samek 2015, doi:10.1371/journal.pone.0130140, section
    "Pixel-flipping"; the symmetric gain: Bluecher, Vielhaben, Strodthoff 2024, arXiv:2401.06654, eq. 5.
    Differs: features are replaced by a value, not flipped in sign; area rather than the curve itself. A pixel goes with
    all its channels; Quantus removes their values one by one, and leaves the untouched image out of the curve.
    """

    name: ClassVar[str] = "pixel_flipping"
    traits: ClassVar[MetricTraits] = MetricTraits("removal")

    order: Literal["most", "least", "gain"] = "gain"
    shares: Shares = _TWENTIETHS
    features: Features = "pixel"
    n_features: Count = 64
    sign: Sign = "signed"
    fill: Fill = "mean"
    of: Quantity = "probability"
    seed: Seed = 0
    batch_size: BatchSize = 128
    bf16: bool = False


@metric
@frozen
class ROAD(TwoSided):
    """Mean over shares of a quantity once so many features are removed, by noisy linear imputation.

    What is removed can't be seen from the shape of the hole. `of` "accuracy" with one `order` is the measure of the
    paper, averaged over shares; half the default gain is what pytorch-grad-cam calls ROADCombined.

    Source: Rong, Leemann, Borisov, Kasneci, Kasneci 2022, arXiv:2202.00449, sections 4 and 5.
    Differs: the noise is 1 % of the standard deviation of the image's channel, whatever the range of the inputs.
    Quantus 0.6 fails on colour images.
    """

    name: ClassVar[str] = "road"
    traits: ClassVar[MetricTraits] = MetricTraits("removal")

    order: Literal["most", "least", "gain"] = "gain"
    shares: Shares = _TENTHS
    features: Features = "pixel"
    n_features: Count = 64
    sign: Sign = "signed"
    fill: Fill = "linear"
    of: Quantity = "probability"
    seed: Seed = 0
    batch_size: BatchSize = 128
    bf16: bool = False

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        return self._curve(model, attribution).mean()


@metric
@frozen
class AOPC(RemovalMetric):
    """Area over the perturbation curve: how far the explained output has fallen, in the mean over all steps.

    Patches go in the order of their importance, most important first, and are replaced by noise; the first step is the
    untouched image.

    Source: Samek, Binder, Montavon, Lapuschkin, Mueller 2017, arXiv:1509.06321, eq. 12.
    Differs: `n_features` patches that cover the image, not 100 squares of 9 x 9 pixels chosen one after another.
    """

    name: ClassVar[str] = "aopc"
    traits: ClassVar[MetricTraits] = MetricTraits("removal")
    higher_is_better = True

    shares: Shares = _TWENTIETHS[:11]
    features: Features = "patch"
    n_features: Count = 64
    sign: Sign = "signed"
    fill: Fill = "noise"
    of: Quantity = "score"
    seed: Seed = 0
    batch_size: BatchSize = 128
    bf16: bool = False

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        before, curve = self._untouched_and_removed(model, attribution, "most", self.of)
        return before - curve.mean()

    def _curve(self, model: nn.Module, attribution: Attribution) -> Curve:
        return self._removed(model, attribution, "most", quantity=self.of)


@metric
@frozen
class Selectivity(UnderCurve):
    """Area under the explained output while patches are removed, most important first.

    Source: Montavon, Samek, Mueller 2018, arXiv:1706.07979, section 6.2.
    Differs: over shares from 0 to 1, so that the area is a mean; Quantus gives the curve only.
    """

    name: ClassVar[str] = "selectivity"
    traits: ClassVar[MetricTraits] = MetricTraits("removal")
    higher_is_better = False

    shares: Shares = _TWENTIETHS
    features: Features = "patch"
    n_features: Count = 64
    sign: Sign = "signed"
    fill: Fill = 0.0
    of: Quantity = "score"
    seed: Seed = 0
    batch_size: BatchSize = 128
    bf16: bool = False

    def _curve(self, model: nn.Module, attribution: Attribution) -> Curve:
        return self._removed(model, attribution, "most", quantity=self.of)


@metric
@frozen
class IROF(RemovalMetric):
    """Iterative removal of features: area over the curve of the class's probability, relative to the untouched image.

    Superpixels go, most important first by their mean value, and the image's mean takes their place.

    Source: Rieger, Hansen 2020, arXiv:2003.08747, eq. 1.
    Differs: over shares of the superpixels, so that images of any number of them compare. Quantus 0.6 fails on colour
    images, and with numpy from 2.4 on.
    """

    name: ClassVar[str] = "irof"
    traits: ClassVar[MetricTraits] = MetricTraits("removal", high=1)
    higher_is_better = True

    shares: Shares = _TWENTIETHS
    features: Features = "superpixel"
    n_features: Count = 64
    sign: Sign = "signed"
    fill: Fill = "mean"
    seed: Seed = 0
    batch_size: BatchSize = 128
    bf16: bool = False

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        before, curve = self._untouched_and_removed(model, attribution, "most")
        # A class that the model gives no chance to begin with can't lose any.
        share_kept = curve.area() / before.clamp_min(torch.finfo(before.dtype).tiny)
        return torch.where(before > 0, 1 - share_kept, 0)

    def _curve(self, model: nn.Module, attribution: Attribution) -> Curve:
        return self._removed(model, attribution, "most")


@metric
@frozen
class Sufficiency(RemovalMetric):
    """How much of the class's probability is lost when only the most important features are kept, in the mean.

    `shares` are those removed, least important first: of the default, 1, 5, 10, 20 and 50 % are kept.

    Source: DeYoung, Jain, Rajani, Lehman, Xiong, Socher, Wallace 2020, arXiv:1911.03429, eqs 2 and 3.
    Differs: pixels rather than words. Quantus's Sufficiency is another thing, a likeness between images of one batch
    (Dasgupta et al. 2022), which changes with the batch.
    """

    name: ClassVar[str] = "sufficiency"
    traits: ClassVar[MetricTraits] = MetricTraits("removal", -1, 1)
    higher_is_better = False

    shares: Shares = (0.5, 0.8, 0.9, 0.95, 0.99)
    features: Features = "pixel"
    n_features: Count = 64
    sign: Sign = "signed"
    fill: Fill = "mean"
    seed: Seed = 0
    batch_size: BatchSize = 128
    bf16: bool = False

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        before, curve = self._untouched_and_removed(model, attribution, "least")
        return before - curve.mean()

    def _curve(self, model: nn.Module, attribution: Attribution) -> Curve:
        return self._removed(model, attribution, "least")
