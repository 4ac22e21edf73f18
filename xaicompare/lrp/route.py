"""Where guidance goes: from the output down to the lowest guided layer, and what has to be kept for that."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import fx, nn
from torch.nn.utils import parametrize

from xaicompare.errors import SettingError, UnsupportedModelError, unknown
from xaicompare.lrp.graph import Network, Step
from xaicompare.lrp.plan import Plan

Layers = str | Sequence[str]
"""Guided layers: "all", "linear", "conv", or names, with * and ? as in file names."""

_KINDS: dict[str, Callable[[nn.Module], bool]] = {
    "all": lambda _: True,
    "linear": lambda layer: isinstance(layer, nn.Linear),
    "conv": lambda layer: isinstance(layer, nn.modules.conv._ConvNd),
}


@dataclass(frozen=True, eq=False)
class Route:
    """A network with what a guided pass does at each of its nodes."""

    plan: Plan
    steps: dict[fx.Node, Step]  # in the order of the forward pass
    guided: dict[fx.Node, str]  # the name of each guided layer
    above: frozenset[fx.Node]  # steps that relevance has to go through to reach them
    kept: frozenset[fx.Node]  # values that it then reads
    stands: dict[fx.Node, fx.Node]  # layer: the node whose values stand for its outputs
    spent: dict[fx.Node, list[fx.Node]]  # node: whose values nobody reads afterwards
    inplace: tuple[nn.Module, ...]  # modules that would overwrite what is kept


def routed(plan: Plan, layers: Layers, *, with_inputs: bool = False) -> Route:
    """The route to the guided layers.

    Args:
        with_inputs: what the guided layers read is kept, too.

    Raises:
        UnknownNameError: a name that no layer has.
        SettingError: no layer is left to guide: the output layer never is one.
        UnsupportedModelError: a BatchNorm whose statistics come from other processes.
    """
    return _route(plan, _guided(plan.network, layers), with_inputs=with_inputs)


def routed_to_all(plan: Plan) -> Route:
    """The route to every layer with weights, with what each reads and makes; BatchNorms and the output layer are some.

    Raises:
        UnsupportedModelError: a step without a rule between them, or a BatchNorm with statistics of other processes.
    """
    useful = _useful(plan.network)
    layers = {step.node: step.name for step in plan.network.steps if step.role == "affine" and step.node in useful}
    return _route(plan, layers, with_inputs=True, with_outputs=True)


def _route(plan: Plan, guided: dict[fx.Node, str], *, with_inputs: bool, with_outputs: bool = False) -> Route:
    network = plan.network
    above: set[fx.Node] = set()
    useful = _useful(network)
    for step in network.steps:
        if step.node in useful and any(source in above or source in guided for source in step.sources):
            above.add(step.node)
    kept, stands = set[fx.Node](), dict[fx.Node, fx.Node]()
    for step in network.steps:
        if step.node in above or step.node in guided:
            _check(step)
        if step.node not in above:
            continue
        if step.role not in ("same", "gated") or (step.role == "gated" and plan.composite.attention == "follow"):
            kept.update(step.node.all_input_nodes)
        if step.role == "affine":
            stands[step.node] = _stand_in(plan, step.node)
            kept.add(stands[step.node])
    if with_inputs:
        kept.update(source for node in guided for source in node.all_input_nodes)
    if with_outputs:
        stands |= {node: _stand_in(plan, node) for node in guided}
        kept.update(stands.values())
    modules = {step.module for step in network.steps if getattr(step.module, "inplace", False) is True}
    steps = {step.node: step for step in network.steps}
    return Route(
        plan, steps, guided, frozenset(above), frozenset(kept), stands, _spent(network), tuple(filter(None, modules))
    )


def _guided(network: Network, layers: Layers) -> dict[fx.Node, str]:
    if not isinstance(layers, str) and not (
        isinstance(layers, Sequence) and all(isinstance(layer, str) for layer in layers)
    ):
        raise SettingError(f"layers={layers!r}; expected 'all', 'linear', 'conv', or names of layers.")
    outputs, hidden = _weighted(network)
    names = list(dict.fromkeys([*outputs.values(), *hidden.values()]))
    if isinstance(layers, str) and layers in _KINDS:
        chosen = [node for node in hidden if _KINDS[layers](_module(network, node))]
    else:
        patterns = [layers] if isinstance(layers, str) else list(layers)
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise unknown("layer", pattern, [*names, *_KINDS])
            if len(patterns) > 1 and pattern in outputs.values():
                raise SettingError(f"layers={layers!r} names the output layer, {pattern}, which is never guided.")
        chosen = [node for node in hidden if any(fnmatchcase(hidden[node], pattern) for pattern in patterns)]
    if not chosen:
        top, below = (", ".join(dict.fromkeys(part.values())) or "none" for part in (outputs, hidden))
        raise SettingError(
            f"layers={layers!r} leaves nothing to guide; expected a layer below the output layer, {top}. "
            f"Choose among {below}."
        )
    return {node: hidden[node] for node in chosen}


def _weighted(network: Network) -> tuple[dict[fx.Node, str], dict[fx.Node, str]]:
    """The names of layers with weights: those whose outputs reach the model's through no other; and those below."""
    steps = {step.node: step for step in network.steps}
    outputs: dict[fx.Node, str] = {}
    hidden: dict[fx.Node, str] = {}
    waiting, seen = [(network.exit, True)], set[tuple[fx.Node, bool]]()
    while waiting:
        node, top = waiting.pop()
        if (node, top) in seen or node not in steps:
            continue
        seen.add((node, top))
        weighted = isinstance(steps[node].module, (nn.Linear, nn.modules.conv._ConvNd))
        if weighted:
            (outputs if top else hidden)[node] = str(node.meta["layer"])
        waiting += [(source, top and not weighted) for source in steps[node].sources]
    below = {node: name for node, name in hidden.items() if name not in outputs.values()}
    return outputs, {node: below[node] for node in steps if node in below}


