"""Relevance of every layer, by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xaicompare.borrow import borrowed
from xaicompare.boundary import (
    Target,
    checked_inputs,
    checked_outputs,
    class_scores,
    explained_start,
    fitting,
    picked,
    predicted,
    probabilities,
    resolved_target,
    shaped_outputs,
)
from xaicompare.diagnosis.recorded import check_same
from xaicompare.errors import InputError, SettingError, unknown
from xaicompare.lrp.composite import Composite, Numbers, composite
from xaicompare.lrp.forward import evaluated
from xaicompare.lrp.plan import planned
from xaicompare.lrp.recorded import any_network
from xaicompare.lrp.sweep import swept

Start = Literal["score", "one", "probability"]
"""What the explained output starts with: its own value, 1, or its softmax probability."""


@dataclass(frozen=True, eq=False)
class LayerRelevance:
    """Where an output comes from, layer by layer; with k classes for each sample, every tensor is (n, k, ...)."""

    values: Tensor  # relevance of the inputs, (n, c, h, w)
    target: Tensor  # (n,) or (n, k) int64
    start: Tensor  # (n,) what the sweep began with
    layers: Mapping[str, Tensor]  # relevance of each layer's outputs, from the output down
    sums: Mapping[str, Tensor]  # (n,) sum of it, also for layers that were not kept
    absorbed: Mapping[str, Tensor]  # (n,) what each layer's biases and epsilon took
    logits: Tensor  # (n, classes)

    @property
    def residual(self) -> Tensor:
        """What is missing from conservation, (n,): inputs and absorbed together, less the start."""
        return self.values.flatten(self.target.ndim).sum(-1) + sum(self.absorbed.values()) - self.start

    def __repr__(self) -> str:
        kept = f"{len(self.layers)} of {len(self.sums)} layers"
        classes = "" if self.target.ndim == 1 else f", {self.target.shape[1]} classes each"
        return f"LayerRelevance(values={tuple(self.values.shape)}, {kept}, {len(self.values)} samples{classes})"


def relevance(
    model: nn.Module,
    inputs: Tensor,
    target: Target = None,
    composite: str | Composite | Mapping[str, Any] = "epsilon-plus-flat",
    start: Start = "score",
    *,
    layers: Sequence[str] | None = None,
    create_graph: bool = False,
    **numbers: Any,
) -> LayerRelevance:
    """Sends the relevance of an output through the network, and shows it at every layer.

    The model computes as in evaluation mode, and is not touched. All layers together cost one forward pass and one
    sweep, for several classes too.

    Args:
        inputs: (n, c, h, w) or (n, features), floating point.
        target: None (the predicted class), a class, (n,), or (n, k) for k classes of every sample.
        composite: a name, a `Composite`, or a mapping such as {"first": "flat", "convolution": "z-plus"}.
        start: what the explained output begins with.
        layers: names of the layers to keep; None keeps all, () none.
        create_graph: relevance that can be differentiated with respect to weights and inputs.
        **numbers: epsilon, gamma, alpha, beta, low, high, for named composites.

    Raises:
        InputError: inputs or target don't fit the model.
        UnsupportedModelError: the model has a step without a rule; the message names it.
        UnknownNameError, SettingError: an unknown composite, layer, start or number.
    """
    checked = checked_inputs(model, inputs)
    rules = _composite(composite, numbers)
    layers = [layers] if isinstance(layers, str) else layers
    with torch.inference_mode(False), fitting(model, checked):
        steps = any_network(model, checked)
        if steps.alone and len(checked) > 1:
            return _one_by_one(model, inputs, target, rules, start, layers, create_graph)
        plan = planned(steps, rules)
        names = {step.name for step in plan.network.steps}
        for name in layers or ():
            if name not in names:
                raise unknown("layer", name, sorted(names))
        forward = evaluated(plan, inputs if create_graph else checked.clone(), keep_graph=create_graph)
        logits = checked_outputs(forward.outputs, len(inputs))
        if steps.alone:
            with torch.no_grad(), borrowed(model):
                check_same(shaped_outputs(model.forward(checked), 1), logits.detach())
        classes = _classes(target, checked, logits)  # (n,) or (n, k)
        begun = _begun(start, logits, classes)
        seen = _Seen(layers, classes.shape)
        passed = swept(forward, _one_hot(begun, classes, forward.outputs), seen.note)
    values = seen.by_class(passed.relevance)
    return LayerRelevance(values, classes, begun, seen.layers, seen.sums, seen.absorbed, logits)


def _one_by_one(
    model: nn.Module,
    inputs: Tensor,
    target: Target,
    rules: Composite,
    start: Start,
    layers: Sequence[str] | None,
    create_graph: bool,
) -> LayerRelevance:
    """A recorded network stands for one sample: see `lrp.recorded`."""
    if target is None:
        with torch.no_grad(), borrowed(model):
            target = predicted(shaped_outputs(model.forward(inputs.detach()), len(inputs)))
    classes = _classes(target, inputs, inputs)
    made = [
        relevance(model, inputs[i : i + 1], classes[i : i + 1], rules, start, layers=layers, create_graph=create_graph)
        for i in range(len(inputs))
    ]
    together = {
        name: {key: torch.cat([getattr(each, name)[key] for each in made]) for key in getattr(made[0], name)}
        for name in ("layers", "sums", "absorbed")
    }
    whole = {
        name: torch.cat([getattr(each, name) for each in made]) for name in ("values", "target", "start", "logits")
    }
    return LayerRelevance(**whole, **together)  # type: ignore[arg-type]


def _composite(given: str | Composite | Mapping[str, Any], numbers: dict[str, Any]) -> Composite:
    for name in numbers:
        if name not in Numbers.__dataclass_fields__:
            raise unknown("number of a composite", name, list(Numbers.__dataclass_fields__))
    if numbers and not isinstance(given, str):
        raise SettingError(f"{', '.join(numbers)} beside a composite of your own; expected its rules to hold them.")
    return composite(given, Numbers(**numbers))


def _classes(target: Target, inputs: Tensor, logits: Tensor) -> Tensor:
    if isinstance(target, (list, tuple)) and target and isinstance(target[0], (list, tuple)):
        target = torch.as_tensor(target)
    if not isinstance(target, Tensor) or target.ndim < 2:
        return resolved_target(target, inputs, logits)
    if target.ndim != 2 or len(target) != len(inputs) or not target.shape[1]:
        raise InputError(f"target has shape {tuple(target.shape)}; expected (n,) or (n, k) with n={len(inputs)}.")
    return torch.stack([resolved_target(column, inputs, logits) for column in target.unbind(1)], 1)


def _begun(start: Start, logits: Tensor, classes: Tensor) -> Tensor:
    """(n,) or (n, k): what each explained output starts with."""
    values = {
        "score": class_scores,
        "one": lambda given: torch.ones_like(class_scores(given)),
        "probability": probabilities,
    }
    if not isinstance(start, str) or start not in values:
        raise SettingError(f"start={start!r}; expected 'score', 'one' or 'probability'.")
    chosen = values[start](logits)
    columns = classes[:, None] if classes.ndim == 1 else classes
    picks = torch.stack([picked(chosen, column) for column in columns.unbind(1)], 1)
    return picks[:, 0] if classes.ndim == 1 else picks


def _one_hot(begun: Tensor, classes: Tensor, outputs: Tensor) -> Tensor:
    """(k n, outputs): the explained output alone, class after class."""
    return explained_start(outputs, classes.t().reshape(-1), begun.t().reshape(-1))


class _Seen:
    """What the sweep tells, kept by name."""

    def __init__(self, layers: Sequence[str] | None, shape: torch.Size) -> None:
        self.wanted = layers
        self.shape = shape  # (n,) or (n, k)
        self.layers: dict[str, Tensor] = {}
        self.sums: dict[str, Tensor] = {}
        self.absorbed: dict[str, Tensor] = {}

    def note(self, name: str, values: Tensor, lost: Tensor) -> None:
        count = self.shape.numel()
        if self.wanted is None or name in self.wanted:
            apart = (
                values if len(values) == count else values.unflatten(0, (count, -1))
            )  # of one sample: see lrp.recorded
            self.layers[name] = self.by_class(apart)
        self.sums[name] = self.by_class(values.reshape(count, -1).sum(1))
        self.absorbed[name] = self.by_class(lost)

    def by_class(self, values: Tensor) -> Tensor:
        """(k n, ...) -> (n, ...) or (n, k, ...)."""
        if len(self.shape) == 1:
            return values
        return values.unflatten(0, (self.shape[1], self.shape[0])).transpose(0, 1)
