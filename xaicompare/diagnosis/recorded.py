"""One real forward pass as a graph of torch's own operations, for models that `torch.fx` or the rules can't read.

`make_fx` records what the dispatcher runs: functions, methods, modules and custom autograd all end there, and in-place
writes are made functional. The graph holds the model's own parameters. It stands for inputs of one shape that take the
same way through the model's Python; whoever uses it checks its outputs against the model's.

A few operations are put back together, so that a rule sees them as people write them: linear layers with their bias,
convolutions with the BatchNorm after them, normalisations without their by-products.
"""

import operator
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from xaicompare.borrow import borrowed
from xaicompare.boundary import checked_outputs, class_scores, logits_among
from xaicompare.diagnosis.doctor import structure_of
from xaicompare.errors import UnsupportedModelError
from xaicompare.turns import alone

aten = torch.ops.aten
_TOLERANCE = 1e-3  # of the greatest output
_KEPT = 4  # shapes of inputs for each model


def batch_norm(x: Tensor, weight: Any, bias: Any, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """BatchNorm in evaluation mode."""
    return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)


def layer_norm(x: Tensor, shape: list[int], weight: Any, bias: Any, eps: float) -> Tensor:
    """LayerNorm over the last dimensions."""
    return F.layer_norm(x, shape, weight, bias, eps)


def group_norm(x: Tensor, groups: int, weight: Any, bias: Any, eps: float) -> Tensor:
    """GroupNorm, InstanceNorm among it."""
    return F.group_norm(x, groups, weight, bias, eps)


