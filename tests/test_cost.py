"""What methods cost, against counts done by hand."""

import pytest
import torch
from torch import nn

import xaicompare as xc
from xaicompare.cost import measured, passes

INPUTS = torch.randn(2, 3, 16, 16)


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    ).eval()


@pytest.mark.parametrize(
    ("method", "passes"),
    [
        (xc.Random(), 1),  # the explained output
        (xc.Saliency(), 2),
        (xc.SmoothGrad(n_samples=7), 1 + 2 * 7),
        (xc.LIME(n_samples=30), 1 + 30),
        (xc.Saliency(batch_size=1), 2),
    ],
    ids=lambda value: str(value)[:20],
)
def test_passes_are_arithmetic_in_units_of_a_forward_pass(method: xc.Method, passes: float) -> None:
    assert measured(method, net(), INPUTS, torch.tensor([0, 1])).passes == pytest.approx(passes, rel=1e-6)


def test_memory_is_that_of_the_tensors_held() -> None:
    """At least the activations of the widest layer, and more for more images at once."""
    layer = 2 * 8 * 16 * 16 * 4 / 2**20
    together = measured(xc.Saliency(), net(), INPUTS, torch.tensor([0, 1])).mebibytes
    assert layer < together < 10 * layer
    assert measured(xc.Saliency(batch_size=1), net(), INPUTS, torch.tensor([0, 1])).mebibytes < together


def test_a_network_without_products_is_no_error() -> None:
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x.mean((1, 2, 3)), x.amax((1, 2, 3))], 1)

    assert measured(xc.Saliency(), Mean(), INPUTS, torch.tensor([0, 1])).passes == 0


@pytest.mark.parametrize(
    ("method", "expected"),
    [(xc.AttentionRollout(), (1, 0)), (xc.GradientRollout(), (1, 1))],
    ids=lambda each: str(each),
)
def test_a_gradient_that_ends_inside_a_transformer_is_a_pass_backward(
    method: xc.Method, expected: tuple[int, int]
) -> None:
    assert passes(method) == expected
