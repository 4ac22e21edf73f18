"""Where guidance goes: from the output down to the lowest guided layer, and what has to be kept for that."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import fx, nn

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
    guided: dict[fx.Node, str]  # the name of each guided layer
    above: frozenset[fx.Node]  # steps that relevance has to go through to reach them
    kept: frozenset[fx.Node]  # values that it then reads
    stands: dict[fx.Node, fx.Node]  # layer: the node whose values stand for its outputs
    spent: dict[fx.Node, list[fx.Node]]  # node: whose values nobody reads afterwards
    inplace: tuple[nn.Module, ...]  # modules that would overwrite what is kept

    @property
    def steps(self) -> dict[fx.Node, Step]:
        """Step by node, in the order of the forward pass."""
        return {step.node: step for step in self.plan.network.steps}


def routed(plan: Plan, layers: Layers, *, with_inputs: bool = False) -> Route:
    """The route to the guided layers.

    Args:
        with_inputs: what the guided layers read is kept, too.

    Raises:
        UnknownNameError: a name that no layer has.
        SettingError: no layer is left to guide: the output layer never is one.
        UnsupportedModelError: a BatchNorm whose statistics come from other processes.
    """
    network = plan.network
    guided = _guided(network, layers)
    above: set[fx.Node] = set()
    for step in network.steps:
        if any(source in above or source in guided for source in step.sources):
            above.add(step.node)
    kept, stands = set[fx.Node](), dict[fx.Node, fx.Node]()
    for step in network.steps:
        if step.node not in above:
            continue
        _check(step)
        if step.role not in ("same", "gated"):
            kept.update(step.node.all_input_nodes)
        if step.role == "affine":
            stands[step.node] = _stand_in(plan, step.node)
            kept.add(stands[step.node])
    if with_inputs:
        kept.update(source for node in guided for source in node.all_input_nodes)
    modules = {step.module for step in network.steps if getattr(step.module, "inplace", False) is True}
    return Route(plan, guided, frozenset(above), frozenset(kept), stands, _spent(network), tuple(filter(None, modules)))


def _guided(network: Network, layers: Layers) -> dict[fx.Node, str]:
    weighted = [step for step in network.steps if isinstance(step.module, (nn.Linear, nn.modules.conv._ConvNd))]
    named = {step.node: str(step.node.meta["layer"]) for step in weighted}
    output = named.get(weighted[-1].node) if weighted else None
    hidden = {step.node: step.module for step in weighted if named[step.node] != output}
    if isinstance(layers, str) and layers in _KINDS:
        chosen = [node for node, module in hidden.items() if module is not None and _KINDS[layers](module)]
    else:
        patterns = [layers] if isinstance(layers, str) else list(layers)
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in named.values()):
                raise unknown("layer", pattern, [*named.values(), *_KINDS])
        chosen = [node for node in hidden if any(fnmatchcase(named[node], pattern) for pattern in patterns)]
    if not chosen:
        raise SettingError(
            f"layers={layers!r} leaves nothing to guide; expected a layer below the output layer, {output}. "
            f"Choose among {', '.join(dict.fromkeys(named[node] for node in hidden)) or 'none'}."
        )
    return {node: named[node] for node in chosen}


def _check(step: Step) -> None:
    if isinstance(step.module, nn.SyncBatchNorm):
        raise UnsupportedModelError(
            f"{step.name} is a SyncBatchNorm, whose statistics other processes share; expected BatchNorms of this "
            "process alone. Use BatchNorm, or guide layers above it."
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
