"""Whether a map has properties that its values were promised to have."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from xaicompare.boundary import outputs, picked
from xaicompare.core import Attribution, Metric, MetricTraits
from xaicompare.metrics._shift import moved_method, twin
from xaicompare.metrics.fill import Blank, filled, uniform_noise
from xaicompare.metrics.removal import Features, at_target, every_feature, feature_means, importance_of, outputs_of
from xaicompare.registry import metric
from xaicompare.settings import BatchSize, Count, Finite, NonNegative, Seed, frozen


@metric
@frozen
class Completeness(Metric):
    """How far the values' sum is from what separates the output from that of a baseline: |sum - (f(x) - f(x'))|.

    As a share of the larger of |sum| and |f(x) - f(x')|, so 1 where the values are all 0 and up to 2 where the sum has
    the wrong sign. Every method is held against the same `baseline`, whatever it promises of itself;
    `Attribution.incompleteness` holds it against its own promise.

    Source: Sundararajan, Taly, Yan 2017, arXiv:1703.01365, section 3 (completeness).
    Differs: relative, so that outputs of any scale compare.
    """

    name: ClassVar[str] = "completeness"
    traits: ClassVar[MetricTraits] = MetricTraits("axioms", 0, 2)
    higher_is_better = False

    baseline: Blank = 0.0
    seed: Seed = 0
    batch_size: BatchSize = 128

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        inputs = attribution.inputs
        baseline = filled(inputs, self.baseline, self.seed).expand_as(inputs)
        left = picked(outputs(model, baseline, self.batch_size), attribution.target)
        difference = (attribution.score - left).double()
        total = attribution.values.flatten(1).double().sum(1)
        scale = torch.maximum(total.abs(), difference.abs())
        return (total - difference).abs() / torch.where(scale > 0, scale, 1)


@metric
@frozen
class NonSensitivity(Metric):
    """The share of features to which the map gives nothing though the model reacts to them, or the other way round.

    A feature's value is the mean of |values| over its positions, the model's reaction the mean |change| of the
    explained output over `n_samples` replacements by noise, uniform between the least and the greatest value of the
    image's channel. Each counts as nothing up to its threshold times the largest of the image.

    Source: Nguyen and Martinez 2020, arXiv:2007.07584, non-sensitivity.
    Differs: patches rather than pixels, thresholds relative to each map and image, a share rather than a number, so
    that images of any size compare. Quantus takes the variance of the output and absolute thresholds.
    """

    name: ClassVar[str] = "non_sensitivity"
    traits: ClassVar[MetricTraits] = MetricTraits("axioms", 0, 1)
    higher_is_better = False

    features: Features = "patch"
    n_features: Count = 64
    map_threshold: NonNegative = 0.01
    output_threshold: NonNegative = 0.01
    n_samples: Count = 4
    seed: Seed = 0
    batch_size: BatchSize = 128

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        segments = every_feature(attribution.inputs, self.features, self.n_features)  # (n, positions)
        values, present = feature_means(importance_of(attribution, "absolute"), segments)  # (n, f)
        silent = values <= self.map_threshold * values.amax(1, keepdim=True)
        reactions = self._reactions(model, attribution, segments)
        indifferent = reactions <= self.output_threshold * reactions.amax(1, keepdim=True)
        wrong = ((silent != indifferent) & present).sum(1)
        return wrong / present.sum(1).to(attribution.values)

    def _reactions(self, model: nn.Module, attribution: Attribution, segments: Tensor) -> Tensor:
        """The mean absolute change of the explained output when one feature is replaced, (n, f)."""
        inputs, k = attribution.inputs, self.n_samples
        spatial = inputs.shape[2:] if inputs.ndim == 4 else inputs.shape[1:]
        noise = uniform_noise(inputs, self.seed, k)  # (n, k, ...)

        def replaced(image: Tensor, step: Tensor) -> Tensor:
            gone = (segments[image] == (step // k)[:, None]).unflatten(1, spatial)
            return torch.where(gone[:, None] if inputs.ndim == 4 else gone, noise[image, step % k], inputs[image])

        count = int(segments.max()) + 1
        logits = outputs_of(model, inputs, replaced, count * k, batch_size=self.batch_size)
        changes = (at_target(logits, attribution.target) - attribution.score[:, None]).abs()
        return changes.unflatten(1, (count, k)).mean(2)


@metric
@frozen
class InputInvariance(Metric):
    """The relative change of the map when the inputs move by a constant and the model takes it back: 0 if none.

    The model's first layers get another bias (and another value to pad with), so that it gives the same outputs for
    the moved inputs. Methods that compare with a fixed baseline, or that multiply with the inputs, change their maps.
    Bounds of pixels (`low` and `high` of LRP) move with the inputs, as they say what inputs there are.

    LRP's rules see that what is padded with has values now, along the border of the image.

    Where the first layers do not read the inputs as they are, the shift is subtracted before the model, which
    gradients do not notice; rules that share relevance between the inputs and that shift would, so methods that
    propagate are refused.

    Source: Kindermans, Hooker, Adebayo, Alber, Schuett, Daehne, Erhan, Kim 2019, arXiv:1711.00867, input invariance.
    Differs: a number in place of pictures. A map of zeros that stays one has 0.

    Raises:
        UnsupportedModelError: no such model is found for the method, or rounding changes the outputs.
    """

    name: ClassVar[str] = "input_invariance"
    traits: ClassVar[MetricTraits] = MetricTraits("axioms", 0)
    higher_is_better = False

    shift: Finite = 1.0  # in units of the inputs

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        method, inputs = attribution.method, attribution.inputs
        made = twin(model, inputs, self.shift, method)
        again = moved_method(method, self.shift).attribute(made, inputs + self.shift, attribution.target, strict=False)
        change = (again.values - attribution.values).flatten(1).norm(dim=1)
        size = attribution.values.flatten(1).norm(dim=1)
        return change / torch.where(size > 0, size, 1)
