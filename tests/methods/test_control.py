import math

import pytest
import torch
from nets import cnn, mlp
from oracles import sobel
from torch import nn

import xaicompare as xc


@pytest.mark.parametrize("method", ["random", "edges", "center"])
def test_controls_know_nothing_of_the_model(method: str) -> None:
    inputs = torch.randn(2, 3, 16, 16)
    one, other = (xc.attribute(model, inputs, 0, method).values for model in (cnn(), cnn()))
    assert one.equal(other)


def test_random_is_standard_normal_and_apart_for_each_sample_and_seed() -> None:
    inputs, model = torch.randn(2, 3, 64, 64), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    values = xc.attribute(model, inputs, 0, "random").values
    assert values.shape == (2, 1, 64, 64)
    assert abs(float(values.mean())) < 0.05
    assert abs(float(values.std()) - 1) < 0.05
    others = xc.attribute(model, inputs, 0, "random", seed=1).values
    rows = torch.cat([values, others]).flatten(1)
    assert (torch.corrcoef(rows) - torch.eye(4)).abs().max() < 0.1


def test_edges_are_sobels() -> None:
    inputs = torch.randn(2, 3, 5, 7)
    values = xc.attribute(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), inputs, 0, "edges").values
    for image, strength in zip(inputs, values, strict=True):
        assert torch.allclose(strength[0], sobel(image.mean(0)), atol=1e-6)


@pytest.mark.parametrize("width", [0.1, 0.25])
def test_center_is_a_gaussian_whose_width_is_a_share_of_the_side(width: float) -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    values = xc.attribute(model, torch.randn(2, 3, 9, 21), 0, "center", width=width).values
    for row, column in [(4, 10), (0, 0), (2, 19)]:
        away = ((row - 4) / 9) ** 2 + ((column - 10) / 21) ** 2
        assert float(values[1, 0, row, column]) == pytest.approx(math.exp(-away / (2 * width**2)), rel=1e-5)


def test_center_of_a_vector_is_its_middle() -> None:
    values = xc.attribute(mlp(), torch.randn(2, 12), 0, "center").values
    assert torch.allclose(values, values.flip(1))
    assert values[0].argmax() in (5, 6)
