"""Whether a map foretells what happens when random subsets of the features are removed."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from xaicompare.core import Attribution, Metric, MetricTraits
from xaicompare.draws import sample_draws, sample_generators
from xaicompare.errors import InputError
from xaicompare.metrics._similarity import pearson
from xaicompare.metrics.fill import Fill, filled
from xaicompare.metrics.removal import Removal, at_target, importance_of, outputs_of, outputs_without
from xaicompare.registry import metric
from xaicompare.settings import BatchSize, Count, NonNegative, Seed, Share, Shares, frozen


@metric
@frozen
class FaithfulnessCorrelation(Metric):
    """Pearson's correlation of a subset's summed values with what its removal takes from the explained output.

    Subsets are random and of one size. Where either side never varies there is no correlation: 0.

    Source: Bhatt, Weller, Moura 2020, arXiv:2005.00631, definition 1.
    Differs: a pixel goes with all its channels; Quantus removes single values of channels.
    """

    name: ClassVar[str] = "faithfulness_correlation"
    traits: ClassVar[MetricTraits] = MetricTraits("subsets", -1, 1)
    higher_is_better = True

    share: Share = 0.1
    n_subsets: Count = 100
    fill: Fill = "mean"
    seed: Seed = 0
    batch_size: BatchSize = 128

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        return _correlations(model, attribution, (self.share,), self)[:, 0]


@metric
@frozen
class SensitivityN(Metric):
    """The same correlation, as a mean over subsets' sizes from 1 to 80 % of the features.

    For a linear model, input x gradient has exactly 1 with fill 0.

    Source: Ancona, Ceolini, Oeztireli, Gross 2018, arXiv:1711.06104, section 4.
    Differs: a mean over sizes in place of their curve. Quantus correlates over the images of a batch, removed in the
    order of their maps, and has no value for one image.
    """

    name: ClassVar[str] = "sensitivity_n"
    traits: ClassVar[MetricTraits] = MetricTraits("subsets", -1, 1)
    higher_is_better = True

    shares: Shares = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
    n_subsets: Count = 50
    fill: Fill = 0.0
    seed: Seed = 0
    batch_size: BatchSize = 128

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        return _correlations(model, attribution, self.shares, self).mean(1)


@metric
@frozen
class Infidelity(Metric):
    """Mean squared error of the map as a linear prediction of what perturbations I take from the explained output.

    E[(sum(I * values) - (f(x) - f(x - I)))^2]; I is Gaussian noise, or ("square") what separates a random square from
    the fill. Values are multiplied with the perturbation, so it is made for gradients; one channel stands for all. For
    a linear model the signed gradient has exactly 0. It hangs on the map's scale, so that a map of small values does
    better than the same map enlarged; it is no comparison of orders.

    Source: Yeh, Hsieh, Suggala, Inouye, Ravikumar 2019, arXiv:1901.09392, definition 2.1.
    Differs: every perturbation starts from the untouched image; Quantus covers it block by block, keeps what is
    covered, and takes the map's sum over channels for each of them.
    """

    name: ClassVar[str] = "infidelity"
    traits: ClassVar[MetricTraits] = MetricTraits("axioms", 0)
    higher_is_better = False

    perturbation: Literal["gaussian", "square"] = "gaussian"
    std: NonNegative = 0.1  # of the noise, in units of the inputs
    fill: Fill = 0.0
    n_samples: Count = 100
    seed: Seed = 0
    batch_size: BatchSize = 128

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        inputs, steps = attribution.inputs, self.n_samples
        if self.perturbation == "square" and inputs.ndim != 4:
            raise InputError(f"perturbation='square' on inputs {tuple(inputs.shape)}; expected images (n, c, h, w).")
        if self.perturbation == "gaussian":
            change = self.std * sample_draws(inputs, self.seed, torch.randn, steps)  # (n, steps, ...)
        else:
            squares = torch.stack([_squares(inputs, steps, g) for g in sample_generators(inputs, self.seed)])
            change = squares.to(inputs) * (inputs - filled(inputs, self.fill))[:, None]
        foretold = (change * attribution.values[:, None]).flatten(2).sum(2)

        def changed(image: Tensor, step: Tensor) -> Tensor:
            return inputs[image] - change[image, step]

        logits = outputs_of(model, inputs, changed, steps, batch_size=self.batch_size)
        lost = attribution.score[:, None] - at_target(logits, attribution.target)
        return (foretold - lost).square().mean(1)


def _correlations(
    model: nn.Module, attribution: Attribution, shares: tuple[float, ...], how: FaithfulnessCorrelation | SensitivityN
) -> Tensor:
    """(n, shares): Pearson's correlation over random subsets of each size."""
    values = importance_of(attribution)  # (n, positions)
    positions = values.shape[1]
    counts = [max(1, round(share * positions)) for share in shares]
    draws = sample_generators(attribution.inputs, how.seed)
    gone = torch.stack([_subsets(counts, how.n_subsets, positions, g) for g in draws]).to(values.device)
    # Sample by sample: as numbers, all subsets at once would take four times the memory.
    summed = torch.stack([subsets.to(row) @ row for subsets, row in zip(gone, values, strict=True)])
    removal = Removal(fill=how.fill, seed=how.seed, batch_size=how.batch_size)
    logits = outputs_without(model, attribution.inputs, lambda image, step: gone[image, step], gone.shape[1], removal)
    lost = attribution.score[:, None] - at_target(logits, attribution.target)
    sizes = (len(values), len(shares), how.n_subsets)
    return pearson(summed.double().view(sizes), lost.double().view(sizes))


def _subsets(counts: list[int], number: int, positions: int, draws: torch.Generator) -> Tensor:
    """Random subsets, `number` of each size in turn, (subsets, positions) bool."""
    drawn = torch.rand((len(counts), number, positions), generator=draws)
    gone = torch.zeros_like(drawn, dtype=torch.bool)
    for row, of_size, count in zip(gone, drawn, counts, strict=True):
        row.scatter_(1, of_size.topk(count, largest=False, sorted=False).indices, True)
    return gone.flatten(0, 1)


def _squares(inputs: Tensor, count: int, draws: torch.Generator) -> Tensor:
    """Random squares of up to the shorter side, (count, 1, h, w) bool."""
    height, width = inputs.shape[2:]
    side = torch.randint(1, min(height, width) + 1, (count,), generator=draws)
    top = (torch.rand(count, generator=draws) * (height - side + 1)).long()
    left = (torch.rand(count, generator=draws) * (width - side + 1)).long()
    rows, columns = torch.arange(height), torch.arange(width)
    down = (rows >= top[:, None]) & (rows < (top + side)[:, None])
    across = (columns >= left[:, None]) & (columns < (left + side)[:, None])
    return (down[:, :, None] & across[:, None, :])[:, None]
