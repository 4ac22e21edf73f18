"""The sweep: one forward pass that keeps what is needed, and relevance sent back step by step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from xaicompare.diagnosis.repair import Sum
from xaicompare.errors import SettingError
from xaicompare.lrp.affine import Affine, affine_of, merged, outer_padding
from xaicompare.lrp.composite import Composite, Place
from xaicompare.lrp.graph import Network, Step, as_average, gate_of
from xaicompare.lrp.rules import Pass, Passed, Rule, Situation, ZBox, quotient

Observer = Callable[[str, Tensor, Tensor], None]
"""Told of every step on the way down: its name, the relevance of its outputs, and what it loses (n,)."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A network with a rule for every layer that has weights."""

    network: Network
    composite: Composite
    rules: dict[fx.Node, Rule]
    rectified: frozenset[fx.Node]  # whose outputs below 0 nobody needs, and a ReLU may write over; see `_rectified`


def planned(network: Network, composite: Composite) -> Plan:
    """Gives each layer its rule, and finds what needs not be kept.

    Raises:
        UnsupportedModelError: the composite names a layer that isn't there, or a product has no gate.
        SettingError: a rule for a layer that it does not fit.
    """
    layers = [step for step in network.steps if step.role == "affine"]
    places = _places(network, layers)
    chosen = composite.rules(places)
    for place, rule in zip(places, chosen, strict=True):
        _check_fit(place, rule)
    rules = {step.node: rule for step, rule in zip(layers, chosen, strict=True)}
    for step in network.steps:
        if step.role == "gated":
            gate_of(step, network.traced)
    return Plan(network, composite, rules, _rectified(network, rules))


def _check_fit(place: Place, rule: Rule) -> None:
    if isinstance(rule, Pass) and place.kind != "normalisation":
        raise SettingError(
            f"rule 'pass' for {place.name}, a {place.kind} layer; expected it where a neuron has one input, such as "
            "BatchNorm. Use 'epsilon'."
        )
    if isinstance(rule, ZBox) and not place.first:
        raise SettingError(
            f"rule 'z-box' for {place.name}, which reads no pixels; expected it for the first layers. Use 'gamma'."
        )


def _places(network: Network, layers: list[Step]) -> list[Place]:
    kinds = [_kind(step.module) for step in layers]
    weighted = [place for place, kind in enumerate(kinds) if kind != "normalisation"]
    above = {place: len(weighted) - 1 - number for number, place in enumerate(weighted)}
    return [
        Place(step.name, kind, step.node in network.reads_inputs, above.get(place, len(layers)))  # type: ignore[arg-type]
        for place, (step, kind) in enumerate(zip(layers, kinds, strict=True))
    ]


def _kind(module: nn.Module | None) -> str:
    if isinstance(module, nn.Linear):
        return "dense"
    return "convolution" if isinstance(module, nn.modules.conv._ConvNd) else "normalisation"


def _rectified(network: Network, rules: dict[fx.Node, Rule]) -> frozenset[fx.Node]:
    """Layers and sums followed by a ReLU alone, whose outputs of 0 no rule above gives relevance.

    A BatchNorm that is merged with its layer counts with it. Views don't: others may see the same memory.
    """
    clean: dict[fx.Node, bool] = {}  # whether relevance is 0 where the node's value is 0
    steps = {step.node: step for step in network.steps}
    found: set[fx.Node] = set()
    for step in reversed(network.steps):
        users = [steps[user] for user in step.node.users if user in steps]
        clean[step.node] = bool(users) and all(
            not rules[user.node].feeds_zeros if user.role == "affine" else user.role == "shared" or clean[user.node]
            for user in users
        )
        rule = rules.get(step.node)
        if (rule is None and not isinstance(step.module, Sum)) or (rule and rule.reads_negative) or len(users) != 1:
            continue
        made = {step.node}
        if step.node in network.norms:
            made.add(users[0].node)
            users = [steps[user] for user in users[0].node.users if user in steps]
        if len(users) == 1 and users[0].rectifies and clean[users[0].node]:
            found |= made
    return frozenset(found)


