"""Filters and neurons taken out of a network, with all that hangs on them [only home of torch-pruning]."""

import copy
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import lcm
from typing import Any, Literal, TypeAlias

import torch
import torch_pruning
from torch import Tensor, nn

from xaicompare.borrow import borrowed
from xaicompare.boundary import checked_outputs, fitting
from xaicompare.errors import UnsupportedModelError, XaiCompareError

Importance: TypeAlias = Mapping[str, Tensor]
"""How much each unit of a layer matters, by the layer's name: (filters,) or (neurons,)."""
Scope: TypeAlias = Literal["layer", "model"]
"""Among which units the least important are looked for: those of each layer, or all of the model."""

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_TOLERANCE = 1e-4  # of the largest output


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers whose outputs are units: convolutions and linear layers, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, _LAYERS)}


def check_runs(model: nn.Module, example: Tensor) -> None:
    """Every layer has to run once: what never runs keeps its size, and what runs twice has more than one use.

    Raises:
        UnsupportedModelError: one that runs another number of times on the example.
    """
    runs = Counter[str]()
    with borrowed(model), torch.no_grad(), fitting(model, example):
        for name, layer in layers(model).items():
            layer.register_forward_hook(lambda *_, name=name: runs.update([name]))
        model(example)
    for name in layers(model):
        if runs[name] != 1:
            raise UnsupportedModelError(
                f"{type(model).__name__} runs its layer {name!r} {runs[name]} times in evaluation mode; expected once, "
                "so that its units can be cut. Leave unused layers out, and give each step a layer of its own."
            )


def cut(model: nn.Module, example: Tensor, importance: Importance, share: float, scope: Scope) -> nn.Module:
    """A copy of the model without the share of units that matter least.

    Units that are tied together, such as the summed filters of a ResNet, go together; each layer keeps at least one,
    the outputs keep all. The copy is proved on the example: it computes what the model does with those units silent.

    Args:
        model: every layer of which runs once, see `check_runs`.

    Raises:
        UnsupportedModelError: a graph that can't be cut, or a copy that computes something else.
    """
    smaller = copy.deepcopy(model)
    names = {layer: name for name, layer in layers(smaller).items()}
    with _cutting(smaller):
        graph = torch_pruning.DependencyGraph().build_dependency(smaller, example)
        ties = [_Ties.of(group, names, importance) for group in graph.get_all_groups(root_module_types=_LAYERS)]
        ties = [tie for tie in ties if tie.read]
        cuts = _planned(graph, ties, _least(ties, share) if scope == "layer" else _least_of_all(ties, share))
        for dependency, units in cuts:
            dependency(units)
        with torch.no_grad():
            found = smaller(example)
    silent = {names[made.target.module]: units for made, units in cuts if _takes_in(made)}
    _prove(model, example, silent, found)
    return smaller


@dataclass(frozen=True, eq=False)
class _Ties:
    """Units that can only go together with others: those of one or more layers, place by place."""

    root: Any  # torch-pruning's dependency that the places count the units of
    worth: Tensor  # (places,) mean importance over the units there, on the CPU in double precision
    blocks: int  # a place stands for one unit in each of so many equal blocks
    read: bool  # whether a layer takes them in; else they are the outputs

    @classmethod
    def of(cls, group: Any, names: Mapping[nn.Module, str], importance: Importance) -> "_Ties":
        total, makers = torch.zeros(2, len(group[0].idxs), dtype=torch.float64)
        for member in group:
            name = names.get(member.dep.target.module)
            if name is not None and name in importance and not _takes_in(member.dep):
                places = torch.tensor(member.root_idxs)
                total.index_add_(0, places, importance[name].detach().cpu().double()[member.idxs])
                makers.index_add_(0, places, torch.ones(len(places), dtype=torch.float64))
        blocks = lcm(*(_blocks(member) for member in group))
        worth = (total / makers.clamp(min=1)).unflatten(0, (blocks, -1)).mean(0)
        return cls(group[0].dep, worth, blocks, any(_takes_in(member.dep) for member in group))

    def units(self, places: list[int]) -> list[int]:
        """The root's units at these places, in all blocks."""
        return [block * len(self.worth) + place for block in range(self.blocks) for place in places]


