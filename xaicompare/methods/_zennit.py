"""LRP by Zennit: our names of rules and composites, in Zennit's terms."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xaicompare._torchvision  # noqa: F401 (Zennit imports torchvision)
from xaicompare.attended import Attention
from xaicompare.boundary import shaped_outputs
from xaicompare.errors import InputError, UnsupportedModelError
from xaicompare.methods._common import sample_range

import zennit.attribution  # isort: skip
import zennit.canonizers  # isort: skip
import zennit.composites as shipped  # isort: skip
import zennit.core  # isort: skip
import zennit.layer  # isort: skip
import zennit.rules as rules  # isort: skip
import zennit.torchvision as vision  # isort: skip
import zennit.types as kinds  # isort: skip

_STABILIZER = 1e-6
ModuleMap = Callable[[dict[str, Any], str, nn.Module], zennit.core.Hook | None]


@dataclass(frozen=True)
class RuleSettings:
    """The numbers that the rules use; `low` and `high` as tensors that broadcast to the inputs."""

    epsilon: float
    gamma: float
    alpha: float
    beta: float
    low: Tensor
    high: Tensor


def zennit_relevance(model: nn.Module, inputs: Tensor, target: Tensor, composite: str, numbers: RuleSettings) -> Tensor:
    """Relevance of the inputs, same shape, starting from the explained output alone.

    Raises:
        UnsupportedModelError: an attention module, whose product Zennit would treat as a gradient does.
    """
    if any(isinstance(module, Attention) for module in model.modules()):
        raise UnsupportedModelError(
            f"engine='zennit' on {type(model).__name__} with an attention module, for which Zennit has no rule; "
            "expected a network without one. Use engine='native'."
        )

    with torch.no_grad():
        binary = shaped_outputs(model.forward(inputs[:1]), 1).shape[1] == 1  # as it is, without the hooks around it
    # Class 0 of one output z has the score -z; the sign that turns z about must not turn its relevance back.
    sign = (2 * target - 1)[:, None] if binary else 1

    def start(logits: Tensor) -> Tensor:
        return sign * logits * F.one_hot(target, logits.shape[1])

    with zennit.attribution.Gradient(model, _composite(composite, numbers, model)) as attributor:
        return attributor(inputs, start)[1]


def pixel_bounds(bound: float | Tensor | None, inputs: Tensor, which: str) -> Tensor:
    """A bound of z-box as a tensor that broadcasts to the inputs; None takes each sample's own extreme."""
    if bound is None:
        return sample_range(inputs.detach())[which == "high"]
    value = torch.as_tensor(bound).to(inputs)
    channels = inputs.shape[1]
    if value.shape == (channels,):
        value = value.view(channels, *[1] * (inputs.ndim - 2))
    if value.shape not in {torch.Size([]), torch.Size([channels, *[1] * (inputs.ndim - 2)]), inputs.shape[1:]}:
        raise InputError(f"{which} has shape {tuple(value.shape)}; expected a number or ({channels},).")
    inside = inputs >= value if which == "low" else inputs <= value
    if not bool(torch.isclose(inputs, value.expand_as(inputs), atol=1e-4).logical_or(inside).all()):
        raise InputError(f"inputs reach beyond {which}={bound}; expected bounds that hold for every pixel.")
    return value.expand_as(inputs[:1])


def _composite(name: str, numbers: RuleSettings, model: nn.Module) -> zennit.core.Composite:
    canonizers = _canonizers(model)
    if name in _SHIPPED:
        return _SHIPPED[name](numbers, canonizers)
    if name in _BY_DEPTH:
        return zennit.core.Composite(module_map=_BY_DEPTH[name](numbers, model), canonizers=canonizers)
    return zennit.core.Composite(module_map=_everywhere(name, numbers), canonizers=canonizers)


def _canonizers(model: nn.Module) -> list[zennit.canonizers.Canonizer]:
    """BatchNorm merged into the layer before it, and residual sums as modules where the network is a ResNet."""
    blocks = (vision.ResNetBasicBlock, vision.ResNetBottleneck)
    if any(isinstance(module, blocks) for module in model.modules()):
        sums = vision.ResNetBottleneckCanonizer(), vision.ResNetBasicBlockCanonizer()
        return [zennit.canonizers.CompositeCanonizer((_MergeBatchNorm(), *sums))]
    return [_MergeBatchNorm()]


class _MergeBatchNorm(zennit.canonizers.SequentialMergeBatchNorm):
    """Zennit's, whose emptied BatchNorm still divides by sqrt(1 + eps): the score was off by 5e-6 for each of them."""

    def register(self, linears: list[nn.Module], batch_norm: Any) -> None:
        super().register(linears, batch_norm)
        batch_norm.eps, self.eps = 0.0, batch_norm.eps

    def remove(self) -> None:
        super().remove()
        self.batch_norm.eps = self.eps


_SHIPPED: dict[str, Callable[[RuleSettings, list[Any]], zennit.core.Composite]] = {
    "epsilon-plus": lambda n, c: shipped.EpsilonPlus(epsilon=n.epsilon, canonizers=c),
    "epsilon-plus-flat": lambda n, c: shipped.EpsilonPlusFlat(epsilon=n.epsilon, canonizers=c),
    "epsilon-gamma-box": lambda n, c: shipped.EpsilonGammaBox(
        low=n.low, high=n.high, epsilon=n.epsilon, gamma=n.gamma, canonizers=c
    ),
    "epsilon-alpha2-beta1": lambda n, c: shipped.EpsilonAlpha2Beta1(epsilon=n.epsilon, canonizers=c),
    "epsilon-alpha2-beta1-flat": lambda n, c: shipped.EpsilonAlpha2Beta1Flat(epsilon=n.epsilon, canonizers=c),
}


