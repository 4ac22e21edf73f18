"""Methods that explain the difference from reference inputs."""

from typing import Any, ClassVar, Literal

import captum.attr
import torch
from torch import Tensor, nn

from xaicompare.borrow import borrowed, watched
from xaicompare.boundary import baseline_like, outputs, picked
from xaicompare.core import Method, Traits, Values
from xaicompare.diagnosis import suited
from xaicompare.draws import generator
from xaicompare.errors import InputError, UnsupportedModelError
from xaicompare.methods._common import (
    draws_per_pass,
    gradient,
    quiet_captum,
    repeated,
    sample_range,
    summed_draws,
)
from xaicompare.methods._max_pool import MAX_POOLS, max_pool_shares
from xaicompare.methods._rescale import rescaled
from xaicompare.methods._reveal_cancel import reveal_cancel
from xaicompare.registry import method
from xaicompare.settings import Array, BatchSize, Count, Seed, frozen


@method
@frozen
class DeepLIFT(Method):
    """Shares of the difference f(x) - f(x') by the linear rule and one for non-linearities; complete.

    `rule` "rescale" gives a non-linearity one multiplier; "reveal-cancel" follows what raises and what lowers a neuron
    apart, so that influences that cancel each other are seen (the minimum of two inputs credits both). Rises and falls
    grow from layer to layer: in deep networks their difference loses its digits, and the residual says so.

    Source: Shrikumar, Greenside, Kundaje 2017, arXiv:1704.02685, equations 6 to 13 and section 3.5.3.
    Differs: products of two activations share their difference as dx (y + y') / 2 + dy (x + x') / 2; division, softmax
    and the normalisations are taken apart into these and functions of one number, each complete. From Captum where
    max-pooling touches ReLU, where Captum loses one of the rules (`_DeepLift` says how).
    """

    name: ClassVar[str] = "deeplift"
    traits: ClassVar[Traits] = Traits("propagation", baseline=True, neuron_relevance=True, conserves=True)

    rule: Literal["rescale", "reveal-cancel"] = "rescale"
    baseline: float | Array = 0.0
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        baseline = baseline_like(self.baseline, inputs).expand_as(inputs).contiguous()
        if self.rule == "reveal-cancel":
            values, logits = reveal_cancel(model, inputs, baseline, target)
            return Values(values, left_out=picked(logits, target))
        values, at_baseline = _deeplift(model, inputs, baseline, target)
        return Values(values, left_out=at_baseline)


@method
@frozen
class DeepSHAP(Method):
    """DeepLIFT averaged over many baselines; complete against the mean output of the baselines.

    `baselines` (m, c, h, w) are best drawn from the training data. None draws `n_baselines` noise images, uniform
    within each sample's own range.

    Source: Lundberg, Lee 2017, arXiv:1705.07874, section 4.2.
    """

    name: ClassVar[str] = "deepshap"
    traits: ClassVar[Traits] = Traits("propagation", baseline=True, neuron_relevance=True, conserves=True)

    baselines: Array | None = None
    n_baselines: Count = 16
    seed: Seed = 0
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        references = _references(self.baselines, self.n_baselines, self.seed, inputs)  # (m, n, c, h, w)
        values, left_out = torch.zeros_like(inputs), torch.zeros_like(target, dtype=inputs.dtype)
        for some in references.split(draws_per_pass(self.batch_size, inputs)):
            times = len(some)
            pairs = repeated(inputs, times), some.flatten(0, 1), repeated(target, times)
            part, at_baselines = _deeplift(model, *pairs)
            values = values + summed_draws(part, times) / len(references)
            left_out = left_out + summed_draws(at_baselines, times) / len(references)
        return Values(values, left_out)


