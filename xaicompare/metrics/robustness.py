"""How much a map changes when the inputs change a little: the method explains perturbed images again."""

from abc import ABC
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from xaicompare.boundary import baseline_like
from xaicompare.core import Attribution, Metric, MetricTraits
from xaicompare.draws import sample_draws
from xaicompare.registry import metric
from xaicompare.settings import Array, Count, Positive, Seed, frozen

_TRAITS = MetricTraits("robustness", 0)


@dataclass(frozen=True, eq=False)
class _Changes:
    """What small perturbations did, for n samples and k draws."""

    inputs: Tensor  # (n, k) norm of the change of the inputs
    values: Tensor  # (n, k) norm of the change of the map
    size: Tensor  # (n,) norm of the map itself


class Robustness(Metric, ABC):
    """What these metrics have in common: uniform noise, the class that was explained, the method's own settings."""

    radius: float  # of the noise, in units of the inputs
    n_samples: int
    low: float | Array | None  # the bounds of inputs, a number or one per channel; a study fills in those of its data
    high: float | Array | None
    seed: int

    def _changes(self, model: nn.Module, attribution: Attribution) -> _Changes:
        inputs, k = attribution.inputs, self.n_samples
        noise = self.radius * (2 * sample_draws(inputs, self.seed, torch.rand, k) - 1)  # (n, k, ...)
        near = self._bounded(inputs[:, None] + noise)
        noise = near - inputs[:, None]
        near = near.flatten(0, 1)
        made = attribution.method.attribute(model, near, attribution.target.repeat_interleave(k), strict=False)
        change = made.values.unflatten(0, (len(inputs), k)) - attribution.values[:, None]
        return _Changes(
            noise.flatten(2).norm(dim=2), change.flatten(2).norm(dim=2), attribution.values.flatten(1).norm(dim=1)
        )

    def _bounded(self, near: Tensor) -> Tensor:
        """Within the bounds, where they are known: beyond them is no image, and rules for pixels refuse it."""
        bounds = (None if bound is None else baseline_like(bound, near[:, 0]) for bound in (self.low, self.high))
        for bound, limit in zip(bounds, (torch.maximum, torch.minimum), strict=True):
            near = near if bound is None else limit(near, bound)
        return near


@metric
@frozen
class MaxSensitivity(Robustness):
    """The largest relative change of the map under uniform noise of at most `radius` in every value.

    Source: Yeh, Hsieh, Suggala, Inouye, Ravikumar 2019, arXiv:1901.09392, definition 3.1.
    Differs: relative to the norm of the map, as in their experiments. A map of zeros that stays one has 0. Each channel
    of the map counts; through "quantus:MaxSensitivity" their sum does.
    """

    name: ClassVar[str] = "max_sensitivity"
    traits: ClassVar[MetricTraits] = _TRAITS
    higher_is_better = False

    radius: Positive = 0.1
    n_samples: Count = 10
    low: float | Array | None = None
    high: float | Array | None = None
    seed: Seed = 0

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        return _relative(self._changes(model, attribution)).amax(1)


@metric
@frozen
class AvgSensitivity(Robustness):
    """The mean relative change of the map under uniform noise of at most `radius` in every value.

    Source: Bhatt, Weller, Moura 2020, arXiv:2005.00631, definition 2 (average sensitivity).
    Differs: relative to the norm of the map. A map of zeros that stays one has 0.
    """

    name: ClassVar[str] = "avg_sensitivity"
    traits: ClassVar[MetricTraits] = _TRAITS
    higher_is_better = False

    radius: Positive = 0.1
    n_samples: Count = 10
    low: float | Array | None = None
    high: float | Array | None = None
    seed: Seed = 0

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        return _relative(self._changes(model, attribution)).mean(1)


@metric
@frozen
class LocalLipschitz(Robustness):
    """The largest ratio of the change of the map to that of the inputs, both Euclidean norms.

    Source: Alvarez-Melis and Jaakkola 2018, arXiv:1806.08049, eq. 2.
    Differs: over random neighbours, not the worst one; one that the bounds leave in place counts 0. Uniform noise, of
    the map as it is; Quantus draws Gaussian noise and normalises maps by their maximum.
    """

    name: ClassVar[str] = "local_lipschitz"
    traits: ClassVar[MetricTraits] = _TRAITS
    higher_is_better = False

    radius: Positive = 0.1
    n_samples: Count = 10
    low: float | Array | None = None
    high: float | Array | None = None
    seed: Seed = 0

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        changes = self._changes(model, attribution)
        moved = changes.inputs > 0
        return torch.where(moved, changes.values / torch.where(moved, changes.inputs, 1), 0).amax(1)


def _relative(changes: _Changes) -> Tensor:
    """Changes of the map in units of its norm, (n, k); as they are where it is 0."""
    size = changes.size[:, None]
    return changes.values / torch.where(size > 0, size, 1)
