"""Draws the pictures of the pages of methods and metrics, by xaicompare's own figures.

All of them, or those whose names are given; methods on two photographs by SqueezeNet (from XAICOMPARE_DATA), or on two
digits by a network that has what they need; metrics on the planted digits, where it is known what a map has to find:

    python docs/pictures.py
    python docs/pictures.py saliency deletion
"""

import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import xaicompare as xc
from xaicompare import zoo
from xaicompare.comparison import attempted
from xaicompare.registry import METHODS, METRICS, MODELS
from xaicompare.training.fit import Recipe, trained

IMAGES = Path(__file__).parent / "images"
PHOTOGRAPHS = ("imagenet-sample/n02980441_castle.JPEG", "imagenet-sample/n02025239_ruddy_turnstone.JPEG")
WEIGHTS = "models/squeezenet1_0-imagenet.safetensors"

# For what SqueezeNet has not. The digits are few, so that the usual three epochs would be too short.
ATTENDED_RECIPE = Recipe(epochs=8, batch_size=64, lr=2e-3)
TRANSFORMER_RECIPE = Recipe(epochs=20, batch_size=64, lr=2e-3)

Column = tuple[str, dict[str, Any]]
BLACK, WHITE = (list(bound) for bound in (zoo.IMAGENET.low, zoo.IMAGENET.high))
BOUNDS = {"low": BLACK, "high": WHITE}
OCCLUDED: Column = ("occlusion", {"window": 8, "stride": 4})

# What is drawn beside the defaults of a method: what its page warns of.
BESIDE: dict[str, dict[str, Column]] = {
    "saliency": {"absolute=False": ("saliency", {"absolute": False})},
    "input_x_gradient": {"saliency": ("saliency", {})},
    "smoothgrad": {
        "sigma=0.02": ("smoothgrad", {"sigma": 0.02}),
        "sigma=0.5": ("smoothgrad", {"sigma": 0.5}),
        "kind=squared": ("smoothgrad", {"kind": "squared"}),
    },
    "integrated_gradients": {
        "baseline black": ("integrated_gradients", {"baseline": BLACK, "n_steps": 200}),
        "baseline white": ("integrated_gradients", {"baseline": WHITE, "n_steps": 200}),
    },
    "deconvnet": {"guided_backprop": ("guided_backprop", {}), "edges": ("edges", {})},
    "guided_backprop": {"saliency": ("saliency", {}), "edges": ("edges", {})},
    "cam": {"gradcam": ("gradcam", {})},
    "gradcam": {
        "layer=features.9": ("gradcam", {"layer": "features.9"}),
        "layer=features.4": ("gradcam", {"layer": "features.4"}),
    },
    "guided_gradcam": {"guided_backprop": ("guided_backprop", {}), "gradcam": ("gradcam", {})},
    "gradcam_plus_plus": {"gradcam": ("gradcam", {})},
    "layercam": {
        "gradcam": ("gradcam", {}),
        "layer=features.4": ("layercam", {"layer": "features.4"}),
        "three layers": ("layercam", {"layer": ("features.4", "features.9", "features.12")}),
    },
    "hirescam": {"gradcam": ("gradcam", {}), "cam": ("cam", {})},
    "xgradcam": {"gradcam": ("gradcam", {})},
    "eigencam": {"gradcam": ("gradcam", {}), "edges": ("edges", {})},
    "scorecam": {"gradcam": ("gradcam", {})},
    "ablationcam": {"gradcam": ("gradcam", {}), "scorecam": ("scorecam", {})},
    "fullgrad": {"saliency": ("saliency", {}), "input_x_gradient": ("input_x_gradient", {})},
    "deeplift": {
        "rule=reveal-cancel": ("deeplift", {"rule": "reveal-cancel"}),
        "baseline black": ("deeplift", {"baseline": BLACK}),
    },
    "deepshap": {"n_baselines=1": ("deepshap", {"n_baselines": 1}), "deeplift": ("deeplift", {})},
    "gradient_shap": {
        "seed=1": ("gradient_shap", {"seed": 1}),
        "n_samples=256": ("gradient_shap", {"n_samples": 256}),
    },
    "lime": {
        "seed=1": ("lime", {"seed": 1}),
        "n_samples=100": ("lime", {"n_samples": 100}),
        "n_segments=15": ("lime", {"n_segments": 15}),
    },
    "kernelshap": {
        "n_samples=100": ("kernelshap", {"n_samples": 100}),
        "n_samples=100, seed=1": ("kernelshap", {"n_samples": 100, "seed": 1}),
        "n_segments=15": ("kernelshap", {"n_segments": 15, "n_samples": 200}),
    },
    "occlusion": {
        "window=56": ("occlusion", {"window": 56}),
        "window=16": ("occlusion", {"window": 16, "stride": 16}),
    },
    "lrp": {
        "zero": ("lrp", {"composite": "zero"}),
        "epsilon-gamma-box": ("lrp", {"composite": "epsilon-gamma-box", **BOUNDS}),
        "epsilon-alpha2-beta1": ("lrp", {"composite": "epsilon-alpha2-beta1"}),
    },
    "attention": {"extended_lrp": ("extended_lrp", {}), "occlusion, window=8": OCCLUDED},
    "extended_lrp": {
        "gammas=(0,)": ("extended_lrp", {"gammas": (0.0,)}),
        "gammas=(1,)": ("extended_lrp", {"gammas": (1.0,)}),
        "classes=3": ("extended_lrp", {"classes": 3}),
        "follow=True": ("extended_lrp", {"follow": True}),
    },
    "attention_refined_lrp": {"extended_lrp": ("extended_lrp", {}), "attention": ("attention", {})},
    "attention_rollout": {"gradient_rollout": ("gradient_rollout", {}), "occlusion, window=8": OCCLUDED},
    "gradient_rollout": {"attention_rollout": ("attention_rollout", {}), "occlusion, window=8": OCCLUDED},
}

