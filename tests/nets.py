"""Small seeded networks and inputs that the tests share."""

from collections import OrderedDict
from functools import cache

import torch

import xaicompare._torchvision  # noqa: F401 (before torchvision, for processes that no conftest prepares)

# isort: split
import torchvision
from torch import Tensor, nn

from xaicompare.attended import Attention


def mlp(features: int = 12, classes: int = 5, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, 16, bias=bias),
        nn.ReLU(inplace=True),
        nn.Linear(16, 8, bias=bias),
        nn.ReLU(),
        nn.Linear(8, classes, bias=bias),
    ).eval()


def cnn(classes: int = 5) -> nn.Sequential:
    """Convolution, BatchNorm, max-pooling, and global average pooling before one linear layer, as CAM needs it."""
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(8, classes),
    )
    return _lively(net)


def vgg11_bn(classes: int = 5) -> nn.Module:
    """torchvision's, its hidden linear layers narrowed to 32, which saves 120 million weights."""
    net = torchvision.models.vgg11_bn(num_classes=classes, init_weights=False)
    net.classifier[0], net.classifier[3] = nn.Linear(25088, 32), nn.Linear(32, 32)
    net.classifier[6] = nn.Linear(32, classes)
    return _lively(net)


def resnet18(classes: int = 5) -> nn.Module:
    return _lively(torchvision.models.resnet18(num_classes=classes))


def thin_vgg16(classes: int = 4, width: int = 2) -> nn.Sequential:
    """VGG-16 layer by layer, named as torchvision names it, with `width` channels everywhere; for 32 x 32 images."""
    features: list[nn.Module] = []
    for convolutions in (2, 2, 3, 3, 3):
        for _ in range(convolutions):
            features += [nn.Conv2d(width if features else 3, width, 3, padding=1), nn.ReLU(inplace=True)]
        features.append(nn.MaxPool2d(2))
    head = [nn.Linear(width, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 6), nn.ReLU(), nn.Dropout()]
    parts = {"features": nn.Sequential(*features), "flat": nn.Flatten()}
    return nn.Sequential(OrderedDict(**parts, classifier=nn.Sequential(*head, nn.Linear(6, classes)))).eval()


def attended(classes: int = 5) -> nn.Sequential:
    """A small CNN with attention in the middle that prefers some positions, and a linear classifier on positions."""
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        Attention(6, "mlp"),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 64, classes),
    )
    net = _lively(net)
    nn.init.uniform_(net[2].scorer[2].bias, -1, 1)
    return net


def vit(classes: int = 5) -> nn.Module:
    """torchvision's VisionTransformer in the small, for 16 x 16 images of 4 x 4 patches."""
    net = torchvision.models.VisionTransformer(16, 4, 2, 2, 8, 16, num_classes=classes)
    nn.init.normal_(net.heads.head.weight)
    return _lively(net)


def _lively(net: nn.Module) -> nn.Module:
    """Signals of the same size at every depth, and BatchNorm that does something in evaluation mode."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return net.eval()


MAKERS = {"mlp": mlp, "cnn": cnn, "vgg11_bn": vgg11_bn, "resnet18": resnet18, "attended": attended, "vit": vit}
SHAPES = {"mlp": (3, 12), "cnn": (3, 3, 16, 16), "vgg11_bn": (2, 3, 32, 32), "resnet18": (2, 3, 32, 32)}
SHAPES |= {"attended": (3, 3, 16, 16), "vit": (3, 3, 16, 16)}


@cache
def net_and_inputs(name: str) -> tuple[nn.Module, Tensor]:
    """One of `MAKERS` with inputs (n, ...), the same in every test."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return MAKERS[name](), torch.randn(SHAPES[name])
