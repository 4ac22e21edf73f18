import captum.attr
import pytest
import torch
from nets import mlp, net_and_inputs
from oracles import deeplift
from torch import Tensor, nn

import xaicompare as xc


def convolutions(*middle: nn.Module, features: int = 27) -> nn.Sequential:
    """For inputs (n, 2, 6, 6), in float64; `features` reach the linear layer."""
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), *middle, nn.Flatten(), nn.Linear(features, 4)).double()


POOLED = {
    "pool after ReLU": (nn.ReLU(), nn.MaxPool2d(2)),
    "pool before ReLU": (nn.MaxPool2d(2), nn.ReLU()),
    "pool apart from ReLU": (nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1), nn.MaxPool2d(2)),
}


@pytest.mark.parametrize("baseline", [0.0, 0.4])
@pytest.mark.parametrize(
    ("model", "shape"),
    [(mlp().double(), (3, 12)), (convolutions(nn.ReLU(), nn.Conv2d(3, 2, 3), nn.ReLU(), features=32), (3, 2, 6, 6))],
    ids=["dense", "convolutions"],
)
def test_deeplift_is_the_oracles(model: nn.Sequential, shape: tuple[int, ...], baseline: float) -> None:
    inputs = torch.randn(shape).double()
    made = xc.attribute(model, inputs, 1, "deeplift", baseline=baseline)
    layers = [nn.ReLU() if isinstance(layer, nn.ReLU) else layer for layer in model]
    for sample, values in zip(inputs, made.values, strict=True):
        expected = deeplift(layers, sample, torch.full_like(sample, baseline), 1)
        assert torch.allclose(values, expected, atol=1e-9)


@pytest.mark.parametrize("baseline", [0.0, torch.tensor([0.3, -0.2]), torch.linspace(-1, 1, 72).view(2, 6, 6)])
@pytest.mark.parametrize("middle", POOLED.values(), ids=POOLED)
def test_deeplift_is_complete(middle: tuple[nn.Module, ...], baseline: float | Tensor) -> None:
    model, inputs = convolutions(*middle), torch.randn(4, 2, 6, 6).double()
    made = xc.attribute(model, inputs, 1, "deeplift", baseline=baseline)
    assert made.residual.abs().max() < 1e-10
    whole = torch.as_tensor(baseline).double()
    whole = (whole[:, None, None] if whole.ndim == 1 else whole).expand(1, 2, 6, 6)
    assert torch.allclose(made.values.sum((1, 2, 3)), (model(inputs) - model(whole))[:, 1])


@pytest.mark.parametrize("kind", POOLED)
def test_deeplift_is_captums_but_where_pooling_touches_relu(kind: str) -> None:
    model, inputs, baseline = convolutions(*POOLED[kind]), *torch.randn(2, 8, 2, 6, 6).double()
    pairs = zip(inputs.split(1), baseline, strict=True)
    made = torch.cat([xc.attribute(model, one, 1, "deeplift", baseline=other).values for one, other in pairs])
    with pytest.warns(UserWarning, match="forward, backward hooks"):
        theirs = captum.attr.DeepLift(model).attribute(inputs.clone().requires_grad_(), baseline, target=1)
    residual = theirs.sum((1, 2, 3)) - (model(inputs) - model(baseline))[:, 1]
    assert torch.allclose(made, theirs) == (kind == "pool apart from ReLU")
    assert (residual.abs().max() < 1e-9) == (kind == "pool apart from ReLU"), "Captum has changed; see `_DeepLift`"


def test_deeplift_of_a_pooled_value_that_did_not_move_does_not_depend_on_the_batch() -> None:
    model = nn.Sequential(nn.Conv2d(2, 1, 1, bias=False), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 2)).double()
    nn.init.ones_(model[0].weight)[0, 1].detach().neg_()
    inputs = torch.randn(2, 2, 4, 4).double()
    inputs[1, 0] = inputs[1, 1]  # the convolution takes one from the other: 0, as for the baseline
    made = xc.attribute(model, inputs, 1, "deeplift").values
    assert made[1].abs().max() > 0
    assert torch.allclose(made[1:], xc.attribute(model, inputs[1:], 1, "deeplift").values)


