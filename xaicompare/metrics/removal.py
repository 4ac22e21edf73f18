"""The removal engine: the model's outputs while features go, in the order of an attribution or at random.

All images and all steps run together in full batches; memory is bounded by the batch size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from xaicompare.boundary import class_scores, outputs, per_pass, predicted, probabilities
from xaicompare.core import Attribution, Curve
from xaicompare.draws import sample_generators
from xaicompare.errors import UnsupportedModelError
from xaicompare.metrics.confidence import Basis, confidence, signed_confidence
from xaicompare.metrics.fill import Fill, replacing
from xaicompare.segments import segmented

Order = Literal["most", "least", "random"]
"""Which features go first: the most important, the least important, or any."""

Features = Literal["pixel", "patch", "superpixel"]
"""What goes as a whole: a position, a square of a regular grid, or a superpixel of SLIC.

The importance of a patch or a superpixel is the mean over its positions.
"""

Sign = Literal["signed", "absolute"]
"""The importance of a position: the sum of its channels' values, in which evidence against the class is least
important; or the absolute value of that sum."""

Quantity = Literal["score", "probability", "confidence", "signed_confidence", "accuracy"]
"""What is read from the outputs: the explained output, its probability, (max - second max) / max of the
probabilities, the same with a minus once another class is predicted, or whether the explained class is predicted."""

BF16_BOUND = 0.02
"""How far bfloat16 may move any probability of the untouched images."""


@dataclass(frozen=True, eq=False)
class RemovalCurve(Curve):
    """The model's outputs while features are removed, for n samples and s shares."""

    shares: Tensor  # (s,) removed
    logits: Tensor  # (n, s, classes)
    target: Tensor  # (n,) the explained class
    order: Order = "most"
    quantity: Quantity = "confidence"
    basis: Basis = "probabilities"  # of the confidence

    @property
    def values(self) -> Tensor:
        """The quantity, (n, s)."""
        if self.quantity in ("confidence", "signed_confidence"):
            read = self.confidence if self.quantity == "confidence" else self.signed_confidence
            return read(self.basis)
        found: Tensor = getattr(self, self.quantity)
        return found

    @property
    def predicted(self) -> Tensor:
        """The predicted class, (n, s)."""
        return predicted(self.logits)

    @property
    def score(self) -> Tensor:
        """The explained output, (n, s)."""
        return at_target(self.logits, self.target)

    @property
    def probability(self) -> Tensor:
        """The probability of the explained class, (n, s)."""
        return at_target(probabilities(self.logits), self.target)

    @property
    def accuracy(self) -> Tensor:
        """1 where the explained class is predicted, else 0, (n, s)."""
        return (self.predicted == self.target[:, None]).to(self.logits)

    def confidence(self, of: Basis = "probabilities") -> Tensor:
        """(max - second max) / max, (n, s)."""
        return confidence(self.logits, of)

    def signed_confidence(self, of: Basis = "probabilities") -> Tensor:
        """The confidence, negative once another class than the explained one is predicted, (n, s)."""
        return signed_confidence(self.logits, self.target, of)

    def __repr__(self) -> str:
        n, s, classes = self.logits.shape
        reach = f"{self.shares.min():.3g} to {self.shares.max():.3g}"
        return f"RemovalCurve({n} samples, {s} shares from {reach}, {classes} classes)"


@dataclass(frozen=True, eq=False)
class GainCurve(Curve):
    """How far the curves of the least and of the most important first lie apart: 0 for an order without meaning."""

    most: RemovalCurve
    least: RemovalCurve

    @property
    def shares(self) -> Tensor:  # type: ignore[override]
        """The shares removed, (s,)."""
        return self.most.shares

    @property
    def values(self) -> Tensor:
        """Least first less most first, (n, s)."""
        return self.least.values - self.most.values


class Removal(NamedTuple):
    """How features go; the settings that all metrics of this family share."""

    features: Features = "pixel"
    n_features: int = 64
    sign: Sign = "signed"
    fill: Fill = "mean"
    seed: int = 0
    batch_size: int = 128
    bf16: bool = False


def removal_outputs(
    model: nn.Module, attribution: Attribution, order: Order, shares: tuple[float, ...], how: Removal
) -> Tensor:
    """Outputs (n, s, classes) with the first features of each share replaced."""
    inputs = attribution.inputs
    segments = segments_of(inputs, how.features, how.n_features)  # (n, positions)
    ranks, number = feature_ranks(attribution, order, how.seed, how.sign, segments)
    counts = torch.stack([(share * number).round() for share in shares], 1).to(ranks)  # (n, s)
    removed = lambda image, step: ranks[image] < counts[image, step, None]  # noqa: E731
    return outputs_without(model, inputs, removed, len(shares), how)


def outputs_without(
    model: nn.Module, inputs: Tensor, removed: Callable[[Tensor, Tensor], Tensor], steps: int, how: Removal
) -> Tensor:
    """Outputs (n, steps, classes); `removed` says of images (b,) at steps (b,) what is gone: (b, positions) bool."""
    replace = replacing(how.fill, inputs, how.seed)
    spatial = inputs.shape[2:] if inputs.ndim == 4 else inputs.shape[1:]

    def made(image: Tensor, step: Tensor) -> Tensor:
        return replace(image, removed(image, step).unflatten(1, spatial))

    return outputs_of(model, inputs, made, steps, batch_size=how.batch_size, bf16=how.bf16)