def _rule(name: str, numbers: RuleSettings) -> zennit.core.Hook:
    return {
        # Exactly zero where z is exactly zero: nothing was contributed there, and 0/0 is not a number.
        "zero": lambda: rules.Epsilon(epsilon=_nonzero),
        "epsilon": lambda: rules.Epsilon(epsilon=numbers.epsilon) if numbers.epsilon else rules.Epsilon(_nonzero),
        "gamma": lambda: rules.Gamma(gamma=numbers.gamma),
        "attnlrp": lambda: rules.Gamma(gamma=numbers.gamma),  # what it is where nothing attends
        "alpha-beta": lambda: rules.AlphaBeta(alpha=numbers.alpha, beta=numbers.beta),
        "z-plus": lambda: rules.ZPlus(),
        "z-box": lambda: rules.ZBox(low=numbers.low, high=numbers.high),
        # The rule's denominator sums over neurons; a squared bias is not one of them.
        "w-square": lambda: rules.WSquare(zero_params="bias"),
        "flat": lambda: rules.Flat(),
    }[name]()


def _everywhere(name: str, numbers: RuleSettings) -> ModuleMap:
    def mapped(ctx: dict[str, Any], _: str, module: nn.Module) -> zennit.core.Hook | None:
        if not isinstance(module, kinds.Linear):
            return _without_weights(module)
        first = not ctx.get("seen")
        ctx["seen"] = True
        return _rule("epsilon" if name == "z-box" and not first else name, numbers)

    return mapped


def _without_weights(module: nn.Module) -> zennit.core.Hook | None:
    """Activations and merged BatchNorm pass relevance on; sums and average pooling share it by contribution."""
    if isinstance(module, kinds.Activation | kinds.BatchNorm):
        return rules.Pass()
    if isinstance(module, kinds.AvgPool | zennit.layer.Sum):
        return rules.Norm()
    return None


def _mnist_mlp(numbers: RuleSettings, model: nn.Module) -> ModuleMap:
    names = [name for name, module in model.named_modules() if isinstance(module, kinds.Linear)]
    chosen = {name: _rule("gamma", numbers) for name in names}
    chosen[names[0]] = _rule("z-box", numbers)
    if len(names) > 1:
        chosen[names[-2]] = rules.Epsilon(_relative(0.1, "std")) if len(names) > 2 else chosen[names[0]]
        chosen[names[-1]] = _rule("zero", numbers)
    return lambda _, name, module: chosen.get(name) or _without_weights(module)


def _vgg16_layers(numbers: RuleSettings, model: nn.Module) -> ModuleMap:
    names = {name for name, _ in model.named_modules()}
    if not {"features.0", "features.30", "classifier"} <= names or "features.31" in names:
        raise UnsupportedModelError(
            f"composite 'vgg16-layers' on {type(model).__name__}; expected VGG-16 with features.0 to features.30 and a "
            "classifier. Use 'epsilon-gamma-box' elsewhere."
        )

    def mapped(ctx: dict[str, Any], name: str, module: nn.Module) -> zennit.core.Hook | None:
        part, _, index = name.partition(".")
        depth = int(index) if part == "features" and index else 31
        if isinstance(module, kinds.MaxPool):
            return _MaxPoolAsAverage()
        if not isinstance(module, kinds.Linear):
            return _without_weights(module)
        if depth == 0:
            return _rule("z-box", numbers)
        if depth <= 16:
            return _rule("gamma", numbers)
        return rules.Epsilon(_relative(0.25, "rms")) if depth <= 30 else _rule("zero", numbers)

    return mapped


_BY_DEPTH: dict[str, Callable[[RuleSettings, nn.Module], ModuleMap]] = {
    "mnist-mlp": _mnist_mlp,
    "vgg16-layers": _vgg16_layers,
}


def _sign(z: Tensor) -> Tensor:
    return torch.where(z < 0, -1.0, 1.0).to(z)


def _nonzero(z: Tensor) -> Tensor:
    return torch.where(z == 0, torch.ones_like(z), z)


def _relative(share: float, scale: str) -> Callable[[Tensor], Tensor]:
    """Epsilon as a share of the spread of z, sample by sample."""

    def stabilized(z: Tensor) -> Tensor:
        flat = z.flatten(1)
        size = flat.std(1) if scale == "std" else flat.square().mean(1).sqrt()
        return z + _sign(z) * (share * size.view(-1, *[1] * (z.ndim - 1)) + _STABILIZER)

    return stabilized


def _window(pool: nn.MaxPool2d) -> tuple[Any, Any, Any, bool]:
    """Kernel, stride, padding and ceil mode, in the order of `avg_pool2d`."""
    if pool.dilation not in (1, (1, 1)):
        raise UnsupportedModelError(f"{pool} is dilated; average pooling can't stand in for it.")
    return pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode


class _MaxPoolAsAverage(zennit.core.Hook):
    """Relevance of a max-pooling shared as if it had been average pooling, in proportion to the inputs."""

    def forward(self, module: nn.Module, input: tuple[Tensor], output: Tensor) -> None:
        self.stored_tensors["input"] = input

    def backward(self, module: nn.MaxPool2d, grad_input: Any, grad_output: tuple[Tensor]) -> tuple[Tensor]:
        pooled = self.stored_tensors["input"][0].detach().clone().requires_grad_()
        with torch.enable_grad():
            z = F.avg_pool2d(pooled, *_window(module))
            shares = grad_output[0] / zennit.core.stabilize(z)
            (slopes,) = torch.autograd.grad(z, pooled, shares)
        return (pooled.detach() * slopes,)
