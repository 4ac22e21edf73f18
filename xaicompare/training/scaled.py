"""Relevance-scaled steps: an optimizer's step, taken further where neurons are relevant."""

from collections.abc import Callable
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from xaicompare.errors import SettingError, UnsupportedModelError
from xaicompare.lrp import RelevanceGuidance
from xaicompare.lrp.guidance import Start
from xaicompare.settings import NonNegative, frozen
from xaicompare.training.arms import Arm, arm
from xaicompare.training.course import Course
from xaicompare.training.lesson import Lesson
from xaicompare.training.losses import steps_between_looks

Direction = Literal["relevant", "irrelevant"]
"""Who takes the larger steps: relevant neurons, or the others (1 / beta)."""


def step_factors(relevance: Tensor, toward: Direction = "relevant", floor: float = 0.1) -> Tensor:
    """beta of a layer's neurons (c,), with mean 1, of their mean relevance (c,), which is at least 0.

    Relevance is taken in units of the layer's mean, and at least `floor`; towards the irrelevant its reciprocal counts.
    A layer without relevance has 1 everywhere.

    >>> step_factors(torch.tensor([1.0, 3.0]), floor=0.0)
    tensor([0.5000, 1.5000])
    >>> step_factors(torch.tensor([1.0, 3.0]), "irrelevant")
    tensor([1.5000, 0.5000])
    """
    mean = relevance.mean()
    beta = (relevance / mean).clamp(min=floor)
    if toward == "irrelevant":
        beta = 1 / beta
    return torch.where(mean > 0, beta / beta.mean(), 1)  # no question to the device, which would have to wait