class Forward:
    """The values of a forward pass that the sweep will ask for."""

    def __init__(self, plan: Plan, inputs: Tensor, *, keep_graph: bool) -> None:
        self.plan = plan
        self.keep_graph = keep_graph
        self.values: dict[fx.Node, Any] = {}
        self.winners: dict[fx.Node, Tensor] = {}  # of max-poolings: where the greatest was
        network = plan.network
        steps = {step.node: step for step in network.steps}
        with torch.enable_grad() if keep_graph else torch.no_grad():
            for node in network.traced.graph.nodes:
                if node is network.entry:
                    self.values[node] = inputs
                elif node in steps:
                    self.values[node] = self._of(steps[node])
                elif node.op not in ("output", "placeholder"):
                    self.values[node] = network.computed(node, self.values)
        self.n = len(inputs)

    @property
    def outputs(self) -> Tensor:
        """(n, classes)."""
        return self.values[self.plan.network.exit]

    def _of(self, step: Step) -> Any:
        if step.role == "affine":
            a = self.padded(step)
            layer = self.layer(step)
            return layer.up(a, layer.weight, layer.bias)
        if step.role == "same" and not step.rectifies:
            if self._is_merged(step):
                return self.values[step.sources[0]]
        elif type(step.module) is nn.ReLU and step.sources[0] in self.plan.rectified and not self.keep_graph:
            return self.values[step.sources[0]].relu_()
        elif type(step.module) is nn.MaxPool2d and self.plan.composite.max_pooling == "winner":
            pooled, self.winners[step.node] = torch.ops.aten.max_pool2d_with_indices(
                self.values[step.sources[0]], *_window(step.module)
            )
            return pooled
        return self.plan.network.computed(step.node, self.values)

    def _is_merged(self, step: Step) -> bool:
        return step.sources[0] in self.plan.network.norms and isinstance(step.module, nn.modules.batchnorm._BatchNorm)

    def layer(self, step: Step) -> Affine:
        """The affine map of a layer, with the BatchNorm that belongs to it."""
        assert step.module is not None
        layer = affine_of(step.module)
        assert layer is not None
        norm = self.plan.network.norms.get(step.node)
        return layer if norm is None else merged(layer, norm)

    def padded(self, step: Step) -> Tensor:
        """What a layer with weights reads."""
        a: Tensor = self.values[step.sources[0]]
        padding = outer_padding(step.module) if step.module is not None else None
        return a if padding is None else nn.functional.pad(a, *padding)


def swept(forward: Forward, start: Tensor, observe: Observer | None = None) -> Passed:
    """Sends relevance from the outputs down to the inputs.

    Args:
        forward: a forward pass of n samples; its values are dropped on the way, unless it keeps the graph.
        start: (k n, classes) relevance of the outputs: k starts for all samples, one after the other.
        observe: see `Observer`.

    Returns:
        The relevance of the inputs (k n, ...), and all that was lost on the way (k n,).
    """
    with torch.enable_grad() if forward.keep_graph else torch.no_grad():
        return _Sweep(forward, start, observe).down()


