import captum.attr
import pytest
import torch
from nets import mlp, net_and_inputs
from oracles import occlusion, shapley
from torch import Tensor, nn

import xaicompare as xc

QUARTERS = torch.arange(4).view(2, 2).repeat_interleave(3, 0).repeat_interleave(3, 1)  # of 6 x 6


def product_of_sums() -> nn.Module:
    """A model (n, 2, 6, 6) -> (n, 3) in which the quarters of the image work together."""
    return nn.Sequential(nn.AvgPool2d(3), nn.Flatten(), nn.Linear(8, 9), nn.Tanh(), nn.Linear(9, 3)).double()


def linear_in_quarters() -> tuple[nn.Module, Tensor, Tensor]:
    """A linear model, an image (1, 2, 6, 6), and what each quarter adds to output 1."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)).double()
    inputs = torch.randn(1, 2, 6, 6).double()
    added = (model[1].weight[1].view(2, 6, 6) * inputs[0]).sum(0).detach()
    return model, inputs, torch.stack([added[quarter == QUARTERS].sum() for quarter in range(4)])


@pytest.mark.parametrize(("window", "stride"), [(3, 3), (3, 1), (4, 3), (2, 1), (6, 5)])
def test_occlusion_is_the_oracles(window: int, stride: int) -> None:
    model, inputs = product_of_sums(), torch.randn(2, 2, 6, 6).double()
    made = xc.attribute(model, inputs, [2, 0], "occlusion", window=window, stride=stride, baseline=0.5)
    for sample, target, values in zip(inputs, [2, 0], made.values, strict=True):
        expected = occlusion(model, sample, target, window, stride, 0.5)
        assert torch.allclose(values[0], expected, atol=1e-6)  # Captum divides in float32


def test_occlusion_of_vectors_is_captums() -> None:
    model, inputs = net_and_inputs("mlp")
    made = xc.attribute(model, inputs, 1, "occlusion", window=4, stride=3)
    expected = captum.attr.Occlusion(model).attribute(inputs, (4,), strides=(3,), target=1)
    assert torch.allclose(made.values, expected.detach(), atol=1e-6)


def test_occlusion_of_single_features_of_a_linear_model_is_exact() -> None:
    model, inputs = nn.Linear(6, 2), torch.randn(3, 6)
    made = xc.attribute(model, inputs, 1, "occlusion", window=1, baseline=0.2)
    assert torch.allclose(made.values, (inputs - 0.2) * model.weight[1], atol=1e-6)


@pytest.mark.parametrize(("window", "stride"), [(17, 1), (3, 4)])
def test_occlusion_must_cover_every_position(window: int, stride: int) -> None:
    with pytest.raises(xc.InputError, match=rf"window={window}, stride={stride} on .*expected stride <= window <= 16"):
        xc.attribute(*net_and_inputs("cnn"), method="occlusion", window=window, stride=stride)


@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_kernelshap_of_all_coalitions_is_exact(baseline: float) -> None:
    model, inputs = mlp(features=7).double(), torch.randn(2, 7).double()
    made = xc.attribute(model, inputs, [3, 1], "kernelshap", n_samples=126, baseline=baseline)
    for sample, target, values in zip(inputs, [3, 1], made.values, strict=True):

        def worth(coalition: tuple[int, ...], sample: Tensor = sample, target: int = target) -> float:
            seen = torch.full_like(sample, baseline)
            seen[list(coalition)] = sample[list(coalition)]
            return model(seen[None])[0, target].item()

        assert torch.allclose(values, shapley(worth, 7), atol=1e-8)


def test_kernelshap_divides_the_value_of_a_superpixel_among_its_positions() -> None:
    model, inputs = product_of_sums(), torch.randn(1, 2, 6, 6).double()
    uneven = torch.where(torch.arange(36).view(6, 6) < 5, 9, QUARTERS)  # 5 segments, of 5 to 9 positions
    made = xc.attribute(model, inputs, 0, "kernelshap", segments=uneven)

    def worth(coalition: tuple[int, ...]) -> float:
        kept = torch.isin(uneven, torch.tensor([[0, 1, 2, 3, 9][i] for i in coalition]))
        return model(inputs * kept)[0, 0].item()

    for value, segment in zip(shapley(worth, 5), [0, 1, 2, 3, 9], strict=True):
        inside = made.values[0, 0][uneven == segment]
        assert torch.allclose(inside, (value / len(inside)).expand(len(inside)), atol=1e-8)


@pytest.mark.parametrize("n_samples", [10, 40, 500])
def test_kernelshap_is_complete_however_few_its_samples(n_samples: int) -> None:
    model, inputs = net_and_inputs("mlp")
    made = xc.attribute(model, inputs, 2, "kernelshap", n_samples=n_samples, baseline=0.3)
    difference = (model(inputs) - model(torch.full_like(inputs, 0.3)))[:, 2]
    assert torch.allclose(made.values.sum(1), difference, atol=1e-5)
    assert made.residual.abs().max() < 1e-5


def test_kernelshap_recovers_a_linear_model_from_few_samples() -> None:
    model, inputs = nn.Linear(14, 2).double(), torch.randn(2, 14).double()
    made = xc.attribute(model, inputs, 1, "kernelshap", n_samples=60, baseline=-0.5)
    assert torch.allclose(made.values, (inputs + 0.5) * model.weight[1], atol=1e-9)


def test_kernelshap_tends_to_the_exact_values() -> None:
    model, inputs = net_and_inputs("mlp")
    exact = xc.attribute(model, inputs, 1, "kernelshap", n_samples=4094).values
    errors = [
        float((xc.attribute(model, inputs, 1, "kernelshap", n_samples=n).values - exact).abs().max())
        for n in (60, 3000)
    ]
    assert errors[1] < 0.3 * errors[0]
    assert errors[1] < 0.05 * float(exact.abs().max())


def test_kernelshap_of_one_superpixel_is_the_whole_difference() -> None:
    model, inputs, added = linear_in_quarters()
    made = xc.attribute(model, inputs, 1, "kernelshap", n_segments=1)
    assert torch.allclose(made.values, (added.sum() / 36).expand(1, 1, 6, 6))


def test_lime_recovers_what_each_superpixel_adds() -> None:
    model, inputs, added = linear_in_quarters()
    made = xc.attribute(model, inputs, 1, "lime", segments=QUARTERS, n_samples=50, alpha=0)
    assert torch.allclose(made.values[0, 0], added[QUARTERS], atol=1e-3 * float(added.abs().max()))


@pytest.mark.parametrize("batch_size", [7, 64])
def test_lime_finds_the_one_superpixel_that_matters(batch_size: int) -> None:
    class Corner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            bright = x[:, :, 8:, 8:].mean((1, 2, 3))
            return torch.stack([bright.exp(), -bright], 1)

    made = xc.attribute(Corner(), torch.ones(2, 3, 16, 16), 0, "lime", n_segments=4, batch_size=batch_size)
    values = made.values[:, 0]
    assert (values[:, 8:, 8:] > 1.6).all()  # e - 1, less the penalty
    values[:, 8:, 8:] = 0
    assert values.abs().max() < 1e-2


def test_lime_says_when_its_penalty_leaves_nothing() -> None:
    words = "every coefficient is 0 with alpha=50.0: the penalty outweighs .* Use a smaller alpha"
    with pytest.raises(xc.UnsupportedModelError, match=words):
        xc.attribute(*net_and_inputs("cnn"), method="lime", alpha=50, n_samples=20)


@pytest.mark.parametrize("method", ["lime", "kernelshap"])
def test_an_output_that_does_not_move_is_an_error_not_a_map_of_zeros(method: str) -> None:
    model, inputs = net_and_inputs("cnn")
    with pytest.raises(xc.UnsupportedModelError, match="the output is the same whatever is covered"):
        xc.attribute(model, torch.zeros_like(inputs), method=method)


@pytest.mark.parametrize("method", ["lime", "kernelshap"])
def test_seeds_differ(method: str) -> None:
    model, inputs = net_and_inputs("cnn")
    maps = [xc.attribute(model, inputs, 0, method, n_samples=30, seed=seed).values for seed in (0, 1)]
    assert not torch.allclose(*maps)
