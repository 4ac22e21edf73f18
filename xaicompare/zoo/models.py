"""Networks by name: our own small ones, and every classifier of torchvision.

Our own are plain sequences of modules, so that whatever walks through them sees each step: no activation is a bare
function, none works in place. Attention alone multiplies on its own, which the doctor and LRP know.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torchvision import models as torchvision_models

from xaicompare.attended import Attention, Scorer, inserted
from xaicompare.registry import MODELS
from xaicompare.settings import Count, Positive
from xaicompare.zoo._common import checked_settings

Plan = tuple[int | Literal["M"], ...]
"""Convolutions by their number of maps, and "M" for a max-pooling that halves the side."""

_SMALL_CNN: Plan = (16, "M", 32, 32, "M", 64, 64)
_VGG16: Plan = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")

# They warn unless told to initialise, and their published weights want other means than ImageNet's, which
# torchvision tells the network to allow for only if it loads the weights itself.
_INCEPTIONS = ("googlenet", "inception_v3")


def build_model(name: str, classes: int, in_channels: int, *, seed: int = 0, **settings: object) -> nn.Module:
    """The network of that name with random weights, fixed by the seed; in evaluation mode.

    >>> build_model("mlp", classes=10, in_channels=1, hidden=(64,))
    Sequential(
      (0): Flatten(start_dim=1, end_dim=-1)
      (1): Linear(in_features=1024, out_features=64, bias=True)
      (2): ReLU()
      (3): Linear(in_features=64, out_features=10, bias=True)
    )

    Raises:
        UnknownNameError: no such model, or no such setting of it.
        SettingError: a setting of the wrong type or out of range.
    """
    maker = MODELS[name]
    given = {"classes": classes, "in_channels": in_channels, **settings}
    checked = checked_settings(name, maker, given)
    with seeded(seed, torch.device("cpu")):
        return cast(nn.Module, maker(**checked)).eval()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Global draws on the CPU and that device follow the seed; afterwards they go on as if none had been made."""
    on_gpu = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=on_gpu):
        torch.default_generator.manual_seed(seed)
        for gpu in on_gpu:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


def mlp(
    classes: Count, in_channels: Count, hidden: tuple[Count, ...] = (1024, 512), in_features: Count | None = None
) -> nn.Module:
    """Linear layers with ReLU between them, on the flattened image.

    Args:
        hidden: the widths between input and output.
        in_features: the number of values of an image. None: those of 32 x 32 pixels.
    """
    widths = (in_channels * 32 * 32 if in_features is None else in_features, *hidden, classes)
    return nn.Sequential(nn.Flatten(), *_linears(widths))


def cnn(classes: Count, in_channels: Count, size: Count = 32) -> nn.Module:
    """Five 3 x 3 convolutions (64, 64, 128, 128, 256) in three stages, then linear layers of 1024, 512 and the classes.

    Args:
        size: the side of the images in pixels.
    """
    return _cnn(classes, in_channels, size, 64)


def attended_cnn(
    classes: Count,
    in_channels: Count,
    size: Count = 32,
    width: Count = 64,
    middle: Literal["attention", "control", "nothing"] = "attention",
    after: str = "features.8",
    scorer: Scorer = "linear",
    hidden: Count | None = None,
    temperature: Positive = 1.0,
    pool: bool = False,
) -> nn.Module:
    """The `cnn` with an attention module in the middle, which weights the positions of its maps.

    With one seed all others of its weights are those of the `cnn`, and it computes the same before it is trained.

    Args:
        size: the side of the images in pixels.
        width: maps of the first stage; 64 as in `cnn`, whose other layers keep their proportion to it.
        middle: "control" has a 1 x 1 convolution with as many parameters instead, to a few; it starts as the identity.
        after: the layer that the module comes after; features.8 gives maps of half the side, twice the width.
        scorer: how a position is scored; see `xaicompare.Attention` for this, `hidden` and `temperature`.
        pool: the classifier reads the mean of each map, so that images may have any size.
    """
    plain = _cnn(classes, in_channels, size, width, pool=pool)
    if middle == "nothing":
        return plain
    if middle == "control":
        return inserted(plain, after, "control", lambda channels: _control(channels, scorer, hidden))
    return inserted(plain, after, "attention", lambda channels: Attention(channels, scorer, hidden, temperature))


