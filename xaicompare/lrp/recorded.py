"""A recorded pass as steps that relevance can be swept through: transformers, and what `torch.fx` can't trace.

The rules are those of AttnLRP (Achtibat et al. 2024, arXiv:2402.05602). Layers with weights have the composite's rules;
functions of one number go neuron by neuron. A product of two activations gives each factor its half (proposition 3.2);
a gate (what a sigmoid gives), the statistic of a normalisation and, if the composite says so, the weights of attention
get none. Softmax has its Taylor expansion (3.1). Normalisations have their scale held constant (3.4).

It stands for one sample: only then does everything that a step loses, in whatever order its dimensions are, belong to
that sample. Samples are explained one after the other.
"""

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from xaicompare.diagnosis import recorded as ops
from xaicompare.diagnosis.linear_ops import MEANS, MOVES, SUMS, TIMES
from xaicompare.diagnosis.recorded import moving_nodes, path_of, recorded
from xaicompare.errors import UnsupportedModelError
from xaicompare.lrp.graph import Network, Role, Step, network

aten = torch.ops.aten
_GATES = frozenset({aten.sigmoid.default, aten.hardsigmoid.default})
_SOFTMAX = frozenset({aten._softmax.default, aten._safe_softmax.default})
_STATISTICS = frozenset({aten.linalg_vector_norm.default, aten.var.correction, aten.rsqrt.default, aten.sqrt.default})
_LAYERS = frozenset({aten.convolution.default, ops.linear, ops.batch_norm})
_POINTWISE = frozenset(
    {aten.relu.default, aten.leaky_relu.default, aten.elu.default, aten.silu.default, aten.gelu.default}
    | {aten.hardswish.default, aten.hardsigmoid.default, aten.hardtanh.default, aten.sigmoid.default}
    | {aten.tanh.default, aten.softplus.default, aten.mish.default, aten._prelu_kernel.default, aten.clamp.default}
    | {aten.clamp_min.default, aten.clamp_max.default, aten.abs.default, aten.erf.default, aten.exp.default}
    | {aten.rsqrt.default, aten.sqrt.default, aten.reciprocal.default, aten.log.default, aten.pow.Tensor_Scalar}
)
_PRODUCTS = frozenset({aten.mul.Tensor, aten.bmm.default, aten.mm.default, aten.div.Tensor})
_UNSIGNED = frozenset({aten.relu.default, aten.sigmoid.default, aten.hardsigmoid.default, aten.softplus.default})
_CARRIES_SIGN = MOVES | MEANS | {aten.add.Tensor, ops.max_pool2d}

_known: "weakref.WeakKeyDictionary[fx.GraphModule, Network]" = weakref.WeakKeyDictionary()


def any_network(model: nn.Module, inputs: Tensor) -> Network:
    """The steps of a model as `torch.fx` traces it, where its rules reach; else of a recorded pass of one sample.

    Raises:
        UnsupportedModelError: neither can be had.
    """
    try:
        return network(model, inputs)
    except UnsupportedModelError:
        return recorded_network(model, inputs)


def recorded_network(model: nn.Module, inputs: Tensor) -> Network:
    """The steps of a recorded pass of one sample, (1, ...).

    Raises:
        UnsupportedModelError: it can't be recorded, or has a step that relevance can't be sent through.
    """
    traced = recorded(model, inputs[:1])
    if traced not in _known:
        _known[traced] = _network(traced)
    return _known[traced]


def _network(traced: fx.GraphModule) -> Network:
    entry = next(node for node in traced.graph.nodes if node.op == "placeholder")
    last = next(node for node in traced.graph.nodes if node.op == "output").args[0]
    moving = moving_nodes(traced)
    roots = _Roots(moving)
    steps, unsigned, below, reading = [], set[fx.Node](), set[fx.Node](), set[fx.Node]()
    for node in traced.graph.nodes:
        sources = tuple(source for source in node.all_input_nodes if source in moving)
        if node.op != "call_function" or node not in moving:
            continue
        step = _step(node, sources, roots)
        steps.append(step)
        if step.role == "affine" and not below.intersection(sources):
            reading.add(node)
        if step.role == "affine" or below.intersection(sources):
            below.add(node)
        if _unsigned(node) or (
            node.target in _CARRIES_SIGN and len(sources) == len(_tensors(node)) and unsigned >= {*sources}
        ):
            unsigned.add(node)
    if not isinstance(last, fx.Node) or last not in moving:
        raise UnsupportedModelError("the model's record does not end in one tensor; expected outputs (n, classes).")
    named = frozenset(unsigned), frozenset(reading)
    return Network(traced, tuple(_named_apart(steps)), entry, last, {}, *named, alone=True)