def max_pool2d(x: Tensor, *window: Any) -> Tensor:
    """Max-pooling, without the places of the maxima."""
    made: Tensor = aten.max_pool2d_with_indices(x, *window)[0]
    return made


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x times the transposed weight, and the bias."""
    return F.linear(x, weight, bias)


def merged_weight(weight: Tensor, scale: Tensor | None, var: Tensor, eps: float) -> Tensor:
    """The weight of a layer with the BatchNorm after it."""
    size = torch.rsqrt(var + eps) * (1 if scale is None else scale)
    return weight * size.view(-1, *[1] * (weight.ndim - 1))


def merged_bias(given: Tensor | None, scale: Any, shift: Any, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """Its bias."""
    size = torch.rsqrt(var + eps) * (1 if scale is None else scale)
    moved = ((0 if given is None else given) - mean) * size
    return moved if shift is None else moved + shift


def _gated(x: Tensor, dim: int = -1) -> Tensor:
    """GLU: one half of the channels, gated by the sigmoid of the other."""
    values, gate = x.chunk(2, dim)
    return values * gate.sigmoid()


def _sum_with_product(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    return x + (a * b if value == 1 else a * b * value)


def _sum_with_quotient(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    return x + (a / b if value == 1 else a / b * value)


_TAKEN_APART: dict[Any, Callable[..., Any]] = {
    aten.glu.default: _gated,
    aten.addcmul.default: _sum_with_product,
    aten.addcdiv.default: _sum_with_quotient,
}

_known: "weakref.WeakKeyDictionary[nn.Module, tuple[object, dict[object, fx.GraphModule]]]" = (
    weakref.WeakKeyDictionary()
)


def recorded(model: nn.Module, inputs: Tensor) -> fx.GraphModule:
    """The operations of the model in evaluation mode on inputs of this shape; kept until its structure changes.

    Raises:
        UnsupportedModelError: the pass can't be recorded, or the record computes something else.
    """
    state, shape = structure_of(model), (tuple(inputs.shape), inputs.dtype, inputs.device)
    known = _known.get(model)
    if known is None or known[0] != state:
        known = _known[model] = state, {}
    if shape not in known[1]:
        if len(known[1]) >= _KEPT:
            known[1].clear()
        known[1][shape] = _recorded(model, inputs.detach())
    return known[1][shape]


def _recorded(model: nn.Module, inputs: Tensor) -> fx.GraphModule:
    def run(x: Tensor) -> object:
        return logits_among(model.forward(x))  # without hooks, which watch real passes

    with borrowed(model), torch.no_grad(), alone(), _plain_attention():
        try:
            # A borrowing of its own: what modules keep between passes holds stand-ins now, and goes before `_prove`.
            with borrowed(model), torch.no_grad():
                traced = make_fx(lambda x: torch.func.functionalize(run)(x), _TAKEN_APART)(inputs)
        except Exception as error:
            raise UnsupportedModelError(
                f"its operations can't be recorded: {_reason(error)}. Use a method that needs gradients or outputs "
                "only, such as integrated_gradients."
            ) from error
        _name(traced, model)
        _gather(traced)
        _prove(model, traced, inputs)
    return traced


def _reason(error: Exception) -> str:
    if "_local_scalar_dense" in str(error):  # what float(), int(), bool() and .item() of a tensor end in
        return "its Python reads numbers out of tensors (float(), .item(), if), so its way depends on the data"
    return f"{type(error).__name__}: {error}"


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as matrix products and a softmax, not as one fused operation."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _prove(model: nn.Module, traced: fx.GraphModule, inputs: Tensor) -> None:
    expected = class_scores(checked_outputs(model(inputs), len(inputs)))
    check_same(expected, class_scores(checked_outputs(traced(inputs), len(inputs))))


def check_same(expected: Tensor, found: Tensor) -> None:
    """Outputs of a record must be the model's.

    Raises:
        UnsupportedModelError: they differ; these inputs take another way, or something random runs.
    """
    difference = float((expected - found).abs().max() / expected.abs().max().clamp_min(1e-30))
    if not difference <= _TOLERANCE:
        raise UnsupportedModelError(
            f"the record of its operations differs from the model by {difference:.2g} of the outputs: its way depends "
            "on the data, or is random. Use a method that needs gradients or outputs only, such as kernelshap."
        )


def _name(traced: fx.GraphModule, model: nn.Module) -> None:
    """Constants learn where in the model they come from: `meta["path"]`, such as "layer1.0.conv1.weight"."""
    paths = {id(tensor): name for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    for node in traced.graph.nodes:
        if node.op == "get_attr":
            path = paths.get(id(getattr(traced, str(node.target))))
            if path is not None:
                node.meta["path"] = path


def path_of(node: Any) -> str | None:
    """The path of the module that a constant comes from; None for one that is no parameter."""
    while isinstance(node, fx.Node):
        if "path" in node.meta:
            return str(node.meta["path"]).rpartition(".")[0]
        node = node.all_input_nodes[0] if node.all_input_nodes else None
    return None


def _gather(traced: fx.GraphModule) -> None:
    """Puts operations back together; see the module's first lines."""
    moving = moving_nodes(traced)
    for node in list(traced.graph.nodes):
        gathered = _GATHERED.get(node.target) if node.op == "call_function" else None
        if gathered is not None:
            gathered(traced.graph, node, moving)
    for node in traced.graph.nodes:
        if node.target in _IN_PLACE and len(node.args[0].users) == 1:
            node.target = _IN_PLACE[node.target]
        if node.target in _VIEWS:
            node.target = aten.reshape.default  # whatever the order in memory is, once operations are others
        elif node.target in _RESTRIDED and node.args[0].meta["val"].shape == torch.Size(node.args[1]):
            node.target, node.args = aten.alias.default, node.args[:1]
    traced.graph.eliminate_dead_code()
    traced.graph.lint()
    traced.recompile()


SHAPED = frozenset(
    {aten.new_zeros.default, aten.new_ones.default, aten.new_full.default, aten.new_empty.default}
    | {aten.zeros_like.default, aten.ones_like.default, aten.full_like.default, aten.empty_like.default}
)
"""They read the shape of a tensor, not its values."""


def moving_nodes(traced: fx.GraphModule) -> set[fx.Node]:
    """The nodes whose values depend on the inputs."""
    moving: set[fx.Node] = set()
    for node in traced.graph.nodes:
        if node.op == "placeholder" or (node.target not in SHAPED and moving.intersection(node.all_input_nodes)):
            moving.add(node)
    return moving


def _put(graph: fx.Graph, node: fx.Node, moving: set[fx.Node], function: Callable[..., Any], *args: Any) -> fx.Node:
    """A call in place of a node."""
    with graph.inserting_before(node):
        made = graph.call_function(function, args)
    node.replace_all_uses_with(made)
    graph.erase_node(node)
    if node in moving:
        moving.add(made)
    return made


def _first_of(graph: fx.Graph, node: fx.Node, moving: set[fx.Node], function: Callable[..., Any], *args: Any) -> None:
    """A call in place of the first of several results; the others must not be asked for."""
    firsts = [user for user in node.users if user.target is operator.getitem and user.args[1] == 0]
    others = [user for user in node.users if user not in firsts and user.users]
    if others:
        raise UnsupportedModelError(f"the model reads by-products of {node.name!r}; expected its outputs only.")
    for first in firsts:
        _put(graph, first, moving, function, *args)


