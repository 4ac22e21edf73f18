"""What happens to the prediction when features are removed in the order of an attribution."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from xaicompare.borrow import borrowed
from xaicompare.boundary import outputs, per_pass
from xaicompare.core import Attribution, Metric
from xaicompare.draws import sample_generators
from xaicompare.errors import InputError
from xaicompare.metrics.confidence import Basis, confidence, signed_confidence
from xaicompare.metrics.fill import Fill, filled
from xaicompare.registry import metric
from xaicompare.settings import BatchSize, Seed, Share, frozen

Order = Literal["most", "least", "random"]
"""Which features go first: the most important, the least important, or any."""


@dataclass(frozen=True, eq=False)
class RemovalCurve:
    """The model's outputs while features are removed, for n samples and s shares."""

    shares: Tensor  # (s,) removed
    logits: Tensor  # (n, s, classes)
    target: Tensor  # (n,) the explained class

    @property
    def predicted(self) -> Tensor:
        """The predicted class, (n, s)."""
        return self.logits.argmax(-1)

    @property
    def score(self) -> Tensor:
        """The explained output, (n, s)."""
        return self.logits.gather(2, self.target[:, None, None].expand(-1, len(self.shares), 1)).squeeze(2)

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


@metric
@frozen
class ConfidenceRemoval(Metric):
    """The confidence, (max - second max) / max, once a share of the positions is removed in the order of the map.

    A position's importance is the signed sum of its channels' values: evidence against the class is least important.
    Equal values are removed in random order. Where the most important go first, a low confidence speaks for the map;
    where the least important do, a high one. `curve` gives all of `shares` at once.

    Source: Samek, Binder, Montavon, Lapuschkin, Mueller 2017, arXiv:1509.06321, section III (region perturbation).
    Differs: the confidence is recorded beside the explained output, and single positions are removed.
    """

    name: ClassVar[str] = "confidence_removal"

    order: Order = "most"
    share: Share = 0.2
    shares: tuple[Share, ...] = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
    fill: Fill = "mean"
    of: Basis = "probabilities"
    seed: Seed = 0
    batch_size: BatchSize = 128

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Whether a high value speaks for the map: only where the least important positions go first."""
        return self.order == "least"

    def __call__(self, model: nn.Module, attribution: Attribution) -> Tensor:
        """The confidence with `share` of the positions removed, (n,)."""
        return self._removed(model, attribution, (self.share,)).confidence(self.of)[:, 0]

    def curve(self, model: nn.Module, attribution: Attribution) -> RemovalCurve:
        """The model's outputs at each of `shares`."""
        return self._removed(model, attribution, self.shares)

    def _removed(self, model: nn.Module, attribution: Attribution, shares: tuple[float, ...]) -> RemovalCurve:
        ranks = removal_ranks(attribution, self.order, self.seed)
        with borrowed(model), torch.no_grad():
            logits = _outputs_without(model, attribution.inputs, ranks, shares, self.fill, self.batch_size)
        return RemovalCurve(torch.tensor(shares), logits, attribution.target)


def removal_ranks(attribution: Attribution, order: Order, seed: int) -> Tensor:
    """When each position goes: (n, positions), a permutation of 0, 1, ... in every row.

    Ties are broken at random, by a seed and the sample itself, so that no corner of the image is favoured.
    """
    importance = attribution.map.flatten(1)  # (n, positions)
    if not bool(torch.isfinite(importance).all()):
        raise InputError("the attribution holds NaN or inf; expected finite values.")
    generators = sample_generators(attribution.inputs, seed)
    shuffled = torch.stack([torch.randperm(importance.shape[1], generator=draws) for draws in generators])
    shuffled = shuffled.to(importance.device)
    if order == "random":
        return shuffled.argsort(1)
    by_value = importance.gather(1, shuffled).argsort(dim=1, descending=order == "most", stable=True)
    return shuffled.gather(1, by_value).argsort(1)


def _outputs_without(
    model: nn.Module, inputs: Tensor, ranks: Tensor, shares: tuple[float, ...], fill: Fill, batch_size: int
) -> Tensor:
    """Outputs (n, s, classes) with the first positions of each share replaced; all images x shares in full batches."""
    replacement = filled(inputs, fill).expand_as(inputs)
    counts = torch.tensor([round(share * ranks.shape[1]) for share in shares], device=inputs.device)
    cells = torch.cartesian_prod(torch.arange(len(inputs)), torch.arange(len(shares))).to(inputs.device)
    seen = []
    for image, share in (chunk.unbind(1) for chunk in cells.split(per_pass(batch_size, inputs))):
        gone = ranks[image] < counts[share, None]  # (b, positions)
        gone = gone.view(len(image), *([1] if inputs.ndim == 4 else []), *(inputs.shape[2:] or inputs.shape[1:]))
        batch = torch.where(gone, replacement[image], inputs[image])
        seen.append(outputs(model, batch, batch_size))
    return torch.cat(seen).unflatten(0, (len(inputs), len(shares)))
