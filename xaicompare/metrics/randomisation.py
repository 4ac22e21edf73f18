"""Whether a map depends on what it should: on the model's parameters, and on the class that is explained."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from xaicompare.boundary import class_scores, outputs
from xaicompare.core import Attribution, Curve, CurveMetric, Metric, MetricTraits
from xaicompare.draws import generator, sample_generators
from xaicompare.errors import UnsupportedModelError, XaiCompareError
from xaicompare.metrics._similarity import Similarity, alike
from xaicompare.metrics.removal import Sign
from xaicompare.registry import metric
from xaicompare.settings import Count, Seed, frozen

_TRAITS = MetricTraits("randomisation", -1, 1)


@dataclass(frozen=True, eq=False)
class SimilarityCurve(Curve):
    """How alike the maps are to the original one while layers are randomised, for n samples and s steps."""

    shares: Tensor  # (s,) of the layers; where one layer at a time is randomised, how far down it lies
    similarity: Tensor  # (n, s)
    layers: tuple[str, ...]  # (s,) the name of the layer that was randomised last

    @property
    def values(self) -> Tensor:
        """The similarity, (n, s)."""
        return self.similarity


@metric
@frozen
class ModelRandomisation(CurveMetric):
    """Mean similarity of the map to that of the same class once layers of the model are randomised.

    A map that stays does not depend on what the model has learnt: the controls have 1. `order` randomises layers
    one after another from the outputs down, from the inputs up, or each by itself. `n_steps` of them are looked at,
    evenly spread and the last included; where there are no more layers, all. A layer is a module with parameters of its
    own. Its own `reset_parameters` starts it again, running statistics included; where it has none, its weights
    are shuffled. `curve` gives the similarity at every step.

    Source: Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim 2018, arXiv:1810.03292, section 3 (model parameter
    randomisation).
    Differs: maps are scaled by their greatest absolute value; all pixels of a window of SSIM weigh the same; the mean
    over the steps in place of their curve.
    """

    name: ClassVar[str] = "model_randomisation"
    traits: ClassVar[MetricTraits] = _TRAITS
    higher_is_better = False

    order: Literal["top_down", "bottom_up", "independent"] = "top_down"
    similarity: Similarity = "ssim"
    sign: Sign = "absolute"
    n_steps: Count = 10
    seed: Seed = 0

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        return self._curve(model, attribution).mean()

    def _curve(self, model: nn.Module, attribution: Attribution) -> SimilarityCurve:
        layers = _layers(model, attribution.inputs)
        names = list(layers) if self.order == "bottom_up" else list(layers)[::-1]
        steps = min(self.n_steps, len(names))
        counts = [round(len(names) * step / steps) for step in range(1, steps + 1)]
        seeds = _seeds(self.seed, layers)
        found, done = [], 0
        for count in counts:
            first = count - 1 if self.order == "independent" else done
            kept = [pair for name in names[first:count] for pair in _randomise(layers[name], seeds[name])]
            found.append(self._similarity(model, attribution, names[first:count]))
            if self.order == "independent":
                _put_back(kept)
            done = count
        shares = torch.tensor(counts) / len(names)
        return SimilarityCurve(shares, torch.stack(found, 1), tuple(names[count - 1] for count in counts))

    def _similarity(self, model: nn.Module, attribution: Attribution, changed: list[str]) -> Tensor:
        try:
            again = attribution.method.attribute(model, attribution.inputs, attribution.target, strict=False)
        except XaiCompareError as error:
            raise UnsupportedModelError(
                f"the map once {changed[-1] or 'the model'!r} is randomised: {error}"
            ) from error
        return alike(attribution, again, self.similarity, self.sign)


@metric
@frozen
class RandomLogit(Metric):
    """Similarity of the map to that of another class, which is drawn for each sample.

    A map that stays does not tell classes apart: the controls have 1.

    Source: Sixt, Granz, Landgraf 2020, arXiv:1912.09818, random logit.
    Differs: maps are scaled by their greatest absolute value; all pixels of a window of SSIM weigh the same.
    """

    name: ClassVar[str] = "random_logit"
    traits: ClassVar[MetricTraits] = _TRAITS
    higher_is_better = False

    similarity: Similarity = "ssim"
    sign: Sign = "absolute"
    seed: Seed = 0

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        inputs, target = attribution.inputs, attribution.target
        classes = class_scores(outputs(model, inputs[:1], 1)).shape[1]
        drawn = [int(torch.randint(1, classes, (), generator=draws)) for draws in sample_generators(inputs, self.seed)]
        other = (target + torch.tensor(drawn).to(target)) % classes
        again = attribution.method.attribute(model, inputs, other, strict=False)
        return alike(attribution, again, self.similarity, self.sign)


def _layers(model: nn.Module, inputs: Tensor) -> dict[str, nn.Module]:
    """The modules with weights of their own that take part, in the order in which they start to run."""
    started: dict[nn.Module, int] = {}

    def note(module: nn.Module, _: object) -> None:
        started.setdefault(module, len(started))

    handles = [module.register_forward_pre_hook(note) for module in model.modules()]
    try:
        outputs(model, inputs[:1], 1)
    finally:
        for handle in handles:
            handle.remove()
    modules, places = dict(model.named_modules()), dict[str, int]()
    for name, module in modules.items():
        # What is never called itself, as inside attention, may be read by the module that holds it.
        runs = module if module in started else modules[name.rpartition(".")[0]]
        if runs in started and any(True for _ in _own(module)):
            places[name] = started[runs]
    if not places:
        raise UnsupportedModelError(f"{type(model).__name__} has no parameters; expected layers to randomise.")
    return {name: modules[name] for name in sorted(places, key=places.__getitem__)}


def _own(module: nn.Module) -> Iterator[Tensor]:
    """Parameters of the module itself, and buffers where it can start them again."""
    yield from module.parameters(recurse=False)
    if hasattr(module, "reset_parameters"):
        yield from module.buffers(recurse=False)


def _seeds(seed: int, layers: dict[str, nn.Module]) -> dict[str, int]:
    """A seed for each layer, so that its new weights are the same in every order."""
    drawn = torch.randint(2**62, (len(layers),), generator=generator(seed))
    return dict(zip(layers, drawn.tolist(), strict=True))


def _randomise(layer: nn.Module, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Gives a layer other weights, in memory of their own; returns those that it had.

    The model is borrowed: what it came with is put back at the end, also after an error, and so is the random state.
    """
    before = [(tensor, tensor.data) for tensor in _own(layer)]
    for tensor, data in before:
        tensor.data = data.cpu().clone()  # drawn on the CPU, so that every device sees the same numbers
    # One that holds other layers would start them, too.
    if hasattr(layer, "reset_parameters") and not any(True for child in layer.children() for _ in child.parameters()):
        torch.default_generator.manual_seed(seed)
        layer.reset_parameters()  # type: ignore[operator]
    else:
        draws = generator(seed)
        for tensor, _ in before:
            order = torch.randperm(tensor.numel(), generator=draws)
            tensor.data = tensor.data.flatten()[order].view_as(tensor)
    for tensor, data in before:
        tensor.data = tensor.data.to(data.device)
    return before


def _put_back(kept: list[tuple[Tensor, Tensor]]) -> None:
    for tensor, data in kept:
        tensor.data = data