def _batch_norm(graph: fx.Graph, node: fx.Node, moving: set[fx.Node]) -> None:
    x, weight, bias, mean, var, *rest = node.args
    training, eps = (rest[0], rest[2]) if node.target in _TELL_TRAINING else (False, rest[1])
    if training:
        raise UnsupportedModelError(f"{node.name} has no running statistics; expected BatchNorm in evaluation mode.")
    layer = x if isinstance(x, fx.Node) and x.target in (aten.convolution.default, linear) else None
    if layer is None or len(layer.users) > 1 or (layer.target is not linear and layer.args[6]):
        _first_of(graph, node, moving, batch_norm, x, weight, bias, mean, var, eps)
        return
    with graph.inserting_before(node):
        more = graph.call_function(merged_weight, (layer.args[1], weight, var, eps))
        shift = graph.call_function(merged_bias, (layer.args[2], weight, bias, mean, var, eps))
    _first_of(graph, node, moving, layer.target, layer.args[0], more, shift, *layer.args[3:])  # type: ignore[arg-type]


def _layer_norm(graph: fx.Graph, node: fx.Node, moving: set[fx.Node]) -> None:
    _first_of(graph, node, moving, layer_norm, *node.args)


def _group_norm(graph: fx.Graph, node: fx.Node, moving: set[fx.Node]) -> None:
    x, weight, bias, _, _, _, groups, eps = node.args
    _first_of(graph, node, moving, group_norm, x, groups, weight, bias, eps)


def _max_pool(graph: fx.Graph, node: fx.Node, moving: set[fx.Node]) -> None:
    _first_of(graph, node, moving, max_pool2d, *node.args)


def _matrix_product(graph: fx.Graph, node: fx.Node, moving: set[fx.Node]) -> None:
    """addmm and mm with a constant second matrix: a linear layer."""
    bias, x, matrix = node.args if node.target is aten.addmm.default else (None, *node.args)
    if node.kwargs or matrix in moving or x not in moving or bias in moving:
        return
    with graph.inserting_before(node):
        turned = matrix.target is aten.t.default  # type: ignore[union-attr]
        weight = matrix.args[0] if turned else graph.call_function(aten.t.default, (matrix,))  # type: ignore[union-attr]
    _put(graph, node, moving, linear, x, weight, bias)


def _bias_after(graph: fx.Graph, node: fx.Node, moving: set[fx.Node]) -> None:
    """What is added to a linear layer behind a view is its bias."""
    x, bias = node.args[:2]
    if node.kwargs or not isinstance(x, fx.Node) or x.target not in _VIEWS or len(x.users) > 1:
        return
    layer = x.args[0]
    if (
        not isinstance(layer, fx.Node)
        or layer.target is not linear
        or len(layer.users) > 1
        or layer.args[2] is not None
    ):
        return
    path, own = (path_of(each) for each in (bias, layer.args[1]))
    if bias in moving or path is None or path != own:
        return
    with graph.inserting_before(node):
        made = graph.call_function(linear, (*layer.args[:2], bias))
    moving.add(made)
    _put(graph, node, moving, x.target, made, *x.args[1:])
    graph.erase_node(x)
    graph.erase_node(layer)


_VIEWS = (aten.view.default, aten._unsafe_view.default)
_IN_PLACE = {aten.add_.Scalar: aten.add.Scalar, aten.add_.Tensor: aten.add.Tensor, aten.mul_.Tensor: aten.mul.Tensor}
_RESTRIDED = (aten.as_strided.default, aten.as_strided_.default)
_TELL_TRAINING = (aten.native_batch_norm.default, aten._native_batch_norm_legit.default)
_GATHERED: dict[Any, Callable[[fx.Graph, fx.Node, set[fx.Node]], None]] = {
    aten.native_batch_norm.default: _batch_norm,
    aten._native_batch_norm_legit.default: _batch_norm,
    aten._native_batch_norm_legit_no_training.default: _batch_norm,
    aten.native_layer_norm.default: _layer_norm,
    aten.native_group_norm.default: _group_norm,
    aten.max_pool2d_with_indices.default: _max_pool,
    aten.addmm.default: _matrix_product,
    aten.mm.default: _matrix_product,
    aten.add.Tensor: _bias_after,
}
