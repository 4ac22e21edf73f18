"""A forward pass that keeps what the sweep will ask for."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from xaicompare.lrp.affine import Affine, Statistics, affine_of, affine_of_call, merged, outer_padding
from xaicompare.lrp.graph import Step
from xaicompare.lrp.plan import Plan


class Forward:
    """What a forward pass of n samples leaves: the values that relevance is shared by."""

    def __init__(self, plan: Plan, n: int, *, keep_graph: bool = False, single: bool = False) -> None:
        self.plan = plan
        self.n = n
        self.keep_graph = keep_graph
        self.single = single  # relevance is computed in single precision, where values and weights have half of it
        self.values: dict[fx.Node, Any] = {}
        self.winners: dict[fx.Node, Tensor] = {}  # of max-poolings: where the greatest was
        self.statistics: dict[fx.Node, Statistics] = {}  # of BatchNorms that used the batch's own

    @property
    def outputs(self) -> Tensor:
        """(n, classes)."""
        return self.at(self.plan.network.exit)

    def at(self, node: fx.Node) -> Any:
        """The value of a node."""
        value = self.values[node]
        return in_single(value) if self.single and isinstance(value, Tensor) else value

    def layer(self, step: Step) -> Affine:
        """The affine map of a layer, with the BatchNorm that belongs to it."""
        if step.module is None:
            args = fx.node.map_arg(step.node.args, lambda node: self.values.get(node))
            return affine_of_call(step.node.target, args)
        layer = affine_of(step.module, self.statistics.get(step.node))
        assert layer is not None
        norm = self.plan.network.norms.get(step.node)
        if norm is not None:
            layer = merged(layer, norm, self.statistics.get(step.node))
        if not self.single:
            return layer
        return replace(
            layer, weight=in_single(layer.weight), bias=None if layer.bias is None else in_single(layer.bias)
        )

    def padded(self, step: Step) -> Tensor:
        """What a layer with weights reads."""
        a: Tensor = self.at(step.sources[0])
        padding = outer_padding(step.module) if step.module is not None else None
        return a if padding is None else nn.functional.pad(a, *padding)


def evaluated(plan: Plan, inputs: Tensor, *, keep_graph: bool = False) -> Forward:
    """The forward pass in evaluation mode; with `keep_graph` the relevance can be differentiated."""
    network = plan.network
    forward = Forward(plan, len(inputs), keep_graph=keep_graph)
    steps = {step.node: step for step in network.steps}
    with torch.enable_grad() if keep_graph else torch.no_grad():
        for node in network.traced.graph.nodes:
            if node is network.entry:
                forward.values[node] = inputs
            elif node in steps:
                forward.values[node] = _value(forward, steps[node])
            elif node.op not in ("output", "placeholder"):
                forward.values[node] = network.computed(node, forward.values)
    return forward


def _value(forward: Forward, step: Step) -> Any:
    plan, below = forward.plan, step.sources[0]
    if step.role == "affine":
        layer = forward.layer(step)
        return layer.up(forward.padded(step), layer.weight, layer.bias)
    if step.role == "same" and not step.rectifies:
        if below in plan.network.norms and isinstance(step.module, nn.modules.batchnorm._BatchNorm):
            return forward.values[below]
    elif type(step.module) is nn.ReLU and below in plan.rectified and not forward.keep_graph:
        return forward.values[below].relu_()
    elif plan.takes_winners(step):
        pooled, forward.winners[step.node] = pooled_with_winners(step.module, forward.values[below])
        return pooled
    return plan.network.computed(step.node, forward.values)


def pooled_with_winners(pool: Any, values: Tensor) -> tuple[Tensor, Tensor]:
    """What a MaxPool2d returns, and where it took it from."""
    return torch.ops.aten.max_pool2d_with_indices(values, *window(pool))


def window(pool: Any) -> tuple[Any, ...]:
    """The settings of a MaxPool2d, in the order of the operation behind it, with pairs for numbers."""
    sides = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    pairs = (list(side) if isinstance(side, (list, tuple)) else [side, side] for side in sides)
    return (*pairs, pool.ceil_mode)


def in_single(values: Tensor) -> Tensor:
    """The values, in single precision where they had half of it."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
