"""The doctor finds what makes methods silently wrong, and its copy computes the same."""

import time
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from nets import cnn, mlp, resnet18, vgg11_bn
from torch import Tensor, nn

import xaicompare as xc
import xaicompare.methods  # registers them
from xaicompare.diagnosis.watch import is_torchs
from xaicompare.registry import METHODS

RULE_BASED = ("guided_backprop", "deconvnet", "guided_gradcam", "deeplift", "deepshap")


class Modules(nn.Module):
    """Every step a module, each used once."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6 * 16, 4)
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(3))
        self.pool = nn.MaxPool2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relus[0](self.first(x)))
        x = self.relus[1](self.second(x)) + x
        return self.head(self.relus[2](x).flatten(1))


class Functions(Modules):
    """The same, written as functions."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.first(x)), 3, 2, padding=1)
        x = torch.relu(self.second(x)) + x
        return self.head(x.relu().flatten(1))


class Shared(Modules):
    """The same, with one ReLU for all."""

    def forward(self, x: Tensor) -> Tensor:
        relu = self.relus[0]
        x = self.pool(relu(self.first(x)))
        x = relu(self.second(x)) + x
        return self.head(relu(x).flatten(1))


class InPlace(Modules):
    """The same, overwriting what is no longer needed."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relus[0](self.first(x)))
        y = F.relu(self.second(x), inplace=True).clone()  # the backward pass of a ReLU needs its output
        y += x
        return self.head(y.relu_().flatten(1))


class Branching(Modules):
    """The same, behind control flow that no tracer follows."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.first(x)))
        if float(x.detach().sum()) > -1:
            x = F.relu(self.second(x)) + x
        return self.head(F.relu(x).flatten(1))


TWINS = [Functions, Shared, InPlace]


def twin(kind: type[Modules]) -> Modules:
    torch.manual_seed(0)
    return kind().eval()


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "method", [name for name in METHODS.names() if name != "cam" and METHODS[name].traits.needs is None]
)
@pytest.mark.parametrize("kind", TWINS)
def test_twins_have_the_same_map(kind: type[Modules], method: str, inputs: Tensor) -> None:
    settings: dict[str, Any] = {"layer": "second"} if hasattr(METHODS[method], "layer") else {}
    settings |= {"n_samples": 30} if method in ("lime", "kernelshap") else {}
    expected = xc.attribute(twin(Modules), inputs, 1, method, **settings)
    found = xc.attribute(twin(kind), inputs, 1, method, **settings)
    torch.testing.assert_close(found.values, expected.values)
    if method in RULE_BASED:
        assert not torch.allclose(expected.values, xc.attribute(twin(Modules), inputs, 1, "saliency").values)


@pytest.mark.parametrize("method", [*RULE_BASED, "lrp"])
def test_a_way_that_depends_on_the_data_is_refused(method: str, inputs: Tensor) -> None:
    settings = {"layer": "second"} if method == "guided_gradcam" else {}
    with pytest.raises(xc.UnsupportedModelError, match=r"its way depends on the data.*integrated_gradients"):
        xc.attribute(twin(Branching), inputs, 1, method, **settings)
    xc.attribute(twin(Branching), inputs, 1, "integrated_gradients")


def test_kinds_of_findings(inputs: Tensor) -> None:
    def kinds(model: nn.Module) -> set[str]:
        return {finding.kind for finding in xc.doctor(model, inputs).findings}

    assert kinds(twin(Modules)) == {"sum of branches"}
    assert kinds(twin(Functions)) == {"sum of branches", "functional activation", "functional pooling"}
    assert kinds(twin(Shared)) == {"sum of branches", "reused module"}
    assert kinds(cnn()) == {"BatchNorm", "in-place operation"}
    assert kinds(cnn().train()) == {"BatchNorm", "in-place operation", "training mode"}
    assert kinds(nn.Sequential(*cnn(), nn.Softmax(1))) >= {"softmax inside", "layer without a rule"}
    broken = twin(Modules)
    broken.head.bias.data[0] = torch.nan
    assert "not finite" in kinds(broken)


def test_samples_that_touch_are_found(inputs: Tensor) -> None:
    class Touching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :4] - x.flatten(1)[:, :4].mean(0)

    assert "batch-dependent" in {finding.kind for finding in xc.doctor(Touching(), inputs).findings}
    free = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten(), nn.Linear(192, 4))
    assert "batch-dependent" in {finding.kind for finding in xc.doctor(free, inputs).findings}