class RelevanceScaled(Optimizer):
    """Any optimizer, whose steps are multiplied by beta, the relevance of the neuron that a weight belongs to.

    W <- W + beta * (the step that the optimizer takes): a row of a linear layer and a filter of a convolution have one
    beta, which is also their bias's. The other parameters, the output layer's among them, move as ever. Relevance is
    the mean magnitude over the samples and places of all batches since the last step.

    It is an optimizer: schedulers, checkpoints and `zero_grad` see the one inside, and a state may go to or come from
    a plain one. As relevance comes from the backward pass, call the guidance instead of the model.

    Args:
        optimizer: takes the steps.
        guidance: tells the relevance; its rule, layers and start count, and factor 0 leaves gradients as they are.
        toward: see `Direction`.
        floor: the least relevance, in units of the layer's mean; 0 only towards the relevant.

    Raises:
        SettingError: a setting out of range.
        UnsupportedModelError: the guidance tells its relevance to another optimizer.

    Source: W <- W - eta * dL/dW * beta, beta normalised to mean 1 in every layer; nothing more is published.
    Differs: magnitudes, so that no step is turned round; the optimizer's whole step is scaled, so that Adam does not
    undo it; a floor, as a neuron of no relevance would never learn, or, inverted, alone.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> guidance = RelevanceGuidance(model, factor=0.0)
    >>> optimizer = RelevanceScaled(torch.optim.Adam(model.parameters()), guidance)
    >>> nn.functional.cross_entropy(guidance(torch.ones(2, 4)), torch.tensor([0, 2])).backward()
    >>> optimizer.step()
    """

    def __init__(
        self,
        optimizer: Optimizer,
        guidance: RelevanceGuidance,
        toward: Direction = "relevant",
        *,
        floor: float = 0.1,
    ) -> None:
        # torch's own __init__ would make groups and a state of their own.
        if toward not in ("relevant", "irrelevant"):
            raise SettingError(f"toward={toward!r}; expected 'relevant' or 'irrelevant'.")
        if not 0 <= floor < 1 or (floor == 0 and toward == "irrelevant"):
            raise SettingError(f"floor={floor!r}; expected 0 to 1, and above 0 towards the irrelevant.")
        if guidance.observer is not None:
            raise UnsupportedModelError("the guidance has an observer already; expected one optimizer for each.")
        self.optimizer = optimizer
        self.guidance = guidance
        self.toward: Direction = toward
        self.floor = floor
        self.betas: dict[str, Tensor] = {}  # by layer (c,), of the last step
        self._sums: dict[str, tuple[Tensor, int]] = {}  # magnitudes by neuron, and of how many values
        self._before: dict[Tensor, Tensor] = {}
        modules = dict(guidance.model.named_modules())
        self._layers = {name: modules[name] for name in guidance.layers}
        for name, layer in self._layers.items():
            if getattr(layer, "transposed", False) and getattr(layer, "groups", 1) > 1:
                raise UnsupportedModelError(
                    f"{name} is a transposed convolution in groups; expected its neurons to be one axis of its weight. "
                    "Leave it out of the guidance's layers."
                )
        guidance.observer = self._note

    def __getattr__(self, name: str) -> Any:
        """Groups, state, defaults and hooks are the optimizer's own."""
        if name == "optimizer":
            raise AttributeError(name)  # while it is being made, or copied
        return getattr(self.optimizer, name)

    def _note(self, layer: str, relevance: Tensor) -> None:
        linear = isinstance(self._layers[layer], nn.Linear)
        axes = list(range(relevance.ndim - 1)) if linear else [0, *range(2, relevance.ndim)]
        sizes = relevance.abs().sum(axes)  # (c,); a norm along these axes takes 8 times as long, channels last
        total, count = self._sums.get(layer, (0, 0))
        self._sums[layer] = total + sizes, count + relevance.numel() // len(sizes)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of the optimizer, scaled; what the closure returns."""
        before = self._kept()
        loss = self.optimizer.step(closure)
        self.betas = {
            layer: step_factors(total / count, self.toward, self.floor) for layer, (total, count) in self._sums.items()
        }
        self._sums = {}
        for layer, beta in self.betas.items():
            for parameter, axis in _neurons(self._layers[layer]):
                if parameter in before:
                    shape = [1] * parameter.ndim
                    shape[axis] = -1
                    # Where beta is 1, lerp gives the weights after the step bit by bit; a sum of products does not.
                    torch.lerp(before[parameter], parameter, beta.to(parameter.dtype).view(shape), out=parameter)
        return loss

    def _kept(self) -> dict[Tensor, Tensor]:
        """Copies of the weights that are scaled, in memory that is used again: to get new memory takes longer."""
        mine = {parameter for layer in self._layers.values() for parameter, _ in _neurons(layer)}
        moved = [each for group in self.param_groups for each in group["params"] if each in mine]
        self._before = {each: self._before.get(each, torch.empty(0)) for each in moved}
        for parameter in moved:
            if self._before[parameter].shape != parameter.shape:
                self._before[parameter] = torch.empty_like(parameter)
            self._before[parameter].copy_(parameter)
        return self._before

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients."""
        self.optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's: beta comes from the batch alone."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from that state."""
        self.optimizer.load_state_dict(state_dict)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """More parameters to move."""
        self.optimizer.add_param_group(param_group)

    def __repr__(self) -> str:
        return f"RelevanceScaled({self.optimizer!r}, toward={self.toward!r}, floor={self.floor})"


def _neurons(layer: nn.Module) -> list[tuple[nn.Parameter, int]]:
    """The parameters of a layer, with the axis that tells its neurons apart."""
    transposed = bool(getattr(layer, "transposed", False))
    named = dict(layer.named_parameters(recurse=False))
    axes = {"weight": int(transposed), "bias": 0}
    return [(named[name], axis) for name, axis in axes.items() if name in named]


@final
@arm
@frozen
class Scaled(Arm):
    """Relevance-scaled steps; see `RelevanceScaled`."""

    name = "scaled"

    toward: Direction = "relevant"
    floor: NonNegative = 0.1
    rule: str | dict[str, Any] = "epsilon"
    layers: str | tuple[str, ...] = "all"
    start: Start = "probabilities"

    def train(self, course: Course) -> nn.Module:
        """One stage, with the optimizer wrapped."""
        model = course.network()
        every = steps_between_looks(next(model.parameters()).device)
        guidance = RelevanceGuidance(model, 0.0, self.rule, self.layers, self.start, check_every=every)
        steps = lambda optimizer: RelevanceScaled(optimizer, guidance, self.toward, floor=self.floor)  # noqa: E731
        course.fit(model, Lesson(guidance, wrapped=steps, look=guidance.look))
        return model
