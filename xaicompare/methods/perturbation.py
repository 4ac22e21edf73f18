"""Methods that only look at outputs: cover parts of the input and see what happens.

LIME and KernelSHAP are our own over one function, `_outputs_of_masks`: Captum's run one sample at a time with a Python
generator per perturbation, weight KernelSHAP's constraint instead of keeping it, and move the global random state.
"""

from typing import ClassVar

import captum.attr
import torch
from torch import Tensor, nn

from xaicompare.boundary import baseline_like, outputs, per_pass, picked
from xaicompare.core import Method, Traits, Values
from xaicompare.draws import generator
from xaicompare.errors import InputError, UnsupportedModelError
from xaicompare.methods._common import draws_per_pass
from xaicompare.methods._regression import (
    all_coalitions,
    sampled_coalitions,
    shapley_values,
    sparse_coefficients,
)
from xaicompare.progress import progress
from xaicompare.registry import method
from xaicompare.segments import Segmentation, segmented
from xaicompare.settings import Array, BatchSize, Count, NonNegative, Positive, Seed, frozen


@method
@frozen
class LIME(Method):
    """Coefficients of a sparse linear model of the output, fitted to copies with superpixels switched off at random.

    A switched-off superpixel shows the baseline. Perturbations are weighted by exp(-d^2 / kernel_width^2), d the cosine
    distance to the untouched sample. `alpha` is the Lasso penalty in units of the outputs' standard deviation. Every
    position of a superpixel gets its coefficient; values (n, 1, h, w).

    Raises:
        UnsupportedModelError: every coefficient is zero; the message says whether the output or the penalty is why.

    Source: Ribeiro, Singh, Guestrin 2016, arXiv:1602.04938, algorithm 1 and section 3.4.
    Differs: the penalty is relative, so that small outputs don't give an all-zero map; the Lasso itself is the model
    (the paper refits on K chosen features).
    """

    name: ClassVar[str] = "lime"
    traits: ClassVar[Traits] = Traits("surrogate", agnostic=True, baseline=True)

    n_samples: Count = 1000
    segments: Segmentation | Tensor = "auto"
    n_segments: Count = 50
    baseline: float | Array = 0.0
    kernel_width: Positive = 0.25
    alpha: NonNegative = 0.01
    seed: Seed = 0
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        baseline = baseline_like(self.baseline, inputs)[0]
        maps = []
        for sample, cls in progress(zip(inputs.detach(), target, strict=True), "LIME", total=len(inputs), unit="image"):
            segments = segmented(self.segments, self.n_segments, sample)
            count = int(segments.max()) + 1
            masks = torch.rand(self.n_samples, count, generator=generator(self.seed)) < 0.5  # (k, d)
            masks[0] = True
            seen = _outputs_of_masks(model, sample, baseline, segments, masks, cls, self.batch_size)
            distance = 1 - masks.double().mean(1).sqrt()
            weights = torch.exp(-((distance / self.kernel_width) ** 2))
            maps.append(sparse_coefficients(masks, seen, weights, self.alpha).to(inputs)[segments])
        return Values(_stacked(maps, inputs))