def test_deepshap_is_captums() -> None:
    model, inputs, baselines = mlp(), torch.randn(3, 12), torch.randn(5, 12)
    target = torch.tensor([0, 3, 1])
    made = xc.attribute(model, inputs, target, "deepshap", baselines=baselines)
    model[1].inplace = False
    with pytest.warns(UserWarning, match="forward, backward hooks"):
        expected = captum.attr.DeepLiftShap(model).attribute(inputs, baselines, target=target)
    assert torch.allclose(made.values, expected, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_deepshap_is_the_mean_of_deeplift_and_complete(batch_size: int) -> None:
    model, inputs = convolutions(*POOLED["pool after ReLU"]), torch.randn(3, 2, 6, 6).double()
    baselines = torch.randn(5, 2, 6, 6)
    made = xc.attribute(model, inputs, 2, "deepshap", baselines=baselines, batch_size=batch_size)
    each = [xc.attribute(model, inputs, 2, "deeplift", baseline=baseline).values for baseline in baselines]
    assert torch.allclose(made.values, torch.stack(each).mean(0))
    assert torch.allclose(made.values.sum((1, 2, 3)), (model(inputs) - model(baselines.double()).mean(0))[:, 2])
    assert made.residual.abs().max() < 1e-10


@pytest.mark.parametrize("method", ["deepshap", "gradient_shap"])
def test_noise_baselines_stay_within_the_range_of_the_sample(method: str) -> None:
    linear, inputs = nn.Linear(6, 2, bias=False), torch.tensor([[2.0, 3, 3, 3, 3, 3]])
    nn.init.ones_(linear.weight)
    drop = xc.attribute(linear, inputs, 0, method, n_baselines=64).values[0]  # x - mean x'
    assert -1 <= drop[0] <= 0
    assert (drop[1:] >= 0).all()
    assert (drop[1:] <= 1).all()
    other = xc.attribute(linear, inputs, 0, method, n_baselines=64, seed=1).values[0]
    assert not torch.allclose(drop, other)


def test_gradient_shap_of_a_linear_model_is_exact() -> None:
    linear, inputs, baseline = nn.Linear(6, 2), torch.randn(3, 6), torch.randn(1, 6)
    made = xc.attribute(linear, inputs, 1, "gradient_shap", baselines=baseline, n_samples=5)
    assert torch.allclose(made.values, (inputs - baseline) * linear.weight[1], atol=1e-6)
    assert made.residual is None


def test_gradient_shap_of_one_baseline_tends_to_integrated_gradients() -> None:
    model, inputs = net_and_inputs("mlp")
    made = xc.attribute(model, inputs, 1, "gradient_shap", baselines=torch.ones(1, 12), n_samples=20_000)
    expected = xc.attribute(model, inputs, 1, "integrated_gradients", baseline=1.0, n_steps=500)
    assert torch.allclose(made.values, expected.values, atol=0.03 * float(expected.values.abs().max()))


@pytest.mark.parametrize("method", ["deepshap", "gradient_shap"])
@pytest.mark.parametrize(
    ("baselines", "words"),
    [
        (torch.zeros(12), r"baselines have shape \(12,\); expected \(m, 12\), m >= 1"),
        (torch.zeros(4, 11), r"baselines have shape \(4, 11\)"),
        (torch.zeros(0, 12), r"baselines have shape \(0, 12\)"),
        (torch.full((2, 12), torch.nan), "baselines hold NaN or inf"),
    ],
)
def test_baselines_must_fit(method: str, baselines: Tensor, words: str) -> None:
    with pytest.raises(xc.InputError, match=words):
        xc.attribute(*net_and_inputs("mlp"), method=method, baselines=baselines)


@pytest.mark.parametrize("method", ["deepshap", "gradient_shap"])
def test_baselines_may_come_from_inference_mode(method: str) -> None:
    with torch.inference_mode():
        baselines = torch.randn(3, 12)
        made = xc.attribute(*net_and_inputs("mlp"), method=method, baselines=baselines)
    again = xc.attribute(*net_and_inputs("mlp"), method=method, baselines=baselines.clone())
    assert made.values.equal(again.values)
