"""A network as a list of steps that relevance can be swept through."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from xaicompare.attended import PositionSoftmax
from xaicompare.diagnosis import kinds, steps_of
from xaicompare.diagnosis.recorded import max_pool2d
from xaicompare.diagnosis.repair import Product, Sum, function_name
from xaicompare.errors import UnsupportedModelError

Role = Literal["affine", "same", "moved", "shared", "gated", "weights", "product", "softmax", "normalised", "closed"]
"""How a step hands relevance on: by its rule; unchanged, neuron by neuron; along with the values that it moves;
in proportion to its inputs; to the input that a gate lets through, and to the gate where the composite follows
attention; as the weights of attention do; to the factors of a product by halves; through softmax; to what a
normalisation reads, its scale held constant; not at all, for want of a rule. Products to normalisations are of recorded
networks alone."""

_SAME = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.SiLU, nn.GELU, nn.Hardswish),
    *(nn.Tanh, nn.Hardtanh, nn.Softsign, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, nn.Mish),
    *(nn.Identity, nn.modules.dropout._DropoutNd),
)
_RECTIFYING = (nn.ReLU, nn.ReLU6)
_GATES = (nn.Sigmoid, nn.Hardsigmoid, PositionSoftmax)
_SHARED = (
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.Upsample, Sum),
)
_MAX_POOLS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
_SAME_FUNCTIONS = frozenset({"dropout", "dropout2d", "feature_dropout", "stochastic_depth", "contiguous", "clone"})
_TIMES = frozenset({"mul", "imul", "rmul", "neg"})  # a constant
_OVER = frozenset({"div", "idiv", "truediv", "itruediv"})  # a constant, which must stand below
_SHARED_FUNCTIONS = frozenset({"mean", "sum", "interpolate"})
_UNSIGNED = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, PositionSoftmax)


@dataclass(frozen=True, eq=False)
class Step:
    """One operation of the network."""

    node: fx.Node
    name: str  # the module's path, or the function's name in the graph
    role: Role
    module: nn.Module | None
    sources: tuple[fx.Node, ...]  # the operands that hold activations
    held: frozenset[int] = frozenset()  # the factors of a product that get no relevance, by their place in `sources`
    attends: int | None = None  # the factor that is the weights of attention

    @property
    def pools_by_maximum(self) -> bool:
        """Whether it takes the greatest of a window."""
        return isinstance(self.module, _MAX_POOLS) or self.node.target is max_pool2d

    @property
    def has_constants(self) -> bool:
        """Whether values that don't depend on the inputs may stand among its outputs."""
        name = type(self.module).__name__ if self.module is not None else function_name(self.node)
        return "pad" in name.lower() or len(self.sources) < len(self.node.all_input_nodes)

    @property
    def rectifies(self) -> bool:
        """Whether its outputs are 0 where its inputs are at most 0."""
        return isinstance(self.module, _RECTIFYING)


@dataclass(frozen=True, eq=False)
class Network:
    """The steps of a model in the order of its forward pass; parameters are the model's own."""

    traced: fx.GraphModule
    steps: tuple[Step, ...]
    entry: fx.Node
    exit: fx.Node
    norms: dict[fx.Node, nn.modules.batchnorm._BatchNorm]  # by the layer that they are merged with
    nonnegative: frozenset[fx.Node]  # whose values can't be below 0
    reads_inputs: frozenset[fx.Node]  # layers with weights that no other such layer comes before
    alone: bool = False  # it stands for one sample: see `recorded_network`

    def computed(self, node: fx.Node, values: dict[fx.Node, Any], **changed: Any) -> Any:
        """The value of a node, of the values before it."""

        def value(given: fx.Node) -> Any:
            return changed.get(given.name, values.get(given))

        args, kwargs = fx.node.map_arg(node.args, value), fx.node.map_arg(node.kwargs, value)
        if node.op == "call_module":
            return self.traced.get_submodule(node.target)(*args, **kwargs)  # type: ignore[arg-type]
        if node.op == "get_attr":
            return _attribute(self.traced, str(node.target))
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]


_known: "weakref.WeakKeyDictionary[nn.Module, tuple[object, Network]]" = weakref.WeakKeyDictionary()