@method
@frozen
class KernelSHAP(Method):
    """Shapley values of superpixels, by weighted least squares over sampled coalitions; their sum is f(x) - f(x').

    All coalitions are taken where there are no more than `n_samples`, and the values are then exact. Else coalitions
    are drawn from the Shapley kernel, each with its complement (paired sampling). A superpixel's value is divided
    equally among its positions, so that the map has the same sum; values (n, 1, h, w).

    Source: Lundberg, Lee 2017, arXiv:1705.07874, theorem 2; paired sampling: Covert, Lee 2021, arXiv:2012.01536,
    section 4.2.
    """

    name: ClassVar[str] = "kernelshap"
    traits: ClassVar[Traits] = Traits("surrogate", agnostic=True, baseline=True, conserves=True)

    n_samples: Count = 1000
    segments: Segmentation | Tensor = "auto"
    n_segments: Count = 50
    baseline: float | Array = 0.0
    seed: Seed = 0
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        baseline = baseline_like(self.baseline, inputs)[0]
        maps, left_out = [], []
        steps = progress(zip(inputs.detach(), target, strict=True), "KernelSHAP", total=len(inputs), unit="image")
        for sample, cls in steps:
            segments = segmented(self.segments, self.n_segments, sample)
            count = int(segments.max()) + 1
            exact = 2**count - 2 <= self.n_samples
            masks, weights = (
                all_coalitions(count) if exact else sampled_coalitions(count, self.n_samples, generator(self.seed))
            )
            ends = torch.tensor([[False], [True]]).expand(2, count)
            seen = _outputs_of_masks(model, sample, baseline, segments, torch.cat([ends, masks]), cls, self.batch_size)
            values = shapley_values(masks, weights, seen[2:], seen[0], seen[1]).to(inputs)
            maps.append((values / segments.flatten().bincount().to(inputs))[segments])
            left_out.append(seen[0])
        return Values(_stacked(maps, inputs), left_out=torch.stack(left_out).to(inputs))


def _outputs_of_masks(
    model: nn.Module,
    sample: Tensor,
    baseline: Tensor,
    segments: Tensor,
    masks: Tensor,
    target: Tensor,
    batch_size: int,
) -> Tensor:
    """The explained output (k,), float64 on the CPU, with the sample where a mask (k, d) is true, else the baseline.

    Raises:
        UnsupportedModelError: the outputs don't move beyond rounding, so that any map would be noise.
    """
    seen = []
    for chunk in masks.to(sample.device).split(per_pass(batch_size, sample[None])):
        keep = chunk[:, segments].unsqueeze(1) if sample.ndim == 3 else chunk[:, segments]  # (k, 1, h, w)
        batch = torch.where(keep, sample, baseline)
        seen.append(picked(outputs(model, batch, batch_size), target.expand(len(batch))))
    found = torch.cat(seen).double().cpu()
    if float(found.max() - found.min()) <= 1e-6 * float(found.abs().max()):
        raise UnsupportedModelError(
            "the output is the same whatever is covered, so every value would be 0; expected an output that depends on "
            "the input. Choose a baseline that differs from the sample, or look at another target."
        )
    return found


def _stacked(maps: list[Tensor], inputs: Tensor) -> Tensor:
    """(h, w) maps -> (n, 1, h, w); (features,) -> (n, features)."""
    return torch.stack(maps)[:, None] if inputs.ndim == 4 else torch.stack(maps)


@method
@frozen
class Occlusion(Method):
    """How much the output drops when a square is covered by the baseline: the mean over the squares on a position.

    `window` is the side of the square, None an eighth of the shorter side; `stride` None is half the window. Values
    (n, 1, h, w); for vectors the window covers neighbouring features.

    Source: Zeiler, Fergus 2014, arXiv:1311.2901, section 4.1.
    """

    name: ClassVar[str] = "occlusion"
    traits: ClassVar[Traits] = Traits("perturbation", agnostic=True, baseline=True)

    window: Count | None = None
    stride: Count | None = None
    baseline: float | Array = 0.0
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        shorter = min(inputs.shape[2:] or inputs.shape[1:])
        window = max(1, shorter // 8) if self.window is None else self.window
        stride = max(1, window // 2) if self.stride is None else self.stride
        if window > shorter or stride > window:
            raise InputError(
                f"window={window}, stride={stride} on inputs {tuple(inputs.shape)}; "
                f"expected stride <= window <= {shorter}, so that every position is covered."
            )
        images = inputs.ndim == 4
        with torch.no_grad():
            values = captum.attr.Occlusion(model).attribute(
                inputs.detach(),
                sliding_window_shapes=(inputs.shape[1], window, window) if images else (window,),
                strides=(inputs.shape[1], stride, stride) if images else (stride,),
                baselines=baseline_like(self.baseline, inputs).expand_as(inputs),
                target=target,
                perturbations_per_eval=draws_per_pass(self.batch_size, inputs),
            )
        return Values((values[:, :1] if images else values).to(inputs))  # Captum returns float32
