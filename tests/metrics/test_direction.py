"""Which way is up: on images whose class a planted patch decides, its mask is the best map and its inverse the worst.

The metrics come from the registry, so that none is forgotten. The mask is taken as it is: metrics break its ties
themselves, at random or evenly. It is not the best map there is, as it does not say which of its pixels matter most.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import xaicompare as xc
import xaicompare.metrics
from xaicompare.core import Metric
from xaicompare.registry import METRICS
from xaicompare.training.fit import RECIPES, accuracy, fit
from xaicompare.zoo import Dataset, build_model, data_root, load_dataset

CLAIMS = ("removal", "subsets", "masking", "localisation")  # families that say whether a map is right
CLAIMING = [name for name in METRICS.names() if METRICS[name].traits.family in CLAIMS or name == "infidelity"]
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "confidence_removal": [{"order": order} for order in ("most", "least")],
    "pixel_flipping": [{"order": order} for order in ("gain", "most", "least")],
    "road": [{"order": order} for order in ("gain", "most", "least")],
    "infidelity": [{"perturbation": "square"}],  # gaussian: below
}
FEW = {"n_subsets": 10, "n_samples": 20}  # draws, where a metric has them: seconds, not minutes
MARGIN = 0.05  # of the way from the best to the worst that random has to stay behind the best

FILES = {"mnist": ["MNIST"], "cifar10": ["cifar10-jpeg.tar.xz", "cifar-10-batches-py"]}

CASES = [(name, settings) for name in CLAIMING for settings in VARIANTS.get(name, [{}])]


@dataclass(frozen=True)
class Truth:
    """A trained model, images that it classifies right, and where what decides their class lies."""

    model: nn.Module
    made: xc.Attribution  # its values don't matter
    masks: Tensor  # (n, h, w)
    maps: dict[str, Tensor]  # (n, h, w)


@pytest.fixture(scope="module", params=["digits", "mnist", "cifar10"])
def planted(request: pytest.FixtureRequest) -> Dataset:
    """Half as many images on the two whose files are not in the package."""
    base = request.param
    if base != "digits" and not any((data_root() / name).exists() for name in FILES[base]):
        pytest.skip(f"needs real data: {base} in the folder that XAICOMPARE_DATA names")
    return load_dataset("planted", base=base)


@pytest.fixture(scope="module")
def model(planted: Dataset) -> nn.Module:
    made = build_model("small_cnn", len(planted.classes), planted.channels)
    fit(made, planted, replace(RECIPES["small_cnn"], epochs=6, lr=2e-3))
    return made


@pytest.fixture(scope="module")
def truth(planted: Dataset, model: nn.Module) -> Truth:
    shown = range(64 if "digits" in planted.name else 32)
    inputs, labels = planted.test.batch(shown)
    masks = planted.test.masks(shown)
    assert masks is not None
    mask, draws = masks.float(), torch.Generator().manual_seed(0)
    maps = {"mask": mask, "random": torch.rand(mask.shape, generator=draws), "inverse": 1 - mask}
    return Truth(model, xc.attribute(model, inputs, labels, "random"), masks, maps)


def test_the_model_learns_what_was_planted(planted: Dataset, model: nn.Module) -> None:
    assert accuracy(model, planted.test) > 0.95


def test_the_patch_alone_decides(truth: Truth) -> None:
    """Without it the class has no more than its chance; with it and nothing else, the class is still found."""
    inputs, target, means = truth.made.inputs, truth.made.target, truth.made.inputs.mean((2, 3), keepdim=True)
    only, without = (torch.where(side[:, None], inputs, means) for side in (truth.masks, ~truth.masks))
    chance = truth.model(without).detach().softmax(1).gather(1, target[:, None]).mean()
    assert float(chance) < 0.3
    assert float((truth.model(only).argmax(1) == target).float().mean()) > 0.8


@pytest.mark.parametrize(("name", "settings"), CASES, ids=[f"{name}-{settings}" for name, settings in CASES])
def test_the_mask_is_best_and_its_inverse_worst(truth: Truth, name: str, settings: dict[str, Any]) -> None:
    known = {field.name for field in fields(METRICS[name])}  # type: ignore[arg-type]
    metric = METRICS[name](**settings, **{key: value for key, value in FEW.items() if key in known})
    found = {title: judged(truth, metric, values) for title, values in truth.maps.items()}
    up = 1 if metric.higher_is_better else -1
    best, between, worst = (up * found[title] for title in ("mask", "random", "inverse"))
    assert best > between, found
    assert between > worst or between == worst == metric.traits.low, found  # nothing is worse than none of the images
    assert best - between > MARGIN * (best - worst), found


def test_small_noise_tells_the_mask_from_others_but_not_those_from_each_other(truth: Truth) -> None:
    """Infidelity with Gaussian noise, where all but the patch's few slopes are noise in the forecast.

    At their best scale the random map and the inverse foretell nothing; which is better is chance.
    """
    metric = METRICS["infidelity"](n_samples=20)
    found = {title: judged(truth, metric, values) for title, values in truth.maps.items()}
    nothing = float(scored(truth, metric, 0 * truth.maps["mask"]).mean())
    assert found["mask"] < 0.92 * min(found["random"], found["inverse"]), found
    assert min(found["random"], found["inverse"]) > 0.9 * nothing, (found, nothing)


def judged(truth: Truth, metric: Metric, values: Tensor) -> float:
    """The metric's mean over the images for maps (n, h, w)."""
    if metric.name == "infidelity":
        return float(at_best_scale(truth, metric, values / truth.made.inputs[:, 0]).mean())
    return float(scored(truth, metric, values).mean())


def scored(truth: Truth, metric: Metric, values: Tensor) -> Tensor:
    masks = truth.masks if metric.traits.masks else None
    return xc.score(truth.model, replace(truth.made, values=values[:, None]), metric, masks)


def at_best_scale(truth: Truth, metric: Metric, slopes: Tensor) -> Tensor:
    """Infidelity (n,) of the best non-negative multiple of each map.

    It compares changes of the inputs times the map with changes of the output. A mask says where, not how much: what a
    pixel contributes, over its value, is a slope, and its scale is free. The error is quadratic in the scale, so three
    scales tell the least.
    """
    minus, zero, plus = (scored(truth, metric, scale * slopes).double() for scale in (-1, 0, 1))
    curvature, fall = (plus + minus) / 2 - zero, (minus - plus) / 2
    scale = (fall / (2 * curvature)).clamp_min(0)
    return zero - fall * scale + curvature * scale**2