def _tensors(node: fx.Node) -> list[fx.Node]:
    return list(node.all_input_nodes)


def _unsigned(node: fx.Node) -> bool:
    clamped = node.target in (aten.hardtanh.default, aten.clamp.default, aten.clamp_min.default)
    lowest = node.args[1] if clamped and len(node.args) > 1 else None
    return node.target in _UNSIGNED | _SOFTMAX or (isinstance(lowest, (int, float)) and lowest >= 0)


def _named_apart(steps: list[Step]) -> Iterator[Step]:
    """Names that come twice, as of a layer that runs twice, get a number."""
    seen: dict[str, int] = {}
    for step in steps:
        seen[step.name] = seen.get(step.name, 0) + 1
        name = step.name if seen[step.name] == 1 else f"{step.name}#{seen[step.name]}"
        yield Step(step.node, name, step.role, None, step.sources, step.held, step.attends)


def _step(node: fx.Node, sources: tuple[fx.Node, ...], roots: "_Roots") -> Step:
    role = _role(node, sources)
    if role is None:
        raise UnsupportedModelError(
            f"LRP has no rule for {node.target}() (node {node.name!r}). Use a method that needs gradients or outputs "
            "only, such as integrated_gradients."
        )
    path = path_of(node.args[1]) if role == "affine" else None
    held = frozenset[int]() if role != "product" else roots.held(node, sources)
    return Step(
        node, path or node.name, role, None, sources, held, roots.attends(sources) if role == "product" else None
    )


def _role(node: fx.Node, sources: tuple[fx.Node, ...]) -> Role | None:
    target, first = node.target, node.args[0] if node.args else None
    if target in _LAYERS:
        return "affine" if sources == (first,) else None
    if target in (ops.layer_norm, ops.group_norm):
        return "normalised" if sources == (first,) else None
    if target in _SOFTMAX:
        return "softmax"
    if target is ops.max_pool2d or target in (aten.amax.default,) or target in MOVES:
        return "moved"
    if target in _PRODUCTS and len(sources) > 1:
        return "product"
    if target in _PRODUCTS and sum(arg in sources for arg in node.args) > 1:
        return "same" if target is aten.mul.Tensor else None  # a square
    if target is aten.div.Tensor and sources != (first,):
        return None
    if target in TIMES or (target in _POINTWISE and len(sources) == 1):
        return "same"
    if target in MEANS | SUMS | _PRODUCTS or target is aten.linalg_vector_norm.default:
        return "shared"
    return None


class _Roots:
    """Where the factors of products come from: a gate, a statistic, the weights of attention."""

    def __init__(self, moving: set[fx.Node]) -> None:
        self.moving = moving

    def held(self, node: fx.Node, sources: tuple[fx.Node, ...]) -> frozenset[int]:
        """The factors that get no relevance, by their place among the sources: gates, statistics, what divides."""
        found = {
            place for place, source in enumerate(sources) if self._stems(source, _GATES) or self._is_statistic(source)
        }
        if node.target is aten.div.Tensor:
            found.add(sources.index(node.args[1]))
        return frozenset(found) if len(found) < len(sources) else frozenset()

    def attends(self, sources: tuple[fx.Node, ...]) -> int | None:
        """Which factor is the weights of attention, if any is."""
        found = [place for place, source in enumerate(sources) if self._stems(source, _SOFTMAX)]
        return found[0] if len(found) == 1 else None

    def _stems(self, node: fx.Node, kinds: frozenset[Any]) -> bool:
        """Whether a node's values are what one of these gave, moved, or times a number."""
        while node.target in MOVES | TIMES:
            moving = [source for source in node.all_input_nodes if source in self.moving]
            if len(moving) != 1:
                return False
            node = moving[0]
        return node.target in kinds

    def _is_statistic(self, node: fx.Node) -> bool:
        """Whether it is a norm, a variance, or one over its root: whatever one number does to it, and means of it."""
        while node.target not in _STATISTICS:
            moving = [source for source in node.all_input_nodes if source in self.moving]
            if node.target is aten.div.Tensor and all(self._is_statistic(source) for source in moving):
                return True
            if node.target not in MOVES | TIMES | SUMS | MEANS | _POINTWISE or len(moving) != 1:
                return False
            node = moving[0]
        return True