def _control(channels: int, scorer: Scorer, hidden: int | None) -> nn.Module:
    """As many parameters as `Attention` has: c + 1 or, for an mlp, (c + 2) hidden + 1."""
    if scorer == "linear":
        groups, bias = channels, False
    else:
        groups, bias = max(1, round(channels / (hidden or channels // 2))), True
    made = nn.Conv2d(channels, channels, 1, groups=groups, bias=bias)
    nn.init.dirac_(made.weight, groups)
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    return made


def _cnn(classes: int, channels: int, size: int, width: int, *, pool: bool = False) -> nn.Module:
    plan: Plan = (width, width, "M", 2 * width, 2 * width, "M", 4 * width, "M")
    side = 1 if pool else size // 8
    pooled = {"pool": nn.AdaptiveAvgPool2d(1)} if pool else {}
    parts = OrderedDict[str, nn.Module](features=_convolutions(channels, plan), **pooled, flatten=nn.Flatten())
    parts["classifier"] = nn.Sequential(*_linears((4 * width * side * side, 16 * width, 8 * width, classes)))
    return nn.Sequential(parts)


def lenet(classes: Count, in_channels: Count) -> nn.Module:
    """LeNet-5 for 32 x 32 pixels: two 5 x 5 convolutions (6, 16), max-pooled; linear layers of 120, 84 and the classes.

    Source: LeCun, Bottou, Bengio, Haffner 1998, doi:10.1109/5.726791, figure 2.
    Differs: ReLU, max-pooling, and a second convolution that sees all maps.
    """
    features = nn.Sequential(
        *(nn.Conv2d(in_channels, 6, kernel_size=5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, kernel_size=5), nn.ReLU(), nn.MaxPool2d(2)),
    )
    classifier = nn.Sequential(*_linears((400, 120, 84, classes)))
    return nn.Sequential(OrderedDict(features=features, flatten=nn.Flatten(), classifier=classifier))


def small_cnn(classes: Count, in_channels: Count) -> nn.Module:
    """Five 3 x 3 convolutions (16, 32, 32, 64, 64), global average pooling and one linear layer, as CAM needs it."""
    return _he_initialised(
        nn.Sequential(
            OrderedDict(
                features=_convolutions(in_channels, _SMALL_CNN),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                classifier=nn.Linear(64, classes),
            )
        )
    )


def vgg16_cifar10(classes: Count, in_channels: Count) -> nn.Module:
    """VGG-16 for 32 x 32 pixels: its convolutions, global average pooling, linear layers of 512, 512 and the classes.

    Source: Simonyan and Zisserman, 2015, configuration D, https://arxiv.org/abs/1409.1556.
    Differs: the classifier has 512 neurons per layer, not 4096.
    """
    first, relu, second, another, last = _linears((512, 512, 512, classes))
    return _he_initialised(
        nn.Sequential(
            OrderedDict(
                features=_convolutions(in_channels, _VGG16),
                avgpool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                classifier=nn.Sequential(first, relu, nn.Dropout(), second, another, nn.Dropout(), last),
            )
        )
    )


def _he_initialised(model: nn.Module) -> nn.Module:
    """Fresh weights that keep the variance of activations from layer to layer; biases start at 0.

    torch's own keeps a sixth of it in each layer (biases aside), and deep networks then don't begin to learn.

    Source: He et al., 2015, eq. 10, https://arxiv.org/abs/1502.01852.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(cast(Tensor, layer.bias))
    return model


def _linears(widths: tuple[int, ...]) -> list[nn.Module]:
    """Linear layers through these widths, with ReLU between them but not at the end."""
    layers: list[nn.Module] = []
    for below, above in pairwise(widths):
        layers += [nn.Linear(below, above), nn.ReLU()]
    return layers[:-1]


def _convolutions(channels: int, plan: Plan) -> nn.Sequential:
    """The convolutions of a plan, 3 x 3 with padding, each followed by ReLU."""
    layers: list[nn.Module] = []
    for step in plan:
        if step == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, step, kernel_size=3, padding=1), nn.ReLU()]
            channels = step
    return nn.Sequential(*layers)


def _torchvision_maker(name: str) -> Callable[..., nn.Module]:
    """Builds the torchvision model of that name; where images are not RGB, its first convolution is adapted."""

    def make(classes: Count, in_channels: Count) -> nn.Module:
        extra: dict[str, bool] = {}
        if name in _INCEPTIONS:
            extra = {"init_weights": True, "transform_input": in_channels == 3}
        model: nn.Module = torchvision_models.get_model(name, weights=None, num_classes=classes, **extra)
        if in_channels != 3:
            _take_channels(model, in_channels)
        return model

    return make


def _take_channels(model: nn.Module, channels: int) -> None:
    """Makes the first convolution take that number of channels, with fresh weights."""
    first = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
    first.in_channels = channels
    first.weight = nn.Parameter(first.weight.new_empty(first.out_channels, channels, *first.kernel_size))
    first.reset_parameters()


for _maker in (mlp, cnn, attended_cnn, lenet, small_cnn, vgg16_cifar10):
    MODELS.add(_maker.__name__, _maker)
for _name in torchvision_models.list_models(module=torchvision_models):
    MODELS.add(_name, _torchvision_maker(_name))
