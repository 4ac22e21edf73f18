"""How a grid may look: maps over the photograph, sheets that wrap, probabilities, titles as people write them."""

import numpy as np
import pytest
import torch
from test_figures import cells, inputs, made, many, noise, picture, texts

import xaicompare as xc
from xaicompare.errors import InputError, SettingError
from xaicompare.figures import grid


def test_over_the_photograph_zero_is_the_photograph_and_one_is_full_colour() -> None:
    values = torch.zeros(1, 1, 6, 8)
    values[..., 0, 0], values[..., 1, 1] = 1.0, -1.0
    given = inputs(1, (1, 6, 8))
    white = picture(cells(grid(made(values, given), percentile=100, outlines=0))[1])
    over = picture(cells(grid(made(values, given), percentile=100, overlay=True))[1])
    shown = picture(cells(grid(made(values, given)))[0])
    np.testing.assert_allclose(over[2:], np.repeat(0.45 + 0.55 * shown[2:, :, None], 3, 2), atol=1e-6)
    for place in ((0, 0), (1, 1)):
        np.testing.assert_allclose(over[place], white[place], atol=1e-6)


def test_stronger_values_hide_more_of_the_photograph() -> None:
    values = torch.linspace(0, 1, 48).view(1, 1, 6, 8)
    over = picture(cells(grid(made(values, torch.zeros(1, 1, 6, 8)), percentile=100, overlay=True))[1])
    red, blue = over.reshape(-1, 3)[:, 0], over.reshape(-1, 3)[:, 2]
    assert np.all(np.diff(red - blue) > -0.02)


def test_features_have_no_photograph_under_them() -> None:
    given = torch.rand(2, 12)
    figure = grid(made(torch.randn(2, 12), given), overlay=True)
    assert not any(cell.images for cell in cells(figure))


@pytest.mark.parametrize(("methods", "wrap", "count"), [(5, 2, 3 * (3 + 3 + 2)), (4, 4, 3 * 5), (3, 9, 3 * 4)])
def test_a_sheet_wraps(methods: int, wrap: int, count: int) -> None:
    figure = grid(many(methods), wrap=wrap)
    assert len(cells(figure)) == count
    assert texts(figure).count("input") == -(-methods // wrap)
    assert {f"method_{number}" for number in range(methods)} <= set(texts(figure))
    one = grid(many(methods))
    assert figure.get_figwidth() <= one.get_figwidth()


def test_wrapped_maps_are_those_of_one_line() -> None:
    plain = [picture(cell) for cell in cells(grid(many(3, n=1)))]
    wrapped = [picture(cell) for cell in cells(grid(many(3, n=1), wrap=1))]
    for number, place in ((1, 1), (2, 3), (3, 5)):  # each block begins with the input
        np.testing.assert_array_equal(plain[number], wrapped[place])


def test_probabilities_stand_beside_scores() -> None:
    found = texts(grid(many(1), probabilities=torch.tensor([0.991, 0.5, 0.0123])))
    assert "score 12.3 probability 99.1%" in found
    with pytest.raises(InputError, match="there are 1 probabilities; expected 3"):
        grid(many(1), probabilities=[0.5])


def test_columns_have_the_titles_that_people_write() -> None:
    model = torch.nn.Linear(12, 3)
    found = texts(grid(xc.compare(model, torch.rand(1, 12), ["integrated_gradients", "lrp", "input_x_gradient"])))
    assert {"Integrated Gradients", "LRP", "Input × Gradient"} <= set(found)
    assert "mine" in texts(grid({"mine": made(noise(0))}))


def test_no_methods_beside_each_other_is_told() -> None:
    with pytest.raises(SettingError, match="wrap=0"):
        grid(many(1), wrap=0)