def network(model: nn.Module, inputs: Tensor) -> Network:
    """The steps of a model as `torch.fx` traces it, remembered until its structure changes.

    Raises:
        UnsupportedModelError: it can't be traced, or has a step that relevance can't be sent through.
    """
    structure, traced = steps_of(model, inputs)
    known = _known.get(model)
    if known is None or known[0] is not structure:
        known = _known[model] = structure, network_of(traced)
    return known[1]


def network_of(traced: fx.GraphModule, *, partly: bool = False) -> Network:
    """The steps of a graph whose steps are modules.

    Args:
        partly: steps that relevance can't be sent through are allowed, for sweeps that end above them.

    Raises:
        UnsupportedModelError: a step that relevance can't be sent through.
    """
    entry = next(node for node in traced.graph.nodes if node.op == "placeholder")
    last = next(node for node in traced.graph.nodes if node.op == "output").args[0]
    modules = dict(traced.named_modules())
    moving, below = {entry}, set[fx.Node]()
    steps: list[Step] = []
    norms: dict[fx.Node, nn.modules.batchnorm._BatchNorm] = {}
    unsigned: set[fx.Node] = set()
    reading: set[fx.Node] = set()
    for node in traced.graph.nodes:
        sources = tuple(source for source in node.all_input_nodes if source in moving)
        if not sources or node.op == "output" or _is_shape(node):
            continue
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        try:
            step = _step(node, module, sources)
        except UnsupportedModelError:
            if not partly:
                raise
            step = Step(node, str(node.target), "closed", module, sources)
        moving.add(node)
        steps.append(step)
        if _merges(node, step.module, modules):
            norms[sources[0]] = step.module  # type: ignore[assignment]
            steps[-1] = Step(node, step.name, "same", step.module, sources)
        elif step.role == "affine" and not below.intersection(sources):
            reading.add(node)
        if step.role == "affine" or below.intersection(sources):
            below.add(node)
        if isinstance(step.module, _UNSIGNED) or (_keeps_sign(step) and unsigned.issuperset(sources)):
            unsigned.add(node)
    if not isinstance(last, fx.Node) or last not in moving:
        raise UnsupportedModelError("the model's graph does not end in one tensor; expected outputs (n, classes).")
    return Network(traced, tuple(steps), entry, last, norms, frozenset(unsigned), frozenset(reading))


def _step(node: fx.Node, module: nn.Module | None, sources: tuple[fx.Node, ...]) -> Step:
    def made(role: Role) -> Step:
        return Step(node, str(node.target) if module is not None else node.name, role, module, sources)

    if module is not None:
        return made(_role(node, module, sources))
    name = function_name(node)
    if name in _SAME_FUNCTIONS or (
        len(sources) == 1 and (name in _TIMES or (name in _OVER and node.args[0] in sources))
    ):
        return made("same")
    if name in kinds.SUMS | _SHARED_FUNCTIONS:
        return made("shared")
    if name in kinds.SHAPES | kinds.CATS and name not in ("cumsum", "expand", "expand_as", "repeat", "interpolate"):
        return made("moved")
    raise UnsupportedModelError(
        f"LRP has no rule for the function {name}() (node {node.name!r}). Use a method that needs gradients or outputs "
        "only, such as integrated_gradients."
    )


def _role(node: fx.Node, module: nn.Module, sources: tuple[fx.Node, ...]) -> Role:
    if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
        return "affine"
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
        return "affine"
    if isinstance(module, _SAME):
        return "same"
    if isinstance(module, _SHARED):
        return "shared"
    if isinstance(module, _MAX_POOLS) or type(module).__name__ in _MOVING:
        return "moved"
    if isinstance(module, Product):
        return "gated"
    if isinstance(module, PositionSoftmax):
        return "weights"
    raise UnsupportedModelError(
        f"LRP has no rule for {type(module).__name__} (at {node.target}). Use a method that needs gradients or outputs "
        "only, such as integrated_gradients."
    )


_MOVING = frozenset(
    {"Flatten", "Unflatten", "Concat", "ZeroPad2d", "ConstantPad2d", "ReflectionPad2d", "ReplicationPad2d"}
    | {"ChannelShuffle", "PixelShuffle", "PixelUnshuffle", "CircularPad2d"}
)