def _module(network: Network, node: fx.Node) -> nn.Module:
    return network.traced.get_submodule(str(node.target))


def _useful(network: Network) -> set[fx.Node]:
    """The nodes that the outputs depend on."""
    found = {network.exit}
    for step in reversed(network.steps):
        if step.node in found:
            found.update(step.sources)
    return found


def _check(step: Step) -> None:
    if isinstance(step.module, nn.SyncBatchNorm):
        raise UnsupportedModelError(
            f"{step.name} is a SyncBatchNorm, whose statistics other processes share; expected BatchNorms of this "
            "process alone. Use BatchNorm, or guide layers above it."
        )
    if step.role == "closed":
        what = step.name if step.module is None else f"{type(step.module).__name__} (at {step.name})"
        raise UnsupportedModelError(
            f"relevance has no rule for {what}, which stands above a guided layer. Guide only layers above it."
        )
    if step.module is not None and parametrize.is_parametrized(step.module):
        raise UnsupportedModelError(
            f"{step.name} has parametrizations, whose weights may change whenever they are read; expected weights that "
            "are parameters. Guide layers above it."
        )


def _stand_in(plan: Plan, layer: fx.Node) -> fx.Node:
    """A merged BatchNorm's values are the layer's outputs; and a ReLU's, where only those above 0 count."""
    steps = {step.node for step in plan.network.steps}
    stands = layer
    for passed in (layer in plan.network.norms, layer in plan.rectified):
        if passed:
            stands = next(node for node in stands.users if node in steps)
    return stands


def _spent(network: Network) -> dict[fx.Node, list[fx.Node]]:
    spent: dict[fx.Node, list[fx.Node]] = {}
    seen = {network.exit}
    for node in reversed(network.traced.graph.nodes):
        if node.op == "output":
            continue
        fresh = [source for source in node.all_input_nodes if source not in seen]
        spent[node] = fresh
        seen.update(fresh)
    return spent
