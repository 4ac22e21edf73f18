"""The sweep: relevance sent back through a forward pass, step by step."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from xaicompare.attended import PositionSoftmax
from xaicompare.diagnosis.repair import Sum
from xaicompare.lrp.affine import outer_padding
from xaicompare.lrp.forward import Forward, window
from xaicompare.lrp.graph import Step, as_average, gate_of, is_attention
from xaicompare.lrp.products import BY_ATTENTION
from xaicompare.lrp.rules import Passed, Situation, quotient

Observer = Callable[[str, Tensor, Tensor], None]
"""Told of every step on the way down: its name, the relevance of its outputs, and what it loses (n,)."""


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
        sweep = Sweep(forward, start)
        total = start.new_zeros(len(start))
        for step, relevance, lost in sweep.down():
            if lost is not None:
                total = total + lost
            if observe is not None and isinstance(relevance, Tensor):
                observe(step.name, relevance, torch.zeros_like(total) if lost is None else lost)
        return Passed(sweep.relevance[forward.plan.network.entry], total)


class Sweep:
    """Relevance by node, on its way down; relevance that nobody asked for is dropped as soon as it is handed on.

    Args:
        accounts: whether it is found out what each step loses.
    """

    def __init__(self, forward: Forward, start: Tensor, *, accounts: bool = True) -> None:
        self.forward, self.plan, self.network = forward, forward.plan, forward.plan.network
        self.copies = len(start) // forward.n
        self.accounts = accounts
        self.relevance: dict[fx.Node, Any] = {self.network.exit: start}

    def down(self) -> Iterator[tuple[Step, Any, Tensor | None]]:
        """Every step that relevance reaches, from the output down: that of its outputs, and what it loses (n,)."""
        for step in reversed(self.network.steps):
            relevance = self.relevance.pop(step.node, None)
            if relevance is not None:
                yield step, relevance, self.send(step, relevance)
            if not self.forward.keep_graph:
                self.forward.values.pop(step.node, None)

    def send(self, step: Step, relevance: Any) -> Tensor | None:
        """Hands the relevance of one step's outputs to its inputs; what is lost (n,), None for nothing."""
        if step.role == "same":
            self.give(step.sources[0], relevance)
            return None
        if step.role == "gated":
            self._through_gate(step, relevance)
            return None
        if step.role == "weights":
            return self._to_scores(step, relevance)
        if step.role in BY_ATTENTION:
            return BY_ATTENTION[step.role](self, step, relevance)
        if step.role == "affine":
            return self._by_rule(step, relevance)
        if step.role == "shared" or (step.pools_by_maximum and self.plan.composite.max_pooling == "average"):
            return self._in_proportion(step, relevance)
        return self._along(step, relevance)

    def give(self, node: fx.Node, relevance: Any) -> None:
        """Adds to the relevance of a node."""
        known = self.relevance.get(node)
        self.relevance[node] = relevance if known is None else known + relevance

    def _through_gate(self, step: Step, relevance: Tensor) -> None:
        """All to what a gate lets through; where the composite follows attention, half of it to the weights.

        Source: the half: Achtibat et al. 2024, arXiv:2402.05602, proposition 3.2 (products).
        """
        gate = gate_of(step, self.network.traced)
        passed = next(source for source in step.sources if source is not gate)
        if self.plan.composite.attention == "follow" and is_attention(gate, self.network.traced):
            relevance = relevance / 2
            self.give(gate, _reduced(relevance, self.spread(self.forward.at(gate))))
        self.give(passed, relevance)

    def _to_scores(self, step: Step, relevance: Tensor) -> Tensor:
        """Through softmax, to the scores before it: R_i = e_i (R_i - a_i sum_j R_j), e over the temperature.

        The rest falls to the point around which softmax is expanded, as relevance does to a bias.

        Source: Achtibat et al. 2024, arXiv:2402.05602, proposition 3.1.
        """
        at, softmax = self.forward.at, cast(PositionSoftmax, step.module)
        scores = self.spread(at(step.sources[0]))  # (k n, 1, h, w)
        weights = self.spread(at(step.node)) / scores[0].numel()
        whole = relevance.sum((1, 2, 3), keepdim=True)
        given = scores / softmax.temperature * (relevance - weights * whole)
        self.give(step.sources[0], given)
        return self.left(relevance, [given])

    def _by_rule(self, step: Step, relevance: Tensor) -> Tensor:
        forward = self.forward
        a, layer, rule = forward.padded(step), forward.layer(step), self.plan.rules[step.node]
        passed = rule(
            Situation(
                layer,
                self.spread(a),
                self.spread(forward.at(step.node)),
                relevance,
                accounts=self.accounts,
                nonnegative=step.sources[0] in self.network.nonnegative,
                positive=step.node in self.plan.rectified and not forward.keep_graph,
            )
        )
        self.hand_down(step, passed.relevance)
        return self._by_sample(passed.lost)

    def _by_sample(self, values: Tensor) -> Tensor:
        """Summed to (k n,); of a network that stands for one sample, whatever the first dimension is."""
        count = self.copies * self.forward.n
        return values if values.shape == (count,) else values.reshape(count, -1).sum(1)

    def hand_down(self, step: Step, lower: Tensor) -> None:
        """The relevance of what a layer with weights reads, its padding included, goes to where that comes from."""
        padding = outer_padding(step.module) if step.module is not None else None
        if padding is not None:
            lower = self.pulled(lambda x: nn.functional.pad(x, *padding), self._value(step), lower)
        self.give(step.sources[0], lower)

    def _in_proportion(self, step: Step, relevance: Tensor) -> Tensor:
        """By contribution: for sums of branches and means."""
        at = self.forward.at
        sources = [source for source in step.sources if isinstance(at(source), Tensor)]
        if isinstance(step.module, Sum):
            given = [self.spread(at(node)) for node in step.node.args]  # type: ignore[arg-type]
            s = quotient(relevance, given[0] + given[1])
            parts = [(node, part * s) for node, part in zip(step.node.args, given, strict=True)]
            # What falls to a constant, such as a position embedding, is lost: only branches get their part.
            parts = [(node, _reduced(part, self.spread(at(node)))) for node, part in parts if node in step.sources]  # type: ignore[arg-type]
        else:
            s = quotient(relevance, self.spread(self._operation(step)(at(sources[0]))))
            parts = [(source, self.shares(step, source, s)) for source in sources]
        for node, part in parts:
            self.give(node, part)  # type: ignore[arg-type]
        return self.left(relevance, [part for _, part in parts])

    def _along(self, step: Step, relevance: Any) -> Tensor | None:
        """With the values that a step moves: shapes, concatenations, the greatest of a window.

        What falls to constants among them (the rim of a padding, a class token) is lost.
        """
        at = self.forward.at
        if len(step.sources) == 1 and isinstance(at(step.sources[0]), (tuple, list)):
            source, place = step.sources[0], step.node.args[1]
            known = self.relevance.setdefault(source, {})
            known[place] = known[place] + relevance if place in known else relevance
            return None
        if step.node in self.forward.winners:
            a, winners = self.spread(self._value(step)), self.spread(self.forward.winners.pop(step.node))
            back = torch.ops.aten.max_pool2d_with_indices_backward
            self.give(step.sources[0], back(relevance, a, *window(step.module), winners))
            return None
        pulled = {node: self.pulled(self._operation(step, node), at(node), relevance) for node in step.sources}
        for node, part in pulled.items():
            self.give(node, part)
        if not step.has_constants:
            return None
        return self.left(relevance, list(pulled.values()))

    def _operation(self, step: Step, source: fx.Node | None = None) -> Callable[[Tensor], Any]:
        """A step as a function of one of its sources, the others as they were."""
        if step.pools_by_maximum and self.plan.composite.max_pooling == "average":
            return as_average(step)
        name = (source or step.sources[0]).name
        return lambda x: self.network.computed(step.node, self.forward.values, **{name: x})

    def pulled(self, operation: Callable[[Tensor], Any], at: Tensor, relevance: Any) -> Tensor:
        """The transposed map of an operation at a point, applied to relevance."""
        with torch.enable_grad():
            point = at.detach().requires_grad_()
            made = operation(point)
            if isinstance(relevance, dict):  # of some of several outputs
                outs, given = [made[place] for place in relevance], list(relevance.values())
            else:
                outs, given = [made], [relevance]
            parts = [each.chunk(self.copies) for each in given]  # sizes are written into views: no larger batch
            keep = self.forward.keep_graph
            found = [
                torch.autograd.grad(outs, point, part, create_graph=keep, retain_graph=True)[0]
                for part in zip(*parts, strict=True)
            ]
        return found[0] if len(found) == 1 else torch.cat(found)

    def left(self, relevance: Tensor, parts: list[Tensor]) -> Tensor:
        """What remains of the relevance of a step when its inputs have had their parts, (k n,)."""
        count = self.copies * self.forward.n
        whole, *given = (each.reshape(count, -1).sum(1) for each in (relevance, *parts))
        return whole - torch.stack(given).sum(0)

    def _value(self, step: Step) -> Tensor:
        return self.forward.at(step.sources[0])

    def shares(self, step: Step, source: fx.Node, s: Tensor) -> Tensor:
        """A source times the transposed map of s, the others as they were."""
        at = self.forward.at(source)
        return self.spread(at) * self.pulled(self._operation(step, source), at, s)

    def constants(self, step: Step) -> list[Any]:
        """The values of a step's arguments after the first."""
        return [fx.node.map_arg(arg, self.forward.values.get) for arg in step.node.args[1:]]

    def spread(self, values: Tensor) -> Tensor:
        """Values of n samples beside relevance of k n."""
        return values if self.copies == 1 else values.repeat(self.copies, *[1] * (values.ndim - 1))


def _reduced(part: Tensor, like: Tensor) -> Tensor:
    """Summed to the shape of what was broadcast."""
    return part if part.shape == like.shape else part.sum_to_size(like.shape)