def gate_of(step: Step, traced: fx.GraphModule) -> fx.Node:
    """The operand of a product that only opens and closes the way: what a sigmoid, or attention's softmax, gives.

    Raises:
        UnsupportedModelError: neither operand is one, or both are.
    """
    gates = [
        source
        for source in step.sources
        if (origin := _moved_from(source)).op == "call_module"
        and isinstance(traced.get_submodule(str(origin.target)), _GATES)
    ]
    if len(gates) != 1 or len(step.sources) != 2:
        raise UnsupportedModelError(
            f"LRP has no rule for the product {step.name!r}: neither factor is a gate, the output of a sigmoid. Use a "
            "method that needs gradients or outputs only, such as integrated_gradients."
        )
    return gates[0]


def is_attention(gate: fx.Node, traced: fx.GraphModule) -> bool:
    """Whether a gate is the weights of an attention module."""
    origin = _moved_from(gate)
    return origin.op == "call_module" and isinstance(traced.get_submodule(str(origin.target)), PositionSoftmax)


def above_attention(network: Network) -> frozenset[str]:
    """The names of the convolutions and linear layers that read what an attention module gave."""
    reached: set[fx.Node] = set()
    names: set[str] = set()
    for step in network.steps:
        attends = step.role == "gated" and is_attention(gate_of(step, network.traced), network.traced)
        if attends or reached.intersection(step.sources):
            reached.add(step.node)
            if isinstance(step.module, (nn.Linear, nn.modules.conv._ConvNd)):
                names.add(step.name)
    return frozenset(names)


def _moved_from(node: fx.Node) -> fx.Node:
    """The node whose values a chain of views and indices shows."""
    while node.op != "call_module" and function_name(node) in kinds.SHAPES and len(node.all_input_nodes) == 1:
        node = node.all_input_nodes[0]
    return node


def _merges(node: fx.Node, module: nn.Module | None, modules: dict[str, nn.Module]) -> bool:
    """Whether a BatchNorm belongs to the layer before it: nothing else reads that layer's outputs."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return False
    before = node.args[0]
    return (
        isinstance(before, fx.Node)
        and before.op == "call_module"
        and len(before.users) == 1
        and isinstance(modules[str(before.target)], (nn.Linear, nn.modules.conv._ConvNd))
    )


def _keeps_sign(step: Step) -> bool:
    """Whether values of at least 0 stay so."""
    if step.role in ("moved", "gated") or isinstance(step.module, Sum):
        return True
    return (step.role == "same" or step.role == "shared") and (
        isinstance(step.module, (*_SHARED, nn.Identity, nn.modules.dropout._DropoutNd))
        or (step.module is None and function_name(step.node) in _SAME_FUNCTIONS | _SHARED_FUNCTIONS)
    )


def _is_shape(node: fx.Node) -> bool:
    """Whether a node reads a size, and carries no activation."""
    name = function_name(node)
    return name in ("size", "dim", "numel") or (
        name == "getattr" and node.args[1] in ("shape", "ndim", "dtype", "device")
    )


def _attribute(traced: fx.GraphModule, path: str) -> Any:
    found: Any = traced
    for part in path.split("."):
        found = getattr(found, part)
    return found


_DIMS: dict[type[nn.Module], int] = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}


def as_average(step: Step) -> Callable[[Tensor], Tensor]:
    """Average pooling over the windows of a max-pooling.

    Raises:
        UnsupportedModelError: windows that average pooling does not have.
    """
    pool: Any = step.module
    if pool is None:  # of a recorded network
        window = dict(
            zip(("kernel_size", "stride", "padding", "dilation", "ceil_mode"), step.node.args[1:], strict=False)
        )
        pool = nn.MaxPool2d(**window | {"stride": window.get("stride") or None})  # type: ignore[arg-type]
    dims = next((dims for kind, dims in _DIMS.items() if isinstance(pool, kind)), None)
    if dims is None or torch.as_tensor(pool.dilation).ne(1).any():
        raise UnsupportedModelError(f"average pooling can't stand in for {pool}. Use max_pooling='winner'.")
    mean = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[dims - 1]
    settings: tuple[Any, ...] = pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode
    return lambda values: mean(values, *settings)
