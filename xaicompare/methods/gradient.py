"""Methods that read the gradient of the output, or change how ReLU passes it on."""

from contextlib import nullcontext
from typing import ClassVar, Literal

import captum.attr
import torch
from torch import Tensor, nn

from xaicompare.borrow import borrowed
from xaicompare.boundary import baseline_like, outputs, per_pass, picked
from xaicompare.core import Method, Traits, Values
from xaicompare.diagnosis import suited
from xaicompare.draws import generator
from xaicompare.errors import UnsupportedModelError
from xaicompare.methods._common import (
    draws_per_pass,
    gradient,
    quiet_captum,
    repeated,
    sample_range,
    summed_draws,
)
from xaicompare.methods._rectified import Kind, changed_backprop
from xaicompare.registry import method
from xaicompare.settings import Array, BatchSize, Count, NonNegative, Seed, frozen


@method
@frozen
class Saliency(Method):
    """How much the output changes with each input value: |df/dx|.

    Source: Simonyan, Vedaldi, Zisserman 2013, arXiv:1312.6034, section 3.
    Differs: the channels are kept (the paper takes their maximum); `Attribution.map` sums them.
    """

    name: ClassVar[str] = "saliency"
    traits: ClassVar[Traits] = Traits("gradient")

    absolute: bool = True
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        values = gradient(model, inputs, target)
        return Values(values.abs() if self.absolute else values)


@method
@frozen
class InputXGradient(Method):
    """The gradient times the input, x * df/dx: exact shares of the output for a linear model without biases.

    Source: Shrikumar, Greenside, Shcherbina, Kundaje 2016, arXiv:1605.01713, section 3.
    """

    name: ClassVar[str] = "input_x_gradient"
    traits: ClassVar[Traits] = Traits("gradient")

    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        return Values(inputs * gradient(model, inputs, target))


@method
@frozen
class SmoothGrad(Method):
    """The gradient averaged over noisy copies of the input, x + N(0, sigma^2).

    `sigma` is a share of each sample's own range (max - min). `kind` takes the mean of the gradients, of their squares,
    or their variance.

    Source: Smilkov, Thorat, Kim, Viegas, Wattenberg 2017, arXiv:1706.03825, equation 1; the variants: Hooker et al.
    2019, arXiv:1806.10758, section 3.
    Differs: every sample gets the same noise, so that its map does not depend on its batch.
    """

    name: ClassVar[str] = "smoothgrad"
    traits: ClassVar[Traits] = Traits("gradient")

    n_samples: Count = 32
    sigma: NonNegative = 0.15
    kind: Literal["mean", "squared", "variance"] = "mean"
    seed: Seed = 0
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        low, high = sample_range(inputs.detach())
        noise = torch.randn(self.n_samples, *inputs.shape[1:], generator=generator(self.seed)).to(inputs)
        total, squares = torch.zeros_like(low), torch.zeros_like(low)
        for draws in noise.split(draws_per_pass(self.batch_size, inputs)):
            moved = inputs.detach() + self.sigma * (high - low) * draws[:, None]  # (draws, n, c, h, w)
            values = gradient(model, moved.flatten(0, 1), repeated(target, len(draws)))
            total = total + summed_draws(values, len(draws))
            squares = squares + summed_draws(values**2, len(draws))
        mean, square = total / self.n_samples, squares / self.n_samples
        return Values({"mean": mean, "squared": square, "variance": square - mean**2}[self.kind])


@method
@frozen
class IntegratedGradients(Method):
    """The gradient integrated along the straight line from a baseline, times the way: (x - x') * mean df/dx.

    Complete: the values sum to f(x) - f(x'), up to the error of the quadrature with `n_steps` points.

    Source: Sundararajan, Taly, Yan 2017, arXiv:1703.01365, equations 1 and 3.
    """

    name: ClassVar[str] = "integrated_gradients"
    traits: ClassVar[Traits] = Traits("gradient", baseline=True, conserves=True)

    n_steps: Count = 50
    baseline: float | Array = 0.0
    quadrature: Literal["gausslegendre", "riemann_trapezoid", "riemann_middle", "riemann_left", "riemann_right"] = (
        "gausslegendre"
    )
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        baseline = baseline_like(self.baseline, inputs)
        values = captum.attr.IntegratedGradients(model).attribute(
            inputs,
            baseline,
            target=target,
            n_steps=self.n_steps,
            method=self.quadrature,
            internal_batch_size=per_pass(self.batch_size, inputs),
        )
        at_baseline = outputs(model, baseline, 1).expand(len(inputs), -1)
        return Values(values, left_out=picked(at_baseline, target))


@method
@frozen
class DeconvNet(Method):
    """Backpropagation in which ReLU passes positive gradients only, whatever its input was.

    Source: Zeiler, Fergus 2014, arXiv:1311.2901, section 2.1.
    Differs: ReLU6, LeakyReLU, PReLU, ELU, SiLU, GELU and Hardswish have the same rule, max(g, 0) of the gradient g;
    LayerNorm, softmax and gates pass the plain gradient.
    """

    name: ClassVar[str] = "deconvnet"
    traits: ClassVar[Traits] = Traits("gradient")

    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        return Values(_changed("deconvnet", model, inputs, target, "deconvnet"))


@method
@frozen
class GuidedBackprop(Method):
    """Backpropagation in which ReLU passes the gradient where both it and the forward input are positive.

    Source: Springenberg, Dosovitskiy, Brox, Riedmiller 2014, arXiv:1412.6806, section 3.4.
    Differs: ReLU6, LeakyReLU, PReLU, ELU, SiLU, GELU and Hardswish have the rule with their own derivative,
    f'(x) max(g, 0) of the gradient g, which is the published one for ReLU; LayerNorm, softmax and gates pass the plain
    gradient.
    """

    name: ClassVar[str] = "guided_backprop"
    traits: ClassVar[Traits] = Traits("gradient")

    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        return Values(guided_backprop(model, inputs, target))


def guided_backprop(model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    """The values of guided backpropagation; Guided Grad-CAM needs them too."""
    return _changed("guided", model, inputs, target, "guided_backprop")


def _changed(kind: Kind, model: nn.Module, inputs: Tensor, target: Tensor, method: str) -> Tensor:
    """By Captum where all that rectifies is a ReLU of its own, and on a record of the model's operations elsewhere."""
    try:
        ready = suited(model, inputs.detach(), method)
    except UnsupportedModelError:
        return changed_backprop(model, inputs, target, kind)
    if not any(isinstance(module, nn.ReLU) for module in ready.modules()):
        raise UnsupportedModelError(
            f"{type(model).__name__} has no ReLU, so this would be the plain gradient; expected a network with ReLU. "
            "Use 'saliency' for the plain gradient."
        )
    algorithm = {"deconvnet": captum.attr.Deconvolution, "guided": captum.attr.GuidedBackprop}[kind]
    with nullcontext() if ready is model else borrowed(ready), quiet_captum():
        values: Tensor = algorithm(ready).attribute(inputs, target=target)
    return values