class _Sweep:
    """Relevance by node, on its way down."""

    def __init__(self, forward: Forward, start: Tensor, observe: Observer | None) -> None:
        self.forward, self.plan, self.network = forward, forward.plan, forward.plan.network
        self.observe = observe
        self.copies = len(start) // forward.n
        self.relevance: dict[fx.Node, Any] = {self.network.exit: start}
        self.lost = start.new_zeros(len(start))

    def down(self) -> Passed:
        for step in reversed(self.network.steps):
            relevance = self.relevance.pop(step.node, None)
            if relevance is not None:
                lost = self._send(step, relevance)
                if lost is not None:
                    self.lost = self.lost + lost
                if self.observe is not None and isinstance(relevance, Tensor):
                    self.observe(step.name, relevance, torch.zeros_like(self.lost) if lost is None else lost)
            if not self.forward.keep_graph:
                self.forward.values.pop(step.node, None)
        return Passed(self.relevance[self.network.entry], self.lost)

    def _send(self, step: Step, relevance: Any) -> Tensor | None:
        """Hands the relevance of one step's outputs to its inputs; what is lost (n,), None for nothing."""
        if step.role == "same":
            self._give(step.sources[0], relevance)
            return None
        if step.role == "gated":
            gate = gate_of(step, self.network.traced)
            self._give(next(source for source in step.sources if source is not gate), relevance)
            return None
        if step.role == "affine":
            return self._by_rule(step, relevance)
        if step.role == "shared" or (step.pools_by_maximum and self.plan.composite.max_pooling == "average"):
            return self._in_proportion(step, relevance)
        return self._along(step, relevance)

    def _give(self, node: fx.Node, relevance: Any) -> None:
        known = self.relevance.get(node)
        self.relevance[node] = relevance if known is None else known + relevance

    def _by_rule(self, step: Step, relevance: Tensor) -> Tensor:
        forward = self.forward
        a, layer, rule = forward.padded(step), forward.layer(step), self.plan.rules[step.node]
        passed = rule(
            Situation(
                layer,
                self._spread(a),
                self._spread(forward.values[step.node]),
                relevance,
                nonnegative=step.sources[0] in self.network.nonnegative,
                positive=step.node in self.plan.rectified and not forward.keep_graph,
            )
        )
        padding = outer_padding(step.module) if step.module is not None else None
        lower = passed.relevance
        if padding is not None:
            lower = self._pulled(lambda x: nn.functional.pad(x, *padding), self._value(step), lower)
        self._give(step.sources[0], lower)
        return passed.lost

    def _in_proportion(self, step: Step, relevance: Tensor) -> Tensor:
        """By contribution: for sums of branches and means."""
        values = self.forward.values
        sources = [source for source in step.sources if isinstance(values[source], Tensor)]
        if isinstance(step.module, Sum):
            given = [self._spread(values[node]) for node in step.node.args]  # type: ignore[index]
            s = quotient(relevance, given[0] + given[1])
            parts = [(node, part * s) for node, part in zip(step.node.args, given, strict=True)]
            parts = [(node, _reduced(part, self._spread(values[node]))) for node, part in parts]  # type: ignore[index]
        else:
            s = quotient(relevance, self._spread(self._operation(step)(values[sources[0]])))
            pulled = [self._pulled(self._operation(step, source), values[source], s) for source in sources]
            parts = [(node, self._spread(values[node]) * each) for node, each in zip(sources, pulled, strict=True)]
        for node, part in parts:
            self._give(node, part)  # type: ignore[arg-type]
        return _left(relevance, [part for _, part in parts])

    def _along(self, step: Step, relevance: Any) -> Tensor | None:
        """With the values that a step moves: shapes, concatenations, the greatest of a window.

        What falls to constants among them (the rim of a padding, a class token) is lost.
        """
        values = self.forward.values
        if len(step.sources) == 1 and isinstance(values[step.sources[0]], tuple):
            source, place = step.sources[0], step.node.args[1]
            known = self.relevance.setdefault(source, {})
            known[place] = known[place] + relevance if place in known else relevance
            return None
        if step.node in self.forward.winners:
            a, winners = self._spread(self._value(step)), self._spread(self.forward.winners.pop(step.node))
            back = torch.ops.aten.max_pool2d_with_indices_backward
            self._give(step.sources[0], back(relevance, a, *_window(step.module), winners))
            return None
        pulled = {node: self._pulled(self._operation(step, node), values[node], relevance) for node in step.sources}
        for node, part in pulled.items():
            self._give(node, part)
        if not step.has_constants:
            return None
        return _left(relevance, list(pulled.values()))

    def _operation(self, step: Step, source: fx.Node | None = None) -> Callable[[Tensor], Any]:
        """A step as a function of one of its sources, the others as they were."""
        if step.pools_by_maximum and self.plan.composite.max_pooling == "average":
            return as_average(step.module)  # type: ignore[arg-type]
        name = (source or step.sources[0]).name
        return lambda x: self.network.computed(step.node, self.forward.values, **{name: x})

    def _pulled(self, operation: Callable[[Tensor], Any], at: Tensor, relevance: Any) -> Tensor:
        """The transposed map of an operation at a point, applied to relevance."""
        with torch.enable_grad():
            point = at.detach().requires_grad_()
            made = operation(point)
            if isinstance(relevance, dict):  # of some of several outputs
                outs, given = [made[place] for place in relevance], list(relevance.values())
            else:
                outs, given = [made], [relevance]
            parts = [each.split(self.forward.n) for each in given]  # sizes are written into views: no larger batch
            keep = self.forward.keep_graph
            found = [
                torch.autograd.grad(outs, point, part, create_graph=keep, retain_graph=True)[0]
                for part in zip(*parts, strict=True)
            ]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _value(self, step: Step) -> Tensor:
        return self.forward.values[step.sources[0]]

    def _spread(self, values: Tensor) -> Tensor:
        """Values of n samples beside relevance of k n."""
        return values if self.copies == 1 else values.repeat(self.copies, *[1] * (values.ndim - 1))


def _window(pool: Any) -> tuple[Any, ...]:
    """The settings of a MaxPool2d, in the order of the operation behind it, with pairs for numbers."""
    sides = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    pairs = (list(side) if isinstance(side, (list, tuple)) else [side, side] for side in sides)
    return (*pairs, pool.ceil_mode)


def _left(relevance: Tensor, parts: list[Tensor]) -> Tensor:
    """What remains of the relevance of a step when its inputs have had their parts, (n,)."""
    return relevance.flatten(1).sum(1) - torch.stack([part.flatten(1).sum(1) for part in parts]).sum(0)


def _reduced(part: Tensor, like: Tensor) -> Tensor:
    """Summed to the shape of what was broadcast."""
    return part if part.shape == like.shape else part.sum_to_size(like.shape)
