"""Which operation is what to a rule: an activation, a pooling, a sum, harmless, or unknown."""

from collections.abc import Mapping

import torch
from torch import nn

BACKPROP = ("deconvnet", "guided_backprop", "guided_gradcam")
"""Methods that change the gradient of nn.ReLU modules; everything else must be linear."""
DEEPLIFT = ("deeplift", "deepshap")
"""Methods that need both the input and the reference of every non-linear module."""
RULES = (*BACKPROP, *DEEPLIFT, "lrp")
"""Methods that change how modules propagate."""

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "celu": nn.CELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "hardtanh": nn.Hardtanh,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "mish": nn.Mish,
    "softmax": nn.Softmax,
    "log_softmax": nn.LogSoftmax,
}
"""Functions that exist as modules, by name."""
POOLS: Mapping[str, type[nn.Module]] = {
    "max_pool1d": nn.MaxPool1d,
    "max_pool2d": nn.MaxPool2d,
    "max_pool3d": nn.MaxPool3d,
}
MEANS: Mapping[str, type[nn.Module]] = {
    "avg_pool1d": nn.AvgPool1d,
    "avg_pool2d": nn.AvgPool2d,
    "avg_pool3d": nn.AvgPool3d,
    "adaptive_avg_pool1d": nn.AdaptiveAvgPool1d,
    "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d,
    "adaptive_avg_pool3d": nn.AdaptiveAvgPool3d,
}
"""Linear, but relevance must be shared by contribution."""
SUMS = frozenset({"add", "iadd", "radd", "sub", "isub", "rsub"})
CATS = frozenset({"cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack"})
PRODUCTS = frozenset({"mul", "imul", "rmul", "div", "idiv", "truediv", "itruediv", "matmul", "bmm", "einsum"})
LINEAR = frozenset(
    {"linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
    | {"mean", "sum", "batch_norm", "dropout", "dropout2d", "feature_dropout", "stochastic_depth", "neg"}
)
"""Linear in what depends on the inputs, in evaluation mode."""
SHAPES = frozenset(
    {"flatten", "view", "reshape", "view_as", "reshape_as", "permute", "transpose", "swapaxes", "movedim", "squeeze"}
    | {"unsqueeze", "contiguous", "chunk", "split", "tensor_split", "unbind", "getitem", "narrow", "select", "t", "T"}
    | {"expand", "expand_as", "repeat", "clone", "pad", "roll", "flip", "to", "float", "type", "get", "identity"}
    | {"requires_grad", "requires_grad_", "channel_shuffle", "pixel_shuffle", "pixel_unshuffle", "unflatten", "mT"}
    | {"index_select", "iter", "interpolate", "type_as", "double", "half", "cpu", "cuda", "index", "cumsum", "zero"}
)
"""Linear moves of values."""

_MEANT_BY = {
    BACKPROP: (nn.ReLU,),
    DEEPLIFT: (
        *(nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus),
        *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.Softmax),
    ),
}
"""The non-linear modules that a family has a rule for."""
_LINEAR_MODULES = (
    *(nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.Identity, nn.Flatten, nn.Unflatten),
    *(nn.modules.dropout._DropoutNd, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.ZeroPad2d, nn.ConstantPad2d),
    *(
        nn.AdaptiveAvgPool1d,
        nn.AdaptiveAvgPool2d,
        nn.AdaptiveAvgPool3d,
        nn.Upsample,
        nn.PixelShuffle,
        nn.ReflectionPad2d,
    ),
    *(nn.ReplicationPad2d, nn.ChannelShuffle, nn.Fold, nn.Unfold, nn.CircularPad2d),
)
_MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool2d)


def unruled(module: nn.Module) -> tuple[str, ...]:
    """The methods that have no rule for one of torch's modules."""
    if isinstance(module, _LINEAR_MODULES):
        return ()
    without: tuple[str, ...] = ()
    # Max-pooling only chooses: backpropagation through it is what the backprop methods mean.
    if not isinstance(module, (*_MEANT_BY[BACKPROP], *_MAX_POOLS)):
        without += BACKPROP
    if type(module) not in _MEANT_BY[DEEPLIFT]:
        without += DEEPLIFT
    return without


def is_batch_norm(module: nn.Module) -> bool:
    """Whether a module normalises over the batch, so that in training mode samples touch each other."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def bounded(outputs: torch.Tensor) -> bool:
    """Whether outputs (n, classes) look like probabilities: a softmax, or sigmoids, at the end."""
    inside = bool(((outputs >= 0) & (outputs <= 1)).all())
    return inside and bool(torch.allclose(outputs.sum(1), outputs.new_ones(()), atol=1e-4))
