"""A copy of a model in which every step is a module of its own."""

import inspect
import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from xaicompare.attended import PositionSoftmax
from xaicompare.borrow import sharing_copy
from xaicompare.boundary import checked_outputs, class_scores, logits_among
from xaicompare.diagnosis.kinds import ACTIVATIONS, CATS, MEANS, POOLS, PRODUCTS, SUMS
from xaicompare.errors import UnsupportedModelError
from xaicompare.turns import alone

_MODULE_OF = {**ACTIVATIONS, **POOLS, **MEANS}
_TOLERANCE = 1e-5  # of the largest output


class Sum(nn.Module):
    """The sum of two branches."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Equal shapes, or shapes that broadcast."""
        return first + second


class Concat(nn.Module):
    """Branches side by side."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *branches: Tensor) -> Tensor:
        """Equal shapes, but for `dim`."""
        return torch.cat(branches, self.dim)


class Product(nn.Module):
    """One branch times another: gating, as in squeeze-and-excitation."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Equal shapes, or shapes that broadcast."""
        return first * second


def repaired(model: nn.Module, example: Tensor, *, merge: bool, expected: Tensor | None = None) -> fx.GraphModule:
    """A copy whose steps are modules, each used once and none in place; its outputs are checked against the model's.

    The copy holds the model's own parameters, so that it follows them; only a merged BatchNorm makes new ones.

    Args:
        merge: put each BatchNorm into the convolution or linear layer before it.
        expected: the model's outputs for the example, where they are known.

    Raises:
        UnsupportedModelError: the graph can't be traced, or the copy computes something else.
    """
    copied = sharing_copy(model)
    if not list(copied.children()):
        copied = nn.Sequential(copied)  # a single layer is a step, too
    for module in copied.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]
    traced = as_modules(copied.eval())
    if merge:
        _merge_batch_norm(traced)
    with torch.no_grad():
        known = checked_outputs(model(example), len(example)) if expected is None else expected
    _prove(known, traced, example)
    return traced


def as_modules(model: nn.Module) -> fx.GraphModule:
    """The model as a graph, in the mode it is in, whose steps are modules: its own where it has them.

    A module that runs twice becomes two with the same parameters; `meta["layer"]` of a node is the model's own name.

    Raises:
        UnsupportedModelError: the graph can't be traced.
    """
    try:
        with alone(), _untouched_by_tracing():
            traced = _traced(model)
    except Exception as error:
        raise UnsupportedModelError(f"its graph can't be traced ({type(error).__name__}: {error})") from error
    _only_logits(traced)
    _rewrite(traced)
    return traced


def _only_logits(traced: fx.GraphModule) -> None:
    """Of a model that returns several things, the graph returns what says of the classes (see `logits_among`)."""
    (end,) = (node for node in traced.graph.nodes if node.op == "output")
    made = logits_among(end.args[0])
    if isinstance(made, fx.Node) and made.op == "call_function" and isinstance(made.target, type):
        # An object made at the end: a named tuple, or ModelOutput.
        given = inspect.signature(made.target).bind(*made.args, **made.kwargs).arguments
        made = given.get("logits", made)
    if made is not end.args[0]:
        end.args = (made,)
        traced.graph.eliminate_dead_code()
        traced.recompile()


class _Tracer(fx.Tracer):
    """Goes into modules down to torch's own, and to a step of ours that rules know as a whole."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Whether a module is a step."""
        return isinstance(module, PositionSoftmax) or super().is_leaf_module(module, name)


def _traced(model: nn.Module) -> fx.GraphModule:
    tracer = _Tracer()
    graph = tracer.trace(model)
    return fx.GraphModule(tracer.root, graph, type(model).__name__)


@contextmanager
def _untouched_by_tracing() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


def _rewrite(traced: fx.GraphModule) -> None:
    """Functions become modules, and modules that run twice become two."""
    used: set[str] = set()
    for node in list(traced.graph.nodes):
        _lift(node)
        made: nn.Module | None = None
        if node.op == "call_module":
            node.meta["layer"] = node.target
            if node.target in used:
                node.target = _added(traced, sharing_copy(traced.get_submodule(node.target)))
            used.add(node.target)
        elif node.op in ("call_function", "call_method"):
            made, taken = _as_module(node)
        if made is not None:
            with traced.graph.inserting_before(node):
                new = traced.graph.call_module(_added(traced, made), tuple(taken))
            node.replace_all_uses_with(new)
            traced.graph.erase_node(node)
    traced.graph.lint()
    traced.recompile()