# Fewer perturbations, so that a metric that explains again many times is done in seconds.
CHEAPER: dict[str, dict[str, Any]] = {"lime": {"n_samples": 200}, "kernelshap": {"n_samples": 200}}
JUDGED = 8
"""Planted digits that metrics are drawn of."""


class Scene(NamedTuple):
    """A network, what it looks at, and the maps of all methods."""

    model: nn.Module
    inputs: Tensor
    masks: Tensor
    maps: dict[str, xc.Attribution]
    data: zoo.Dataset


class Subject(NamedTuple):
    """What a method explains: a network, two images, and the names of the classes."""

    model: nn.Module
    inputs: Tensor
    classes: tuple[str, ...]
    scale: zoo.Scale


def of_method(name: str) -> Figure:
    """The method's defaults on two images, and what its page warns of."""
    subject = {"attention": _attended, "transformer": _transformer}.get(METHODS[name].traits.needs, _photographs)()
    columns = {name: (name, {}), **BESIDE.get(name, {})}
    made = {title: _explained(subject, *column) for title, column in columns.items()}
    return xc.grid(made, classes=subject.classes, mean=subject.scale.mean, std=subject.scale.std)


def _explained(subject: Subject, method: str, settings: dict[str, Any]) -> Any:
    (found,) = attempted(subject.model, subject.inputs, [METHODS.build(method, **settings)]).values()
    return found


@cache
def _photographs() -> Subject:
    model = xc.build_model("squeezenet1_0", 1000, 3)
    xc.load_weights(model, WEIGHTS)
    images = zoo.open_images([zoo.data_root() / path for path in PHOTOGRAPHS])
    return Subject(model.eval(), images, zoo.imagenet_classes(), zoo.IMAGENET)


@cache
def _attended() -> Subject:
    return _digits("attended_cnn", ATTENDED_RECIPE, width=16)


@cache
def _transformer() -> Subject:
    return _digits("tiny_vit", TRANSFORMER_RECIPE)


def _digits(name: str, recipe: Recipe, **settings: int) -> Subject:
    """The first two test images, not chosen ones."""
    data = xc.load_dataset("digits")
    model, provenance = trained(name, data, recipe, **settings)
    print(f"{name}: {provenance.accuracy:.1%} of the test images right", flush=True)
    return Subject(model, data.test.batch(range(2))[0], data.classes, data.scale)


def tiny_vit(classes: int, in_channels: int) -> nn.Module:
    """torchvision's VisionTransformer for 32 x 32 pixels: 8 x 8 patches, two blocks of four heads, 64 neurons wide."""
    from torchvision.models import VisionTransformer  # zoo makes it importable beside a CPU-only torch

    model = VisionTransformer(32, 4, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=classes)
    model.conv_proj = nn.Conv2d(in_channels, 64, 4, stride=4)
    return model


MODELS.add("tiny_vit", tiny_vit)


def of_metric(name: str) -> Figure:
    """Of all methods on eight planted digits, the two that the metric puts first and the two that it puts last."""
    scene = _planted()
    metric = METRICS.build(name)
    means = {}
    for method, made in scene.maps.items():
        try:
            values = metric(scene.model, made, scene.masks if metric.traits.masks else None)
        except xc.XaiCompareError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        means[method] = float(values.mean())
    ranked = sorted(means, key=means.__getitem__, reverse=metric.higher_is_better)
    shown = [*ranked[:2], *ranked[-2:]]
    scale = scene.data.scale
    columns = {f"{method} {_told(means[method])}": scene.maps[method].part(slice(2)) for method in shown}
    return xc.grid(columns, classes=scene.data.classes, mean=scale.mean, std=scale.std)


def _told(mean: float) -> str:
    """A number whose sign no line breaks after."""
    return f"{mean:.3g}".replace("-", "\N{MINUS SIGN}")


@cache
def _planted() -> Scene:
    data = xc.load_dataset("planted", base="digits")
    model, _ = trained("small_cnn", data)
    inputs, labels = data.test.batch(range(JUDGED))
    methods = [METHODS.build(name, **CHEAPER.get(name, {})) for name in METHODS.names()]
    made = attempted(model, inputs, methods, labels)
    maps = {name: each for name, each in made.items() if isinstance(each, xc.Attribution)}
    masks = data.test.masks(range(JUDGED))
    assert masks is not None
    return Scene(model, inputs, masks, maps, data)


def main(names: list[str]) -> None:
    """Draws and saves them."""
    torch.set_num_threads(1)
    for folder, known, draw in (("methods", METHODS, of_method), ("metrics", METRICS, of_metric)):
        (IMAGES / folder).mkdir(parents=True, exist_ok=True)
        for name in known.names():
            if not names or name in names:
                path = IMAGES / folder / f"{name}.webp"
                draw(name).savefig(path, dpi=130, pil_kwargs={"quality": 75, "method": 6})
                print(path.name, f"{path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