@pytest.mark.parametrize("make", [resnet18, vgg11_bn, cnn])
def test_the_copy_computes_the_same_with_nothing_left_to_mend(make: type, inputs: Tensor) -> None:
    model = make()
    images = F.interpolate(inputs, 32)
    diagnosis = xc.doctor(model, images)
    assert not diagnosis.healthy
    assert diagnosis.repaired is not None
    expected = model(images)
    assert (diagnosis.repaired(images) - expected).abs().max() <= 1e-5 * expected.abs().max()
    again = xc.doctor(diagnosis.repaired, images)
    left = {finding.kind for finding in again.findings}
    assert left == set(), repr(again)
    for module in diagnosis.repaired.modules():
        assert not isinstance(module, nn.BatchNorm2d)


def test_the_copy_follows_the_parameters_in_attributions(inputs: Tensor) -> None:
    model, reference = twin(Functions), twin(Modules)
    xc.attribute(model, inputs, 1, "deeplift")
    with torch.no_grad():
        for parameters in zip(model.parameters(), reference.parameters(), strict=True):
            for parameter in parameters:
                parameter.mul_(0.7)
    expected = xc.attribute(reference, inputs, 1, "deeplift").values
    torch.testing.assert_close(xc.attribute(model, inputs, 1, "deeplift").values, expected)
    expected = xc.attribute(reference.double(), inputs.double(), 1, "deeplift").values
    torch.testing.assert_close(xc.attribute(model.double(), inputs.double(), 1, "deeplift").values, expected)


def test_a_changed_model_is_examined_again(inputs: Tensor) -> None:
    model = nn.Sequential(twin(Modules), nn.Identity())
    xc.attribute(model, inputs, 1, "deeplift")
    model[1] = nn.SiLU()
    made = xc.attribute(model, inputs, 1, "deeplift")
    torch.testing.assert_close(made.score, model(inputs)[:, 1])
    assert made.status == "ok"


def test_a_step_without_a_rule_is_named(inputs: Tensor) -> None:
    class Odd(Modules):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.adaptive_avg_pool2d(torch.fft.fft2(self.first(x)).abs(), 4).flatten(1))

    for method in ("deeplift", "lrp"):
        with pytest.raises(xc.UnsupportedModelError, match=r"no rule for aten.*integrated_gradients"):
            xc.attribute(twin(Odd), inputs, 1, method)


def test_the_users_model_stays_what_it_is(inputs: Tensor) -> None:
    model = twin(InPlace).train()
    model.relus[0].inplace = True
    before = {name: id(module) for name, module in model.named_modules()}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    xc.doctor(model, inputs)
    assert before == {name: id(module) for name, module in model.named_modules()}
    assert model.training
    assert model.relus[0].inplace
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in model.modules() if is_torchs(module)
    )


def test_a_remembered_diagnosis_costs_nothing(inputs: Tensor) -> None:
    from xaicompare.diagnosis import suited

    model = twin(Functions)
    with torch.no_grad():
        ready = suited(model, inputs, "deeplift")
        times = []
        for _ in range(20):
            start = time.perf_counter()
            assert suited(model, inputs, "deeplift") is ready
            times.append(time.perf_counter() - start)
    assert min(times) < 1e-3


def test_completeness_has_a_status(inputs: Tensor) -> None:
    model = twin(Modules)
    good = xc.attribute(model, inputs, 1, "deeplift")
    assert good.status == "ok"
    assert xc.attribute(model, inputs, 1, "saliency").status is None
    with pytest.raises(xc.IncompleteError, match=r"integrated_gradients: the values of sample \d .*Use more n_steps"):
        xc.attribute(model, 5 * inputs, 1, "integrated_gradients", n_steps=1, baseline=3.0)
    rough = xc.attribute(model, 5 * inputs, 1, "integrated_gradients", n_steps=1, baseline=3.0, strict=False)
    assert rough.status == "failed"
    residual = rough.values.sum((1, 2, 3)) - (model(5 * inputs) - model(torch.full_like(inputs, 3.0)))[:, 1]
    torch.testing.assert_close(rough.residual, residual.detach(), rtol=1e-4, atol=1e-4)


def test_the_diagnosis_reads_well(inputs: Tensor) -> None:
    told = repr(xc.doctor(twin(Functions), inputs))
    assert told.startswith("Diagnosis of Functions: ")
    assert "relu() outside a module" in told
    assert "A repaired copy computes the same." in told
    assert repr(xc.doctor(mlp(), torch.ones(1, 12))).startswith("Diagnosis of Sequential: healthy")
