"""DeepLIFT's RevealCancel rule: what raises a neuron and what lowers it are followed apart.

Source: Shrikumar, Greenside, Kundaje 2017, arXiv:1704.02685, sections 3.3, 3.5.1 (linear rule) and 3.5.3.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from xaicompare.boundary import explained_start, shaped_outputs
from xaicompare.diagnosis.repair import function_name
from xaicompare.errors import UnsupportedModelError
from xaicompare.lrp.affine import Affine, affine_of, outer_padding
from xaicompare.lrp.graph import Network, Step, network
from xaicompare.methods._max_pool import max_pool_shares


class _Change(NamedTuple):
    """A node's value on the inputs and on the baselines, and their difference in two parts: rise + fall."""

    here: Tensor
    there: Tensor
    rise: Tensor  # at least 0
    fall: Tensor  # at most 0


class _Multipliers(NamedTuple):
    """How much the output changes per rise and per fall of a node."""

    rise: Tensor
    fall: Tensor


def reveal_cancel(model: nn.Module, inputs: Tensor, baselines: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Contributions of the inputs (n, ...) to the change of the output, and the logits (n, classes) of the baselines.

    Raises:
        UnsupportedModelError: a step without a rule, named.
    """
    steps = network(model, inputs)
    with torch.no_grad():
        changes = _changes(steps, inputs.detach(), baselines.detach())
        start = explained_start(changes[steps.exit].here, target, None)
        sent: dict[fx.Node, _Multipliers] = {steps.exit: _Multipliers(start, start)}
        for step in reversed(steps.steps):
            if step.node in sent:
                for source, found in _down(steps, step, changes, sent.pop(step.node)):
                    known = sent.get(source)
                    sent[source] = found if known is None else _Multipliers(*map(torch.add, known, found))
        entry, multipliers = changes[steps.entry], sent[steps.entry]
    return entry.rise * multipliers.rise + entry.fall * multipliers.fall, shaped_outputs(
        changes[steps.exit].there, len(inputs)
    )


def _changes(steps: Network, inputs: Tensor, baselines: Tensor) -> dict[fx.Node, Any]:
    by_node = {step.node: step for step in steps.steps}
    difference = inputs - baselines
    changes: dict[fx.Node, Any] = {
        steps.entry: _Change(inputs, baselines, difference.clamp(min=0), difference.clamp(max=0))
    }
    for node in steps.traced.graph.nodes:
        if node in by_node:
            changes[node] = _up(steps, by_node[node], changes)
        elif node.op not in ("placeholder", "output"):
            changes[node] = steps.computed(node, _side(changes, node, "here"))
    return changes


def _side(changes: dict[fx.Node, Any], node: fx.Node, side: str) -> dict[fx.Node, Any]:
    """What a node reads, on one side; sizes and parameters as they are."""
    return {each: getattr(changes[each], side, changes[each]) for each in node.all_input_nodes}


def _up(steps: Network, step: Step, changes: dict[fx.Node, Any]) -> _Change:
    here, there = (steps.computed(step.node, _side(changes, step.node, side)) for side in ("here", "there"))
    layer = _layer(step)
    before = changes[step.sources[0]]
    if layer is not None:
        plus, minus = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
        rise = layer.up(before.rise, plus) + layer.up(before.fall, minus)
        return _Change(here, there, rise, layer.up(before.rise, minus) + layer.up(before.fall, plus))
    if step.pools_by_maximum:
        return _Change(here, there, (here - there).clamp(min=0), (here - there).clamp(max=0))
    if step.role == "same":
        return _Change(here, there, *_revealed(steps, step, before))
    if step.role == "gated" or function_name(step.node) in ("sub", "rsub", "isub", "neg"):
        raise UnsupportedModelError(
            f"there is no RevealCancel rule for {step.name!r}. Use a method that needs gradients or outputs only."
        )
    blank = steps.computed(step.node, _zeros(step, changes))
    rise, fall = (steps.computed(step.node, _side(changes, step.node, side)) - blank for side in ("rise", "fall"))
    return _Change(here, there, rise, fall)


def _zeros(step: Step, changes: dict[fx.Node, Any]) -> dict[fx.Node, Any]:
    return _side(changes, step.node, "here") | {
        source: torch.zeros_like(changes[source].here) for source in step.sources
    }


def _revealed(steps: Network, step: Step, before: _Change) -> tuple[Tensor, Tensor]:
    """Rise and fall of a non-linearity: the mean of adding each first, and of adding it after the other."""

    def f(x: Tensor) -> Tensor:
        return steps.computed(step.node, {step.sources[0]: x})

    there, rise, fall = before.there, before.rise, before.fall
    none, both, risen, fallen = f(there), f(there + rise + fall), f(there + rise), f(there + fall)
    return (risen - none + both - fallen) / 2, (fallen - none + both - risen) / 2


def _down(
    steps: Network, step: Step, changes: dict[fx.Node, Any], sent: _Multipliers
) -> list[tuple[fx.Node, _Multipliers]]:
    source, layer = step.sources[0], _layer(step)
    before, after = changes[source], changes[step.node]
    if layer is not None:
        plus, minus = layer.weight.clamp(min=0), layer.weight.clamp(max=0)

        def down(a: Tensor, b: Tensor) -> Tensor:
            return layer.down(a, plus, before.here) + layer.down(b, minus, before.here)

        return [(source, _Multipliers(down(sent.rise, sent.fall), down(sent.fall, sent.rise)))]
    if step.pools_by_maximum:
        above = torch.where(after.here >= after.there, sent.rise, sent.fall)
        shares, difference = max_pool_shares(step.module, before.here, before.there, above), before.here - before.there
        each = torch.where(difference == 0, 0.0, shares / torch.where(difference == 0, 1.0, difference))
        return [(source, _Multipliers(each, each))]
    if step.role == "same":
        return [(source, _Multipliers(*(_rate(*part) for part in zip(after[2:], before[2:], sent, strict=True))))]
    found = []
    for each_source in step.sources:
        parts = [_transposed(steps, step, each_source, changes, side) for side in sent]
        found.append((each_source, _Multipliers(*parts)))
    return found


def _rate(after: Tensor, before: Tensor, sent: Tensor) -> Tensor:
    return torch.where(before == 0, 0.0, sent * after / torch.where(before == 0, 1.0, before))


def _transposed(steps: Network, step: Step, source: fx.Node, changes: dict[fx.Node, Any], sent: Tensor) -> Tensor:
    with torch.enable_grad():
        point = torch.zeros_like(changes[source].here).requires_grad_()
        made = steps.computed(step.node, _side(changes, step.node, "here"), **{source.name: point})
        return torch.autograd.grad(made, point, sent)[0]


def _layer(step: Step) -> Affine | None:
    if step.module is None:
        return None
    if outer_padding(step.module) is not None:
        raise UnsupportedModelError(f"RevealCancel knows no padding but zeros (at {step.name}).")
    return affine_of(step.module)
