"""Pruning: the filters and neurons that matter least are cut out, and the rest is trained on."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Literal, TypeAlias, cast, final, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from xaicompare.borrow import borrowed
from xaicompare.boundary import checked_inputs, checked_outputs, fitting, per_pass, picked, resolved_target
from xaicompare.draws import generator
from xaicompare.errors import InputError, SettingError, unknown
from xaicompare.lrp import Composite, relevance
from xaicompare.settings import Count, Part, Whole, frozen
from xaicompare.training.arms import Arm, arm
from xaicompare.training.course import Course
from xaicompare.training.cutting import Scope, check_runs, cut, layers

Batch: TypeAlias = tuple[Tensor, Tensor]
"""Inputs (n, c, h, w) or (n, features), and their classes (n,)."""
Criterion: TypeAlias = Literal["lrp", "gradient", "magnitude", "random"]
Rules: TypeAlias = str | Composite | Mapping[str, Any]

_AT_ONCE = 32  # images in one pass: relevance of every layer is held


def prune(
    model: nn.Module,
    data: Batch | Iterable[Batch],
    share: float = 0.5,
    criterion: Criterion = "lrp",
    *,
    scope: Scope = "layer",
    composite: Rules = "z-plus",
    seed: int = 0,
) -> nn.Module:
    """A smaller copy of the model, without the share of filters and neurons that matter least.

    What is tied together, such as the summed filters of a ResNet, goes together, and is judged by its mean. Each layer
    keeps at least one unit, the outputs keep all. The copy computes what the model does with those units silent: train
    it on, so that the rest takes over. The model itself is not touched.

    >>> import torch, xaicompare as xc
    >>> model = xc.build_model("small_cnn", 10, 1)
    >>> smaller = xc.prune(model, (torch.rand(8, 1, 32, 32), torch.arange(8)), share=0.5)
    >>> [sum(parameter.numel() for parameter in one.parameters()) for one in (model, smaller)]
    [70122, 17786]

    Args:
        data: a reference set, (inputs, classes), or an iterable of such batches such as a DataLoader.
        share: of the units, from 0 (the copy is as large as the model) to below 1.
        criterion: what a unit's importance is. "lrp": its relevance for the true class, summed over positions and
            samples. "gradient": the first-order estimate of how the loss changes without it. "magnitude": the sum of
            its absolute weights. "random": nothing, the control.
        scope: "layer" cuts that share of every layer; "model" of all units together, wherever the least important are.
        composite: how relevance is propagated, see `xaicompare.relevance`.
        seed: of the random criterion.

    Raises:
        InputError: no data, or data that doesn't fit the model.
        SettingError: the share is out of range.
        UnknownNameError: no such criterion, scope or composite.
        UnsupportedModelError: a layer that runs twice or never, a step that can't be cut, or, by relevance, one that no
            rule is known for.

    Source: Yeom et al. 2021, https://arxiv.org/abs/1912.08881, section 3 (lrp); Molchanov et al. 2017,
    https://arxiv.org/abs/1611.06440, equation 7 (gradient), section 2.2 (its norm by layer in scope "model"); Li et al.
    2017, https://arxiv.org/abs/1608.08710, section 3.1 (magnitude).
    Differs: in one step, not a few units at a time. Relevance starts at 1 for every sample, so that an output below 0
    does not turn the order round. Units are judged where their layer puts them out, before BatchNorm.
    """
    _check(share, criterion, scope)
    with torch.inference_mode(False):
        if share == 0:
            return copy.deepcopy(model)
        batches = _batches(model, data)
        first = next(batches, None)
        if first is None:
            raise InputError("data hold no batch; expected inputs and classes to judge the units by.")
        example = first[0][:2].clone()  # not an inference tensor, which autograd refuses
        check_runs(model, example)
        importance = _judged(model, chain([first], batches), criterion, composite, seed)
        if scope == "model" and criterion in ("gradient", "magnitude"):
            # Layers differ in scale; relevance sums to the same everywhere.
            importance = {name: value / value.norm().clamp(min=1e-30) for name, value in importance.items()}
        return cut(model, example, importance, share, scope)


@final
@arm
@frozen
class Pruned(Arm):
    """Train, prune, train on: as many epochs in all as the recipe says, unless `first` is given; see `prune`."""

    name = "pruned"

    share: Part = 0.5  # of the filters and neurons, cut out
    criterion: Criterion = "lrp"
    scope: Scope = "layer"
    composite: str | dict[str, Any] = "z-plus"
    reference: Count = 256  # images of the training set that importance is summed over
    first: Whole | None = None  # epochs before the cut, 0: the small network from the start; None: those that are left
    fine_tune: Count = 1  # epochs after it

    def train(self, course: Course) -> nn.Module:
        """Two stages."""
        model, first = course.network(), self._first(course.recipe.epochs)
        if first:
            course.fit(model, epochs=first)
        images, seed = course.dataset.train, course.recipe.seed
        n = min(self.reference, len(images))
        smaller = prune(
            model,
            images.drawn(n, seed).batch(range(n)),
            self.share,
            self.criterion,
            scope=self.scope,
            composite=self.composite,
            seed=seed,
        )
        course.fit(smaller, epochs=self.fine_tune)
        return smaller

    def _first(self, epochs: int) -> int:
        if self.first is not None:
            return self.first
        if self.fine_tune >= epochs:
            raise SettingError(
                f"pruned: fine_tune={self.fine_tune} of {epochs} epochs in all; expected fewer, so that some come "
                "before the cut. Set first = 0 to train the small network from the start."
            )
        return epochs - self.fine_tune


def _check(share: float, criterion: str, scope: str) -> None:
    if not 0 <= share < 1:
        raise SettingError(f"share is {share}; expected from 0 to below 1.")
    for noun, given, kind in (("criterion", criterion, Criterion), ("scope", scope, Scope)):
        if given not in get_args(kind):
            raise unknown(noun, given, get_args(kind))


def _judged(
    model: nn.Module, batches: Iterable[Batch], criterion: Criterion, composite: Rules, seed: int
) -> dict[str, Tensor]:
    """The importance of every unit of every layer."""
    if criterion == "magnitude":
        return {name: _weight(layer).abs().flatten(1).sum(1) for name, layer in layers(model).items()}
    if criterion == "random":
        draws = generator(seed)
        return {name: torch.rand(len(_weight(layer)), generator=draws) for name, layer in layers(model).items()}
    importance: dict[str, Tensor] = {}
    for inputs, target in batches:
        by_relevance = criterion == "lrp"
        found = _by_relevance(model, inputs, target, composite) if by_relevance else _by_gradient(model, inputs, target)
        importance = {name: importance.get(name, 0) + value.detach() for name, value in found.items()}
    return importance


def _batches(model: nn.Module, data: Batch | Iterable[Batch]) -> Iterator[Batch]:
    """Checked, on the model's device, and so few samples at a time that the relevance of all layers can be held."""
    device = next((parameter.device for parameter in model.parameters()), None)
    pair = isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[0], Tensor)
    for batch in [data] if pair else data:
        if not isinstance(batch, tuple | list) or len(batch) != 2 or not isinstance(batch[0], Tensor):
            raise InputError(f"data hold a {type(batch).__name__}; expected pairs (inputs, classes).")
        inputs = checked_inputs(model, batch[0].to(device))
        target = resolved_target(batch[1], inputs, None)
        size = per_pass(_AT_ONCE, inputs)
        yield from zip(inputs.split(size), target.split(size), strict=True)


