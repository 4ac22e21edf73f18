"""Metrics from removal curves, against their formulas, closed forms, and maps that are known to be right."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
from nets import cnn
from oracles import imputed_exactly, removal
from test_removal import explained, images
from torch import Tensor, nn

import xaicompare as xc
from xaicompare.errors import InputError, SettingError, UnsupportedModelError
from xaicompare.metrics._imputation import imputed
from xaicompare.metrics.fill import filled
from xaicompare.metrics.removal import GainCurve, RemovalCurve
from xaicompare.registry import METRICS

STEPS = [step / 20 for step in range(21)]
REMOVALS = [name for name in METRICS.names() if METRICS[name].traits.family == "removal"]


def chances(model: nn.Module, made: xc.Attribution, shares: list[float], *, most: bool, fill: float = 0.0) -> Tensor:
    """Softmax probabilities of the target by the oracle, (n, s)."""
    logits = removal(model, made.inputs, made.map, torch.tensor(fill), shares, most)
    return logits.softmax(2)[torch.arange(len(made))[:, None], torch.arange(len(shares)), made.target[:, None]]


def area(values: Tensor, shares: list[float]) -> Tensor:
    """By trapezia, over the width of the shares."""
    pieces = [(b - a) * (values[:, i] + values[:, i + 1]) / 2 for i, (a, b) in enumerate(pairwise(shares))]
    return sum(pieces) / (shares[-1] - shares[0])


def test_deletion_and_insertion_are_areas_under_the_oracles_curves() -> None:
    model, made = images()
    torch.testing.assert_close(xc.score(model, made, "deletion"), area(chances(model, made, STEPS, most=True), STEPS))
    # Insertion of the most important first, read backwards: removal of the least important first.
    expected = area(chances(model, made, STEPS, most=False, fill=0.3), STEPS)
    torch.testing.assert_close(xc.score(model, made, "insertion", fill=0.3), expected)


def test_pixel_flipping_is_the_gain_of_one_order_over_the_other() -> None:
    model, made = images()
    most, least = (area(chances(model, made, STEPS, most=side, fill=0.1), STEPS) for side in (True, False))
    for order, expected in (("most", most), ("least", least), ("gain", least - most)):
        torch.testing.assert_close(xc.score(model, made, "pixel_flipping", order=order, fill=0.1), expected)
    assert isinstance(xc.curve(model, made, "pixel_flipping"), GainCurve)


def test_road_is_the_mean_over_shares_with_exact_imputation() -> None:
    """Without noise; conjugate gradients stop early, so the tolerance is theirs."""
    model, inputs = cnn().double(), torch.randn(2, 3, 6, 6).double()
    made = explained(model, inputs, torch.randn(2, 1, 6, 6).double())
    shares, kept = (0.2, 0.5), []
    for sample, values in zip(made.inputs, made.map.flatten(1), strict=True):
        for share in shares:
            gone = torch.zeros(36, dtype=torch.bool)
            gone[values.argsort(descending=True)[: round(share * 36)]] = True
            kept.append(model(imputed_exactly(sample, gone.view(6, 6))[None]).softmax(1)[0, 1])
    expected = torch.stack(kept).view(2, 2).mean(1).detach()
    found = xc.score(model, made, "road", order="most", shares=shares)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("at_once", [10**6, 300], ids=["together", "in parts"])
@pytest.mark.parametrize("height", [9, 8, 70], ids=["odd", "even", "large"])  # from 65 on, in another order of memory
def test_imputation_solves_the_linear_system(height: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from a single known pixel, and for several images of one batch at once."""
    monkeypatch.setattr("xaicompare.metrics._imputation._AT_ONCE", at_once)
    inputs, gone = (
        torch.randn(4, 3, height, 7).double(),
        torch.rand(4, height, 7) < torch.tensor([0.2, 0.6, 0.95, 2.0])[:, None, None],
    )
    gone[3, 4, 4] = False
    found = imputed(inputs, gone)
    for sample, hole, made in zip(inputs, gone, found, strict=True):
        expected = imputed_exactly(sample, hole)
        assert (made - expected).abs().max() < 5e-3 * sample.std()
        assert torch.equal(made[:, ~hole], sample[:, ~hole])


def test_blur_is_a_gaussian() -> None:
    inputs = torch.randn(2, 3, 32, 48).double()
    found = filled(inputs, "blur")
    for sample, made in zip(inputs.flatten(0, 1), found.flatten(0, 1), strict=True):
        expected = scipy.ndimage.gaussian_filter(sample.numpy(), sigma=2.0, mode="nearest", truncate=3.0)
        np.testing.assert_allclose(made.numpy(), expected, atol=1e-9)


def patched(values: Tensor, side: int) -> Tensor:
    """Every position of a map (n, h, w) as the mean of its square patch."""
    means = nn.functional.avg_pool2d(values[:, None], side)[:, 0]
    return means.repeat_interleave(side, 1).repeat_interleave(side, 2)


