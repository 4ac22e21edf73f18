import captum.attr
import pytest
import torch
from nets import cnn, mlp, net_and_inputs
from oracles import changed_relu_gradient
from torch import Tensor, nn

import xaicompare as xc


@pytest.fixture(params=["mlp", "cnn"])
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor, Tensor]:
    model, inputs = net_and_inputs(request.param)
    return model, inputs, torch.tensor([4, 0, 2])


def plain_convolutions(bias: bool = True) -> nn.Sequential:
    """Linear layers and ReLU only, as the oracles need it, in float64; for inputs (n, 2, 6, 6)."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=bias),
        nn.ReLU(),
        nn.Conv2d(4, 3, 3, stride=2, bias=bias),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 4, bias=bias),
    ).double()


@pytest.mark.parametrize("absolute", [True, False])
def test_saliency_is_captums(case: tuple, absolute: bool) -> None:
    model, inputs, target = case
    expected = captum.attr.Saliency(model).attribute(inputs.clone().requires_grad_(), target, abs=absolute)
    assert xc.attribute(model, inputs, target, "saliency", absolute=absolute).values.equal(expected)


def test_input_x_gradient_is_captums(case: tuple) -> None:
    model, inputs, target = case
    expected = captum.attr.InputXGradient(model).attribute(inputs.clone().requires_grad_(), target)
    assert xc.attribute(model, inputs, target, "input_x_gradient").values.equal(expected)


@pytest.mark.parametrize(
    "quadrature", ["gausslegendre", "riemann_trapezoid", "riemann_middle", "riemann_left", "riemann_right"]
)
def test_integrated_gradients_is_captums(case: tuple, quadrature: str) -> None:
    model, inputs, target = case
    settings = {"n_steps": 7, "baseline": 0.3, "quadrature": quadrature}
    made = xc.attribute(model, inputs, target, "integrated_gradients", strict=False, **settings)
    expected = captum.attr.IntegratedGradients(model).attribute(inputs, 0.3, target, n_steps=7, method=quadrature)
    assert torch.allclose(made.values, expected.to(inputs), atol=1e-6)


@pytest.mark.parametrize("baseline", [0.0, -1.5, torch.tensor([0.1, -0.2]), torch.linspace(-1, 1, 72).view(2, 6, 6)])
def test_integrated_gradients_is_complete(baseline: float | Tensor) -> None:
    model, inputs = plain_convolutions(), torch.randn(3, 2, 6, 6).double()
    made = xc.attribute(model, inputs, 1, "integrated_gradients", n_steps=400, baseline=baseline)
    whole = torch.as_tensor(baseline).double()
    whole = (whole[:, None, None] if whole.ndim == 1 else whole).expand(1, 2, 6, 6)
    difference = (model(inputs) - model(whole))[:, 1]
    assert torch.allclose(made.values.sum((1, 2, 3)), difference, atol=1e-3)
    assert torch.allclose(made.residual, made.values.sum((1, 2, 3)) - difference)
    rough = xc.attribute(model, inputs, 1, "integrated_gradients", strict=False, n_steps=2, baseline=baseline)
    assert rough.residual.abs().sum() > 10 * made.residual.abs().sum()


@pytest.mark.parametrize(
    ("kind", "nt_type"), [("mean", "smoothgrad"), ("squared", "smoothgrad_sq"), ("variance", "vargrad")]
)
def test_smoothgrad_of_one_sample_is_captums_with_the_same_seed(case: tuple, kind: str, nt_type: str) -> None:
    model, inputs, target = case[0], case[1][:1], case[2][:1]
    made = xc.attribute(model, inputs, target, "smoothgrad", n_samples=6, sigma=0.2, kind=kind, seed=5)
    torch.manual_seed(5)
    expected = captum.attr.NoiseTunnel(captum.attr.Saliency(model)).attribute(
        inputs,
        nt_type=nt_type,
        nt_samples=6,
        stdevs=0.2 * float(inputs.max() - inputs.min()),
        target=target,
        abs=False,
    )
    assert torch.allclose(made.values, expected, atol=1e-6)


def test_smoothgrad_without_noise_is_the_gradient(case: tuple) -> None:
    signed = xc.attribute(*case, "saliency", absolute=False).values
    assert torch.allclose(xc.attribute(*case, "smoothgrad", sigma=0, n_samples=3).values, signed, atol=1e-6)
    assert xc.attribute(*case, "smoothgrad", sigma=0, n_samples=3, kind="variance").values.abs().max() < 1e-6


@pytest.mark.parametrize(
    ("method", "peer"), [("deconvnet", captum.attr.Deconvolution), ("guided_backprop", captum.attr.GuidedBackprop)]
)
def test_changed_relu_is_captums(case: tuple, method: str, peer: type) -> None:
    model, inputs, target = case
    with pytest.warns(UserWarning, match="backward hooks"):
        expected = peer(_without_inplace(model)).attribute(inputs.clone().requires_grad_(), target)
    assert xc.attribute(model, inputs, target, method).values.equal(expected)


def _without_inplace(model: nn.Module) -> nn.Module:
    copy = {12: mlp, 3: cnn}[next(model.parameters()).shape[1]]()
    copy.load_state_dict(model.state_dict())
    for module in copy.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return copy


@pytest.mark.parametrize("method", ["deconvnet", "guided_backprop"])
def test_changed_relu_is_the_oracles(method: str) -> None:
    model, inputs = plain_convolutions(), torch.randn(3, 2, 6, 6).double()
    made = xc.attribute(model, inputs, 2, method).values
    for sample, values in zip(inputs, made, strict=True):
        expected = changed_relu_gradient(list(model), sample, 2, guided=method == "guided_backprop")
        assert torch.allclose(values, expected, atol=1e-12)


class _Changed(torch.autograd.Function):
    guided = True

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, slope: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return slope.clamp(min=0) * (x > 0 if _Changed.guided else 1)


@pytest.mark.parametrize("method", ["deconvnet", "guided_backprop"])
def test_changed_relu_holds_where_one_relu_runs_twice(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = net_and_inputs("resnet18")
    made = xc.attribute(model, inputs, 1, method).values
    monkeypatch.setattr(_Changed, "guided", method == "guided_backprop")
    monkeypatch.setattr(nn.ReLU, "forward", lambda _, x: _Changed.apply(x))
    given = inputs.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(given)[:, 1].sum(), given)
    assert torch.allclose(made, expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("method", ["deconvnet", "guided_backprop"])
def test_changed_relu_needs_a_relu(method: str) -> None:
    with pytest.raises(xc.UnsupportedModelError, match=r"Sequential has no ReLU.*Use 'saliency'"):
        xc.attribute(nn.Sequential(nn.Linear(3, 2)), torch.ones(1, 3), method=method)


@pytest.mark.parametrize("method", ["integrated_gradients", "deeplift", "lime", "kernelshap", "occlusion"])
@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        (torch.zeros(2), r"baseline has shape \(2,\); expected a number, \(3,\) or \(3, 16, 16\)"),
        (torch.zeros(3, 16, 8), r"baseline has shape \(3, 16, 8\)"),
        (torch.zeros(2, 3, 16, 16), r"baseline has shape \(2, 3, 16, 16\)"),
        (torch.full((3,), torch.nan), "baseline holds NaN or inf"),
        (float("inf"), "baseline holds NaN or inf"),
    ],
)
def test_baselines_must_fit(method: str, baseline: float | Tensor, words: str) -> None:
    with pytest.raises(xc.InputError, match=words):
        xc.attribute(*net_and_inputs("cnn"), method=method, baseline=baseline)