def _lift(node: fx.Node) -> None:
    """What overwrites its input makes a new tensor instead; whoever relied on that is found by the proof."""
    if node.op == "call_method":
        name = str(node.target)
        if name.endswith("_") and not name.startswith("_") and hasattr(Tensor, name[:-1]):
            node.target = name[:-1]
    elif node.op == "call_function":
        known = list(_parameters(node.target))
        if "inplace" in known:
            place = known.index("inplace")
            node.args = node.args[:place]
            node.kwargs = {name: value for name, value in node.kwargs.items() if name != "inplace"}


def _parameters(function: Any) -> Iterable[str]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # built in, and silent about it
        return ()


def _as_module(node: fx.Node) -> tuple[nn.Module | None, list[Any]]:
    """The module that stands for a function, and the nodes that go into it; None where the function may stay."""
    name = function_name(node)
    if node.target is operator.getitem or not node.args:
        return None, []
    if name in _MODULE_OF:
        return _built(_MODULE_OF[name], node), [node.args[0]]
    if (
        name in SUMS | PRODUCTS
        and not node.kwargs
        and len(node.args) == 2
        and all(isinstance(arg, fx.Node) for arg in node.args)
    ):
        if any(_constant(arg) for arg in node.args):
            return None, []
        made = {True: Sum, False: Product}[name in SUMS]
        return (made(), list(node.args)) if name.strip("ir") in ("add", "mul") else (None, [])
    if name in CATS and name.startswith(("cat", "conc")) and isinstance(node.args[0], (list, tuple)):
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        return Concat(cast(int, dim)), list(node.args[0])
    return None, []


def function_name(node: fx.Node) -> str:
    """What a node calls, without underscores: "relu", "add", "flatten"."""
    name = (node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")).strip("_")
    return _dispatched(node) if name == "fn" else "max_pool2d" if name == "boolean_dispatch" else name


def _dispatched(node: fx.Node) -> str:
    """The name behind torch's boolean dispatch, which hides that of the max-poolings."""
    closed = inspect.getclosurevars(node.target).nonlocals if inspect.isfunction(node.target) else {}
    return getattr(closed.get("if_false"), "__name__", "")


def _constant(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.op == "get_attr"


def _built(kind: type[nn.Module], node: fx.Node) -> nn.Module:
    """The module with the settings that the function was called with."""
    known = list(inspect.signature(kind.__init__).parameters)[1:]
    order = [name for name in known if name not in ("return_indices", "inplace")]
    if kind in MEANS.values() or kind in POOLS.values():
        order = (
            ["kernel_size", "stride", "padding", *_after_padding(kind)] if "kernel_size" in known else ["output_size"]
        )
    given = dict(zip(order, node.args[1:], strict=False)) | dict(node.kwargs)
    settings = {name: value for name, value in given.items() if name in known and name != "inplace"}
    return kind(**settings)


def _after_padding(kind: type[nn.Module]) -> list[str]:
    return ["dilation", "ceil_mode"] if kind in POOLS.values() else ["ceil_mode", "count_include_pad"]


def _added(traced: fx.GraphModule, module: nn.Module) -> str:
    """Gives the graph a module, and says under which name."""
    number = sum(1 for name, _ in traced.named_children() if name.startswith("step_"))
    name = f"step_{number}_{type(module).__name__.lower()}"
    traced.add_submodule(name, module)
    return name


_Fuse = Callable[[Any, Any], nn.Module]
_FUSED: dict[type[nn.Module], _Fuse] = {
    nn.Conv1d: fuse_conv_bn_eval,
    nn.Conv2d: fuse_conv_bn_eval,
    nn.Conv3d: fuse_conv_bn_eval,
    nn.Linear: fuse_linear_bn_eval,
}


def _merge_batch_norm(traced: fx.GraphModule) -> None:
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[node.target], nn.modules.batchnorm._BatchNorm):
            continue
        before = node.args[0]
        fuse = _FUSED.get(type(modules[before.target])) if before.op == "call_module" else None
        if fuse is None or len(before.users) > 1 or modules[node.target].running_mean is None:
            continue
        before.target = _added(traced, fuse(modules[before.target], modules[node.target]))
        modules = dict(traced.named_modules())
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()


def _prove(expected: Tensor, copied: nn.Module, example: Tensor) -> None:
    with torch.no_grad():
        found = class_scores(checked_outputs(copied(example), len(example)))
    expected = class_scores(expected)  # of one output, a pass meanwhile may give both already
    difference = float((expected - found).abs().max() / expected.abs().max().clamp_min(1e-30))
    if not difference <= _TOLERANCE:
        raise UnsupportedModelError(f"a copy with every step as a module differs by {difference:.2g} of the outputs")
