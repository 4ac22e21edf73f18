"""The architectures of `make zoo`: seeded random weights, 5 classes, signals that keep their size at every depth."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

import xaicompare  # noqa: F401 - mends torchvision where it was built for another torch

# isort: split
import torchvision

TORCHVISION = (
    *("alexnet", "vgg11_bn", "vgg19_bn", "resnet18", "resnet50", "wide_resnet50_2", "resnext50_32x4d", "densenet121"),
    *("googlenet", "inception_v3", "squeezenet1_0", "shufflenet_v2_x1_0", "mnasnet0_5", "mobilenet_v2"),
    *("mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "efficientnet_v2_s", "regnet_y_400mf"),
    *("convnext_tiny", "convnext_base", "vit_b_16", "vit_b_32", "swin_t", "swin_v2_t", "maxvit_t"),
)
SIDES = {"inception_v3": 96, "vit_b_16": 32, "vit_b_32": 64, "maxvit_t": 224}
"""Of the images, where 64 pixels don't fit."""

TIMM: dict[str, dict[str, Any]] = {
    "deit_tiny_patch16_224": {"img_size": 64},
    "vit_small_patch14_reg4_dinov2": {"img_size": 56},
    "mixer_s16_224": {"img_size": 64},
    "convnextv2_atto": {},
    "levit_128s": {"img_size": 64},
    "coatnet_nano_rw_224": {"img_size": 64},
    "efficientvit_b0": {},
    "regnetz_b16": {},
    "tf_efficientnet_lite0": {},
    "resnetv2_50": {},
}
_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_STAGES = {"depths": [1, 1, 2, 1]}
HUGGING_FACE: dict[str, dict[str, Any]] = {
    "ViT": _SMALL | {"image_size": 32, "patch_size": 8},
    "DeiT": _SMALL | {"image_size": 32, "patch_size": 8},
    "Swin": {"depths": [1, 2, 1], "image_size": 64, "embed_dim": 16, "num_heads": [1, 2, 2], "window_size": 4},
    "ConvNext": _STAGES | {"hidden_sizes": [8, 16, 24, 32]},
    "Dinov2": {key: _SMALL[key] for key in _SMALL if key != "intermediate_size"} | {"image_size": 32, "patch_size": 8},
    "Beit": _SMALL | {"image_size": 32, "patch_size": 8, "use_relative_position_bias": True},
}
NETS = (*TORCHVISION, *(f"timm:{name}" for name in TIMM), *(f"hf:{name}" for name in HUGGING_FACE))

OWN_INIT = ("maxvit_t", "timm:efficientvit_b0", "timm:regnetz_b16", "timm:tf_efficientnet_lite0")
"""Whose libraries' random weights stay: others would saturate attention, or make more kinks than steps can follow."""
DOUBLE = (
    *("efficientnet_v2_s", "timm:regnetz_b16", "timm:convnextv2_atto", "timm:tf_efficientnet_lite0", "timm:levit_128s"),
    "hf:ConvNext",
)
"""Where random weights make so many kinks that single precision decides on which side of them a value lies."""


@cache
def net(name: str) -> nn.Module:
    """The network; `timm:` and `hf:` need the package."""
    source, _, rest = name.rpartition(":")
    make: Callable[[], Any] = partial({"": _torchvision, "timm": _timm, "hf": _hugging_face}[source], rest)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made: nn.Module = make()
        for module in made.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.1)
            elif isinstance(module, (nn.Conv2d, nn.Linear)) and name not in OWN_INIT:
                (nn.init.xavier_normal_ if "levit" in name else nn.init.kaiming_normal_)(module.weight)
    return made.eval().to(precision(name))


def precision(name: str) -> torch.dtype:
    """That a network is tried in."""
    return torch.float64 if name in DOUBLE else torch.float32


def images(name: str) -> Tensor:
    """(2, 3, h, w), the same for every method; one of the largest."""
    source, _, rest = name.rpartition(":")
    options = {"": {"img_size": SIDES.get(rest, 64)}, "timm": TIMM.get(rest, {}), "hf": HUGGING_FACE.get(rest, {})}[
        source
    ]
    side = options.get("img_size", options.get("image_size", 64))
    made = torch.randn(1 if side > 100 else 2, 3, side, side, generator=torch.Generator().manual_seed(1))
    return made.to(precision(name))


def _torchvision(name: str) -> nn.Module:
    options = {"image_size": SIDES[name]} if name.startswith("vit") else {}
    options |= {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    made: nn.Module = torchvision.models.get_model(name, num_classes=5, weights=None, **options)
    if name in ("alexnet", "vgg11_bn", "vgg19_bn"):
        _narrow(made)
    return made


def _narrow(made: Any) -> None:
    """Hidden layers of 32 instead of 4096, which saves a hundred million weights."""
    linear = [place for place, layer in enumerate(made.classifier) if isinstance(layer, nn.Linear)]
    widths = [made.classifier[linear[0]].in_features, 32, 32, 5]
    for place, before, after in zip(linear, widths[:-1], widths[1:], strict=True):
        made.classifier[place] = nn.Linear(before, after)


def _timm(name: str) -> nn.Module:
    import timm

    made: nn.Module = timm.create_model(name, pretrained=False, num_classes=5, **TIMM[name])
    return made


def _hugging_face(name: str) -> nn.Module:
    import transformers

    config = getattr(transformers, f"{name}Config")(num_labels=5, **HUGGING_FACE[name])
    made: nn.Module = getattr(transformers, f"{name}ForImageClassification")(config)
    return made