def _blocks(member: Any) -> int:
    """In how many blocks a grouped convolution holds its units: from each, the same places have to go.

    Raises:
        UnsupportedModelError: it holds them in another order than the root of the group.
    """
    layer = member.dep.target.module
    groups = layer.groups if isinstance(layer, _LAYERS) and not isinstance(layer, nn.Linear) else 1
    if groups == 1 or groups == layer.in_channels == layer.out_channels:
        return 1
    if list(member.idxs) != list(member.root_idxs) or len(member.idxs) % groups:
        raise UnsupportedModelError(f"{member.dep.target.name} convolves a concatenation in {groups} groups.")
    return int(groups)


def _takes_in(dependency: Any) -> bool:
    """Whether a layer loses inputs here; a depthwise convolution loses its inputs as outputs."""
    return isinstance(dependency.target.module, _LAYERS) and "in_channels" in dependency.handler.__name__


def _least(ties: list[_Ties], share: float) -> list[list[int]]:
    """Of each, the share of places that matter least, but never all."""
    counts = [min(round(share * len(tie.worth)), len(tie.worth) - 1) for tie in ties]
    return [tie.worth.argsort(stable=True)[:count].tolist() for tie, count in zip(ties, counts, strict=True)]


def _least_of_all(ties: list[_Ties], share: float) -> list[list[int]]:
    """The places that matter least anywhere, up to that share of all units; the last of each stays."""
    budget = round(share * sum(len(tie.worth) * tie.blocks for tie in ties))
    gone: list[list[int]] = [[] for _ in ties]
    everywhere = [(worth, at, place) for at, tie in enumerate(ties) for place, worth in enumerate(tie.worth.tolist())]
    for _, at, place in sorted(everywhere):
        if len(gone[at]) + 1 < len(ties[at].worth) and ties[at].blocks <= budget:
            gone[at].append(place)
            budget -= ties[at].blocks
    return gone


def _planned(graph: Any, ties: list[_Ties], places: list[list[int]]) -> list[tuple[Any, list[int]]]:
    """What each module of the model is to lose, all found before anything is cut, while the places still hold."""
    own = set(graph.model.modules())
    lost: dict[tuple[nn.Module, str], tuple[Any, set[int]]] = {}
    for tie, gone in zip(ties, places, strict=True):
        if gone:
            for member in graph.get_pruning_group(tie.root.target.module, tie.root.handler, tie.units(gone)):
                key = member.dep.target.module, member.dep.handler.__name__
                if key[0] in own:
                    lost.setdefault(key, (member.dep, set()))[1].update(member.idxs)
    return [(dependency, sorted(units)) for dependency, units in lost.values()]


@contextmanager
def _cutting(model: nn.Module) -> Iterator[None]:
    """The model with what tracing needs, evaluation mode and gradients; errors on the way become ours."""
    modes = {module: module.training for module in model.modules()}
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    model.eval().requires_grad_(True)
    try:
        with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
            warnings.filterwarnings("error", message="Unwrapped parameters")  # whose use nobody knows
            yield
    except XaiCompareError:
        raise
    except Exception as error:
        raise UnsupportedModelError(
            f"{type(model).__name__} can't be cut ({type(error).__name__}: {error}); expected layers whose widths "
            "nothing but the layers knows. Take sizes from the tensors: x.flatten(1), not x.view(-1, 512)."
        ) from error
    for module, mode in modes.items():
        module.training = mode
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(flags[name])


def _prove(model: nn.Module, example: Tensor, silent: Mapping[str, list[int]], found: Tensor) -> None:
    """The outputs found must be those of the whole model where these inputs of its layers are 0."""
    whole = layers(model)
    with borrowed(model), torch.no_grad():
        for name, units in silent.items():
            whole[name].register_forward_pre_hook(_silencing(units, -1 if isinstance(whole[name], nn.Linear) else 1))
        expected = checked_outputs(model(example), len(example))
    apart = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
    if not apart <= _TOLERANCE * float(expected.abs().max()):
        raise UnsupportedModelError(
            f"{type(model).__name__}, cut, computes something else than with the same units silent (apart by "
            f"{apart:.3g}); expected the same. A step mixes its channels, as LayerNorm and channel shuffling do."
        )


def _silencing(units: list[int], dim: int) -> Any:
    def silence(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return given[0].index_fill(dim, torch.tensor(units, device=given[0].device), 0.0), *given[1:]

    return silence