def _by_relevance(model: nn.Module, inputs: Tensor, target: Tensor, composite: Rules) -> dict[str, Tensor]:
    """Relevance for the target, summed over positions and samples: (units,) by layer."""
    cuttable = layers(model)
    found = relevance(model, inputs, target, composite, start="one", layers=list(cuttable))
    return {name: _by_unit(values, cuttable[name]).sum((0, 2)) for name, values in found.layers.items()}


def _by_gradient(model: nn.Module, inputs: Tensor, target: Tensor) -> dict[str, Tensor]:
    """|mean over positions of activation x gradient of the loss|, summed over samples: (units,) by layer."""
    activations: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> Tensor:
        activations[name] = output
        return output.clone()  # a step that works in place may follow

    with borrowed(model), fitting(model, inputs):
        for name, layer in layers(model).items():
            layer.register_forward_hook(lambda _module, _given, output, name=name: keep(name, output))
        logits = checked_outputs(model(inputs.clone().requires_grad_()), len(inputs))
        picked(logits, target)  # tells a class that there is not
        gradients = torch.autograd.grad(cross_entropy(logits, target, reduction="sum"), list(activations.values()))
    products = {name: a * g for (name, a), g in zip(activations.items(), gradients, strict=True)}
    return {name: _by_unit(product, layers(model)[name]).mean(2).abs().sum(0) for name, product in products.items()}


def _by_unit(values: Tensor, layer: nn.Module) -> Tensor:
    """Values (n, units, *spatial) of a convolution or (n, ..., units) of a linear layer, as (n, units, positions)."""
    by_unit = values.movedim(-1, 1) if isinstance(layer, nn.Linear) else values
    return by_unit.flatten(2) if by_unit.ndim > 2 else by_unit[..., None]


def _weight(layer: nn.Module) -> Tensor:
    return cast(Tensor, layer.weight).detach()