def by_patches(model: nn.Module, made: xc.Attribution, counts: list[int], side: int, fill: Tensor) -> Tensor:
    """Outputs of the target with so many patches replaced, most important first, (n, s)."""
    importance = patched(made.map, side)[:, ::side, ::side].flatten(1)
    rows = []
    for image, order, value in zip(made.inputs, importance.argsort(1, descending=True), fill, strict=True):
        for count in counts:
            changed, across = image.clone(), image.shape[2] // side
            for patch in order[:count].tolist():
                row, column = side * (patch // across), side * (patch % across)
                changed[:, row : row + side, column : column + side] = value[
                    :, row : row + side, column : column + side
                ]
            rows.append(model(changed[None])[0, 1].detach())
    return torch.stack(rows).view(len(made), len(counts))


def test_aopc_and_selectivity_remove_patches() -> None:
    model, inputs = cnn().double(), torch.randn(2, 3, 8, 8).double()
    made = explained(model, inputs, torch.randn(2, 1, 8, 8).double())
    settings: dict[str, Any] = {"n_features": 16, "shares": (0.0, 0.25, 0.5)}
    scores = by_patches(model, made, [0, 4, 8], 2, torch.full_like(inputs, 0.2))
    # Equation 12: the mean of f(x0) - f(xk) over all steps.
    torch.testing.assert_close(xc.score(model, made, "aopc", fill=0.2, **settings), (scores[:, :1] - scores).mean(1))
    expected = area(scores, [0.0, 0.25, 0.5])
    torch.testing.assert_close(xc.score(model, made, "selectivity", fill=0.2, **settings), expected)


def test_irof_is_the_area_over_the_relative_curve() -> None:
    """With patches for superpixels, so that the oracle needs no SLIC."""
    model, inputs = cnn().double(), torch.randn(2, 3, 8, 8).double()
    made = explained(model, inputs, torch.randn(2, 1, 8, 8).double())
    shares = [0.0, 0.25, 0.5, 1.0]

    class Chances(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return model(x).softmax(1)

    kept = by_patches(Chances(), made, [0, 4, 8, 16], 2, inputs.mean((2, 3), keepdim=True).expand_as(inputs))
    expected = 1 - area(kept / kept[:, :1], shares)
    found = xc.score(model, made, "irof", features="patch", n_features=16, shares=shares)
    torch.testing.assert_close(found, expected)


def test_sufficiency_keeps_the_most_important() -> None:
    model, made = images()
    shares = [0.5, 0.75]
    expected = chances(model, made, [0.0], most=True)[:, 0] - chances(model, made, shares, most=False).mean(1)
    torch.testing.assert_close(xc.score(model, made, "sufficiency", fill=0.0, shares=shares), expected)


class Blob(nn.Module):
    """The middle of the image alone decides."""

    def forward(self, x: Tensor) -> Tensor:
        evidence = x[:, :, 6:10, 6:10].mean((1, 2, 3))
        return torch.stack([-4 * evidence, 4 * evidence], 1)


def planted() -> tuple[nn.Module, Tensor, Tensor]:
    """A model, images whose middle is bright, and the mask of what decides."""
    draws = torch.Generator().manual_seed(0)
    inputs = 0.2 * torch.randn(8, 3, 16, 16, generator=draws)
    inputs[:, :, 6:10, 6:10] += 1
    mask = torch.zeros(16, 16)
    mask[6:10, 6:10] = 1
    return Blob(), inputs, mask


# What speaks for nothing can only be left dark for a gain where something speaks against: test_single.py has that.
ORDERED = [name for name in REMOVALS if name != "average_increase"]


@pytest.mark.parametrize("name", ORDERED)
def test_the_right_map_is_best_and_its_inverse_worst(name: str) -> None:
    model, inputs, mask = planted()
    settings = {"fill": 0.0} if name in ("insertion", "aopc") else {}
    maps = {"right": mask.expand(8, 1, 16, 16), "wrong": -mask.expand(8, 1, 16, 16)}
    metric = METRICS.build(name, **settings)
    sign = 1 if metric.higher_is_better else -1
    values = {key: sign * float(metric(model, explained(model, inputs, value)).mean()) for key, value in maps.items()}
    values["random"] = sign * float(metric(model, xc.attribute(model, inputs, 1, "random")).mean())
    assert values["right"] > values["random"] > values["wrong"], values


@pytest.mark.parametrize("name", REMOVALS)
def test_values_lie_in_their_range_and_depend_on_no_batch(name: str) -> None:
    model, made = images()
    metric = METRICS.build(name)
    values = metric(model, made)
    assert values.shape == (3,)
    assert bool((values >= metric.traits.low).all() and (values <= metric.traits.high).all())
    alone = metric(model, explained(model, made.inputs[1:2], made.values[1:2]))
    torch.testing.assert_close(values[1:2], alone)
    small = METRICS.build(name, batch_size=4)
    torch.testing.assert_close(values, small(model, made))


@pytest.mark.parametrize("name", REMOVALS)
def test_a_constant_map_is_a_random_order(name: str) -> None:
    """Defined, repeatable, and not the order of memory."""
    model, inputs, _ = planted()
    flat = explained(model, inputs, torch.zeros(8, 1, 16, 16))
    metric = METRICS.build(name)
    assert torch.equal(metric(model, flat), metric(model, flat))
    assert torch.isfinite(metric(model, flat)).all()


@pytest.mark.parametrize("sign", ["signed", "absolute"])
def test_the_sign_of_a_map_counts_or_not(sign: str) -> None:
    model, inputs, mask = planted()
    right, against = (explained(model, inputs, side * mask.expand(8, 1, 16, 16)) for side in (1, -1))
    same = torch.allclose(*(xc.score(model, made, "deletion", sign=sign) for made in (right, against)), atol=0.02)
    assert same == (sign == "absolute")


def test_a_linear_model_has_a_known_best_deletion_curve() -> None:
    """The score falls by the largest contributions first; no order of the same pixels falls faster."""
    model = nn.Linear(6, 2).double()
    inputs = torch.rand(1, 6).double()
    parts = (model.weight[1] * inputs[0]).detach()
    made = explained(model, inputs, parts[None])
    curve = xc.curve(
        model, made, "pixel_flipping", order="most", of="score", fill=0.0, shares=[k / 6 for k in range(7)]
    )
    expected = model(inputs)[0, 1].detach() - torch.cat(
        [torch.zeros(1).double(), parts.sort(descending=True)[0].cumsum(0)]
    )
    torch.testing.assert_close(curve.values[0], expected)


def test_curves_are_kept() -> None:
    model, made = images()
    curve = xc.curve(model, made, metric="deletion", shares=[0.0, 0.5, 1.0])
    assert isinstance(curve, RemovalCurve)
    assert (curve.values.shape, curve.accuracy.shape) == ((3, 3), (3, 3))
    torch.testing.assert_close(curve.area(), xc.score(model, made, "deletion", shares=[0.0, 0.5, 1.0]))


@pytest.mark.parametrize("quantity", ["score", "probability", "confidence", "signed_confidence", "accuracy"])
def test_quantities(quantity: str) -> None:
    model, made = images()
    curve = xc.curve(model, made, "pixel_flipping", order="most", of=quantity)
    chosen = {
        "score": curve.logits[..., 1],
        "probability": curve.logits.softmax(2)[..., 1],
        "confidence": xc.confidence(curve.logits),
        "signed_confidence": torch.where(curve.logits.argmax(2) == 1, 1, -1) * xc.confidence(curve.logits),
        "accuracy": (curve.logits.argmax(2) == 1).double(),
    }[quantity]
    torch.testing.assert_close(curve.values, chosen)


def test_bf16_agrees_within_its_bound_or_is_refused() -> None:
    model, made = images()
    model, inputs = model.float(), made.inputs.float()
    single = explained(model, inputs, made.values.float())
    found, exact = (xc.score(model, single, "deletion", bf16=half) for half in (True, False))
    torch.testing.assert_close(found, exact, atol=0.02, rtol=0)

    class Sharp(nn.Module):
        """Class 1 is ahead by what bfloat16 can't hold beside 1,000."""

        def forward(self, x: Tensor) -> Tensor:
            nothing = nn.functional.linear(x.flatten(1), torch.zeros(2, 108))  # of autocast's precision
            return nothing + torch.tensor([1000.0, 1001.0]).to(nothing)

    with pytest.raises(UnsupportedModelError, match="bfloat16 moves a probability"):
        xc.score(Sharp(), single, "deletion", bf16=True)


class TestMistakes:
    def test_another_shape(self) -> None:
        model, made = images()
        wrong = explained(model, made.inputs, torch.zeros(3, 1, 4, 4).double())
        with pytest.raises(InputError, match=r"deletion: the attribution has shape \(3, 1, 4, 4\) for inputs"):
            xc.score(model, wrong, "deletion")

    def test_masks_that_nothing_looks_at(self) -> None:
        model, made = images()
        with pytest.raises(InputError, match="nothing looks at them"):
            METRICS.build("deletion")(model, made, torch.ones(3, 6, 6, dtype=torch.bool))

    @pytest.mark.parametrize("shares", [[], [0.5, 0.2], [0.1, 1.2]])
    def test_shares(self, shares: list[float]) -> None:
        with pytest.raises(SettingError, match="shares"):
            METRICS.build("deletion", shares=shares)

    def test_one_share_has_no_area(self) -> None:
        model, made = images()
        with pytest.raises(InputError, match="an area needs two or more"):
            xc.score(model, made, "deletion", shares=[0.5])

    def test_a_metric_without_a_curve(self) -> None:
        class Flat(xc.Metric):
            name = "flat"

            def _values(self, model: nn.Module, attribution: xc.Attribution, masks: Tensor | None) -> Tensor:
                return torch.zeros(len(attribution))

        with pytest.raises(xc.XaiCompareError, match="no metric with a curve"):
            xc.curve(*images(), metric=Flat())

    @pytest.mark.parametrize("fill", ["blur", "linear"])
    def test_fills_for_images_alone(self, fill: str) -> None:
        model = nn.Linear(6, 2)
        made = xc.attribute(model, torch.rand(2, 6), 1, "saliency")
        with pytest.raises(InputError, match=f"fill='{fill}' on inputs"):
            xc.score(model, made, "deletion", fill=fill)
