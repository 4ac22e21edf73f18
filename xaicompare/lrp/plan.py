"""Which layer of a network gets which rule, and what the sweep will not need."""

from dataclasses import dataclass

import torch
from torch import fx, nn

from xaicompare.diagnosis.recorded import linear
from xaicompare.diagnosis.repair import Sum
from xaicompare.errors import SettingError
from xaicompare.lrp.composite import Composite, Place
from xaicompare.lrp.graph import Network, Step, gate_of
from xaicompare.lrp.rules import Pass, Rule, ZBox


@dataclass(frozen=True, eq=False)
class Plan:
    """A network with a rule for every layer that has weights."""

    network: Network
    composite: Composite
    rules: dict[fx.Node, Rule]
    rectified: frozenset[fx.Node]  # whose outputs below 0 nobody needs, and a ReLU may write over; see `_rectified`

    def takes_winners(self, step: Step) -> bool:
        """Whether the forward pass has to note where a max-pooling found the greatest values."""
        return type(step.module) is nn.MaxPool2d and self.composite.max_pooling == "winner"


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
    kinds = [_kind(step) for step in layers]
    weighted = [place for place, kind in enumerate(kinds) if kind != "normalisation"]
    above = {place: len(weighted) - 1 - number for number, place in enumerate(weighted)}
    return [
        Place(step.name, kind, step.node in network.reads_inputs, above.get(place, len(layers)))  # type: ignore[arg-type]
        for place, (step, kind) in enumerate(zip(layers, kinds, strict=True))
    ]


def _kind(step: Step) -> str:
    if isinstance(step.module, nn.Linear) or step.node.target is linear:
        return "dense"
    convolves = (
        isinstance(step.module, nn.modules.conv._ConvNd) or step.node.target is torch.ops.aten.convolution.default
    )
    return "convolution" if convolves else "normalisation"


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