def outputs_of(
    model: nn.Module,
    inputs: Tensor,
    made: Callable[[Tensor, Tensor], Tensor],
    steps: int,
    *,
    batch_size: int,
    bf16: bool = False,
) -> Tensor:
    """Outputs (n, steps, classes) of what `made` makes of images (b,) at steps (b,), in full batches.

    Step by step, so that a batch holds holes of one size and imputation needs the same number of iterations for all.
    """
    if bf16:
        _check_bf16(model, inputs, batch_size)
    n = len(inputs)
    cells = torch.arange(n * steps, device=inputs.device)
    with torch.no_grad(), torch.autocast(inputs.device.type, torch.bfloat16, enabled=bf16):
        chunks = cells.split(per_pass(batch_size, inputs))
        seen = [outputs(model, made(chunk % n, chunk // n), batch_size) for chunk in chunks]
    return torch.cat(seen).to(inputs.dtype).unflatten(0, (steps, n)).transpose(0, 1)


def _check_bf16(model: nn.Module, inputs: Tensor, batch_size: int) -> None:
    """Untouched images in both precisions.

    Raises:
        UnsupportedModelError: a probability moves by more than `BF16_BOUND`.
    """
    exact = probabilities(outputs(model, inputs, batch_size))
    with torch.autocast(inputs.device.type, torch.bfloat16):
        moved = float((probabilities(outputs(model, inputs, batch_size).float()) - exact).abs().max())
    if moved > BF16_BOUND:
        raise UnsupportedModelError(
            f"bfloat16 moves a probability of the untouched images by {moved:.3f}; expected at most {BF16_BOUND}. "
            "Use bf16=False."
        )


def segments_of(inputs: Tensor, features: Features, n_features: int) -> Tensor | None:
    """The feature that each position belongs to, (n, positions); None where each is its own."""
    if features == "pixel" or inputs.ndim == 2:
        return None
    if features == "patch":
        return segmented("grid", n_features, inputs[0]).flatten().expand(len(inputs), -1)
    return torch.stack([segmented("slic", n_features, sample).flatten() for sample in inputs])


def every_feature(inputs: Tensor, features: Features, n_features: int) -> Tensor:
    """The same where each position is a feature of its own, too, (n, positions)."""
    found = segments_of(inputs, features, n_features)
    if found is not None:
        return found
    positions = (inputs[:, 0] if inputs.ndim == 4 else inputs).flatten(1).shape[1]
    return torch.arange(positions, device=inputs.device).expand(len(inputs), -1)


def importance_of(attribution: Attribution, sign: Sign = "signed") -> Tensor:
    """The importance of every position, (n, positions)."""
    signed = attribution.map.flatten(1)
    return signed.abs() if sign == "absolute" else signed


def feature_ranks(
    attribution: Attribution, order: Order, seed: int, sign: Sign = "signed", segments: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """When each position goes, (n, positions), and how many features there are, (n,).

    Positions of one feature share its rank: 0, 1, ... Ties are broken at random, by a seed and the sample itself, so
    that no corner of the image is favoured.
    """
    importance = importance_of(attribution, sign)
    if segments is None:
        everything = importance.new_full((len(importance),), importance.shape[1])
        return _ranks(importance, None, order, attribution.inputs, seed), everything
    means, present = feature_means(importance, segments)
    ranks = _ranks(means, present, order, attribution.inputs, seed)
    return ranks.gather(1, segments), present.sum(1).to(importance)


def feature_means(values: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of values (n, positions) over each feature, (n, f), and which features an image has, (n, f) bool."""
    sums = values.new_zeros(len(values), int(segments.max()) + 1)
    counts = sums.scatter_add(1, segments, torch.ones_like(values))
    return sums.scatter_add(1, segments, values) / counts.clamp_min(1), counts > 0


def _ranks(importance: Tensor, present: Tensor | None, order: Order, inputs: Tensor, seed: int) -> Tensor:
    """The rank of each feature, (n, f); those that an image does not have go last."""
    generators = sample_generators(inputs, seed)
    shuffled = torch.stack([torch.randperm(importance.shape[1], generator=draws) for draws in generators])
    shuffled = shuffled.to(importance.device)
    key = {"most": -importance, "least": importance, "random": torch.zeros_like(importance)}[order]
    if present is not None:
        key = key.masked_fill(~present, torch.inf)
    by_key = key.gather(1, shuffled).argsort(dim=1, stable=True)
    first = shuffled.gather(1, by_key)  # (n, f) the features as they go
    places = torch.arange(first.shape[1], device=first.device).expand_as(first)
    return torch.empty_like(first).scatter_(1, first, places)


def at_target(values: Tensor, target: Tensor) -> Tensor:
    """Scores or probabilities (n, s, classes) at target (n,): (n, s)."""
    return class_scores(values).gather(2, target[:, None, None].expand(-1, values.shape[1], 1)).squeeze(2)
