"""Monotonicity, average drop and average increase, against plain loops and closed forms."""

from itertools import pairwise
from typing import Any

import pytest
import scipy.stats
import torch
from nets import cnn
from test_contract import Untouched
from test_removal import explained, vectors
from torch import Tensor, nn

import xaicompare as xc

LIT = ["average_drop", "average_increase"]


def images() -> tuple[nn.Module, xc.Attribution]:
    """A network, and maps of 8 x 8, which 16 patches cover."""
    model, inputs = cnn().double(), torch.randn(3, 3, 8, 8).double()
    return model, explained(model, inputs, torch.randn(3, 1, 8, 8).double())


def patch(number: int) -> tuple[slice, slice]:
    """The rows and columns of one of 4 x 4 patches of 2 x 2."""
    row, column = 2 * (number // 4), 2 * (number % 4)
    return slice(row, row + 2), slice(column, column + 2)


def positive_parts() -> tuple[nn.Module, xc.Attribution, Tensor]:
    """A linear model whose features all speak for class 1, and none for class 0; its exact map; the features' parts."""
    model, inputs = nn.Linear(7, 2).double(), torch.rand(3, 7).double() + 0.1
    nn.init.zeros_(model.weight)
    model.weight.data[1] = torch.arange(1.0, 8.0)
    made = xc.attribute(model, inputs, 1, "input_x_gradient")
    return model, made, made.values


class TestMonotonicity:
    @pytest.mark.parametrize("sign", ["signed", "absolute"])
    def test_correlation_by_scipy(self, sign: str) -> None:
        model, made = images()
        found = xc.score(model, made, "monotonicity", n_features=16, fill=0.2, sign=sign, batch_size=5)
        for i, (image, values) in enumerate(zip(made.inputs, made.map, strict=True)):
            importance, lost = [], []
            for number in range(16):
                rows, columns = patch(number)
                changed = image.clone()
                changed[:, rows, columns] = 0.2
                drop = (model(image[None]) - model(changed[None]))[0, 1].item()
                part = values[rows, columns]
                importance.append(float((part.abs() if sign == "absolute" else part).mean()))
                lost.append(abs(drop) if sign == "absolute" else drop)
            assert float(found[i]) == pytest.approx(scipy.stats.spearmanr(importance, lost)[0])

    def test_steps_by_a_plain_loop(self) -> None:
        model, made = images()
        settings: dict[str, Any] = {"n_features": 16, "fill": 0.2}
        shares, everything = [], []
        for image, values in zip(made.inputs, made.map, strict=True):
            order = sorted(range(16), key=lambda number: float(values[patch(number)].mean()))
            shown = torch.full_like(image, 0.2)
            seen = [model(shown[None]).softmax(1)[0, 1].item()]
            for number in order:
                rows, columns = patch(number)
                shown[:, rows, columns] = image[:, rows, columns]
                seen.append(model(shown[None]).softmax(1)[0, 1].item())
            rises = [after >= before for before, after in pairwise(seen)]
            shares.append(sum(rises) / 16)
            everything.append(float(all(rises)))
        assert 0 < sum(shares) / 3 < 1
        assert xc.score(model, made, "monotonicity", kind="steps", **settings).tolist() == pytest.approx(shares)
        assert xc.score(model, made, "monotonicity", kind="all", **settings).tolist() == everything

    def test_a_linear_model_in_closed_form(self) -> None:
        model, made, parts = positive_parts()
        against = explained(model, made.inputs, -parts)
        for one, expected in ((made, [1, 1, 1]), (against, [-1, -1, -1])):
            assert xc.score(model, one, "monotonicity", fill=0.0).tolist() == pytest.approx(expected)
            # Where every feature helps, every order is as good as any other.
            for kind in ("steps", "all"):
                assert xc.score(model, one, "monotonicity", fill=0.0, kind=kind).tolist() == [1, 1, 1]
        assert xc.score(model, against, "monotonicity", fill=0.0, sign="absolute").tolist() == pytest.approx([1, 1, 1])

    def test_features_that_speak_against_the_class_make_it_fall(self) -> None:
        model, made, _ = positive_parts()
        model.weight.data[1, :2] *= -1
        exact = xc.attribute(model, made.inputs, 1, "input_x_gradient")
        assert xc.score(model, exact, "monotonicity", fill=0.0, kind="steps").tolist() == pytest.approx([5 / 7] * 3)
        assert xc.score(model, exact, "monotonicity", fill=0.0, kind="all").tolist() == [0, 0, 0]

    def test_a_constant_map_has_none(self) -> None:
        model, made = images()
        flat = explained(model, made.inputs, torch.ones(3, 1, 8, 8).double())
        assert xc.score(model, flat, "monotonicity").tolist() == [0, 0, 0]

    def test_superpixels_that_images_have_in_different_numbers(self) -> None:
        model, inputs = cnn(), torch.rand(2, 3, 24, 24)
        inputs[1] = inputs[1].mean()
        made = xc.attribute(model, inputs, 1, "saliency")
        together = xc.score(model, made, "monotonicity", features="superpixel", n_features=9)
        alone = [
            xc.score(
                model,
                xc.attribute(model, image[None], 1, "saliency"),
                "monotonicity",
                features="superpixel",
                n_features=9,
            )
            for image in inputs
        ]
        torch.testing.assert_close(together, torch.cat(alone))


class TestLit:
    @pytest.mark.parametrize("fill", [0.0, 0.4, "mean"])
    @pytest.mark.parametrize("make", [images, vectors])
    def test_plain_loops(self, make: Any, fill: float | str) -> None:
        model, made = make()
        drops, rises = [], []
        for image, values in zip(made.inputs, made.map, strict=True):
            light = values.clamp(min=0) / values.max()
            dims = tuple(range(1, image.ndim)) or (0,)
            dark = image.mean(dims, keepdim=True) if fill == "mean" else torch.tensor(fill).double()
            before, after = (
                model(each[None]).softmax(1)[0, 1].item() for each in (image, light * image + (1 - light) * dark)
            )
            drops.append(max(0.0, before - after) / before)
            rises.append(float(after > before))
        assert xc.score(model, made, "average_drop", fill=fill).tolist() == pytest.approx(drops)
        assert xc.score(model, made, "average_increase", fill=fill).tolist() == rises

    def test_a_constant_map_changes_nothing(self) -> None:
        model, made = images()
        flat = explained(model, made.inputs, torch.full((3, 1, 8, 8), 1e-9).double())
        for name in LIT:
            assert xc.score(model, flat, name).tolist() == [0, 0, 0], name

    @pytest.mark.parametrize("value", [0.0, -2.0])
    def test_a_map_without_a_positive_value_leaves_nothing(self, value: float) -> None:
        model, made = images()
        dark = explained(model, made.inputs, torch.full((3, 1, 8, 8), value).double())
        before, after = (model(each).softmax(1)[:, 1] for each in (made.inputs, torch.zeros_like(made.inputs)))
        expected = ((before - after).clamp(min=0) / before).detach()
        torch.testing.assert_close(xc.score(model, dark, "average_drop"), expected)
        assert xc.score(model, dark, "average_increase").tolist() == (after > before).double().tolist()

    def test_what_speaks_against_the_class_is_better_left_dark(self) -> None:
        model, made, _ = positive_parts()
        model.weight.data[1, :2] *= -1
        exact = xc.attribute(model, made.inputs, 1, "input_x_gradient")
        only_helpful = explained(model, made.inputs, (exact.values > 0).double())
        only_harmful = explained(model, made.inputs, (exact.values < 0).double())
        assert xc.score(model, only_helpful, "average_increase").tolist() == [1, 1, 1]
        assert xc.score(model, only_helpful, "average_drop").tolist() == [0, 0, 0]
        assert xc.score(model, only_harmful, "average_increase").tolist() == [0, 0, 0]
        assert (xc.score(model, only_harmful, "average_drop") > 0.5).all()

    @pytest.mark.parametrize("name", LIT)
    def test_scale_does_not_matter(self, name: str) -> None:
        model, made = images()
        smaller = explained(model, made.inputs, 1e-8 * made.values)
        torch.testing.assert_close(xc.score(model, made, name), xc.score(model, smaller, name))

    def test_a_fill_that_needs_neighbours_is_refused(self) -> None:
        with pytest.raises(xc.SettingError, match="average_drop: fill='linear'"):
            xc.score(*images(), "average_drop", fill="linear")


@pytest.mark.parametrize("name", ["monotonicity", *LIT])
def test_model_and_random_state_come_back(name: str) -> None:
    model, made = images()
    with Untouched(model.train()):
        xc.score(model, made, name)


def test_steps_of_superpixels_depend_on_no_batch() -> None:
    """Images have different numbers of superpixels, and so of steps."""
    model, inputs = cnn().double(), torch.rand(4, 3, 32, 32).double()
    made = explained(model, inputs, torch.randn(4, 1, 32, 32).double())
    settings: dict[str, Any] = {"kind": "steps", "features": "superpixel", "n_features": 12}
    together = xc.score(model, made, "monotonicity", **settings)
    for image in range(4):
        alone = explained(model, inputs[image : image + 1], made.values[image : image + 1])
        torch.testing.assert_close(xc.score(model, alone, "monotonicity", **settings), together[image : image + 1])