@method
@frozen
class GradientSHAP(Method):
    """Expected gradients: (x - x') * df/dx at a random point between x and a random baseline x', averaged.

    Baselines as for DeepSHAP. The values sum to f(x) - mean f(x') in expectation only, so no completeness is promised.

    Source: Erion, Janizek, Sturmfels, Lundberg, Lee 2021, arXiv:1906.10670, equation 3.
    Differs: every sample gets the same draws, so that its map does not depend on its batch.
    """

    name: ClassVar[str] = "gradient_shap"
    traits: ClassVar[Traits] = Traits("gradient", baseline=True)

    baselines: Array | None = None
    n_baselines: Count = 16
    n_samples: Count = 32
    seed: Seed = 0
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        inputs = inputs.detach()
        references = _references(self.baselines, self.n_baselines, self.seed, inputs)  # (m, n, c, h, w)
        draws = generator(self.seed + 1)
        chosen = torch.randint(len(references), (self.n_samples,), generator=draws).to(inputs.device)
        way = torch.rand(self.n_samples, *[1] * inputs.ndim, generator=draws).to(inputs)
        values = torch.zeros_like(inputs)
        step = draws_per_pass(self.batch_size, inputs)
        for which, alpha in zip(chosen.split(step), way.split(step), strict=True):
            difference = inputs - references[which]  # (draws, n, c, h, w)
            points = (references[which] + alpha * difference).flatten(0, 1)
            slopes = gradient(model, points, repeated(target, len(which)))
            values = values + summed_draws(difference.flatten(0, 1) * slopes, len(which)) / self.n_samples
        return Values(values)


class _DeepLift(captum.attr.DeepLift):
    """Captum's, with four faults mended (seen in 0.9.0).

    A module reads the gradient of its output with a hook on the output tensor, and the next module changes it with a
    hook on the same tensor, which runs later: where ReLU and max-pooling touch, in either order, the upper one's rule
    was lost. A copy between them keeps them apart. So it does where an input goes to other branches, too, whose
    gradients a module's own rule replaced. Where an input of max-pooling equals its reference, the fallback was
    the gradient of the batch's first sample. And of windows that share their greatest input, all but one were lost.
    """

    def _register_hooks(self, module: nn.Module, attribute_to_layer_input: bool = True) -> None:
        hooked = len(self.forward_handles)
        apart = module.register_forward_pre_hook(lambda _, given: tuple(each.clone() for each in given))
        super()._register_hooks(module, attribute_to_layer_input)
        if len(self.forward_handles) == hooked:
            apart.remove()
        else:
            self.forward_handles.append(apart)
            self.forward_handles.append(module.register_forward_hook(lambda *call: call[-1].clone()))

    def _backward_hook(self, module: Any, grad_input: Tensor, grad_output: Tensor) -> Tensor:
        pooled = getattr(module, "input", None) if type(module) in MAX_POOLS else None
        if pooled is None:
            return super()._backward_hook(module, grad_input, grad_output)
        del module.input, module.output
        given, reference = pooled.chunk(2)
        shares = torch.cat([max_pool_shares(module, given, reference, above) for above in grad_output.chunk(2)])
        difference = (given - reference).repeat(2, *[1] * (given.ndim - 1))
        moved = difference.abs() >= self.eps
        return torch.where(moved, shares / torch.where(moved, difference, 1.0), grad_input)


def _deeplift(model: nn.Module, inputs: Tensor, baselines: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """DeepLIFT of n pairs of input and baseline, and the explained outputs (n,) of the baselines.

    By Captum where every non-linearity is a module that it knows, and on a record of the model's operations elsewhere.
    """
    inputs, both = inputs.detach().requires_grad_(), torch.cat([inputs, baselines]).detach()
    try:
        ready = suited(model, inputs.detach(), "deeplift")
    except UnsupportedModelError:
        return rescaled(model, inputs.detach(), baselines, target)
    with borrowed(ready), quiet_captum(), watched(ready, both) as seen:
        values = _DeepLift(ready).attribute(inputs, baselines, target=target)
    logits = seen[0][len(inputs) :] if seen else outputs(model, baselines, len(inputs))
    return values, picked(logits, target)


def _references(given: Tensor | None, count: int, seed: int, inputs: Tensor) -> Tensor:
    """The baselines of each sample, (m, n, c, h, w): the given ones for all, or noise within each sample's range."""
    if given is None:
        low, high = sample_range(inputs.detach())
        noise = torch.rand(count, *inputs.shape[1:], generator=generator(seed)).to(inputs)
        return low + (high - low) * noise[:, None]
    if given.shape[1:] != inputs.shape[1:] or len(given) == 0:
        raise InputError(
            f"baselines have shape {tuple(given.shape)}; expected (m, {', '.join(map(str, inputs.shape[1:]))}), m >= 1."
        )
    if not torch.isfinite(given).all():
        raise InputError("baselines hold NaN or inf; expected finite values.")
    return given.detach().to(inputs)[:, None].expand(-1, len(inputs), *inputs.shape[1:])
