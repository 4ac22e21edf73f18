"""Programs of torch.jit: the maps of the network they were made of, or a refusal that says why."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

import xaicompare as xc
from xaicompare.registry import METHODS

ANSWERED = [
    "saliency",
    "input_x_gradient",
    "smoothgrad",
    "integrated_gradients",
    "gradient_shap",
    "lime",
    "kernelshap",
    "occlusion",
    "random",
    "edges",
    "center",
    "constant",
]
FEW = {"lime": {"n_samples": 20}, "kernelshap": {"n_samples": 20}}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 3)
    ).eval()


def traced(model: nn.Module) -> nn.Module:
    return torch.jit.trace(model, torch.randn(2, 1, 8, 8))


MADE = pytest.mark.parametrize("made", [torch.jit.script, traced], ids=["script", "trace"])


@pytest.fixture(autouse=True)
def _no_warnings() -> None:
    warnings.filterwarnings("ignore", category=DeprecationWarning)


@MADE
@pytest.mark.parametrize("method", ANSWERED)
def test_a_program_has_the_map_of_its_network(made: Callable, method: str) -> None:
    model, inputs = network(), torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    there = xc.attribute(made(model), inputs, 1, method=method, **FEW.get(method, {}))
    here = xc.attribute(model, inputs, 1, method=method, **FEW.get(method, {}))
    torch.testing.assert_close(there.values, here.values, rtol=1e-4, atol=1e-6)


@MADE
def test_no_method_ends_in_a_raw_error_or_another_map(made: Callable) -> None:
    model, inputs = network(), torch.randn(2, 1, 8, 8)
    for method in METHODS.names():
        settings = FEW.get(method, {})
        try:
            there = xc.attribute(made(model), inputs, 1, method=method, **settings)
        except xc.XaiCompareError:
            assert method not in ANSWERED
        else:
            here = xc.attribute(model, inputs, 1, method=method, **settings)
            torch.testing.assert_close(there.values, here.values, rtol=1e-4, atol=1e-6, msg=method)


@MADE
def test_metrics_judge_a_program_and_its_mode_is_given_back(made: Callable) -> None:
    model, inputs = network(), torch.randn(3, 1, 8, 8)
    program = made(model)
    program.train()
    explained = xc.attribute(program, inputs, 1, method="saliency")
    assert torch.equal(xc.Saliency().attribute(program, inputs, 1).values, explained.values)
    for metric in ("deletion", "confidence_removal", "road"):
        assert torch.allclose(xc.score(program, explained, metric), xc.score(model, explained, metric), atol=1e-6)
    assert program.training
    assert all(parameter.requires_grad for parameter in program.parameters())


def test_evaluate_takes_a_program(tmp_path) -> None:
    program = torch.jit.script(network())
    found = xc.evaluate(
        program,
        torch.rand(4, 1, 8, 8),
        folder=tmp_path / "out",
        methods=["saliency"],
        metrics=["deletion"],
        budget="quick",
    )
    assert len(found.standings) >= 1


def test_fullgrad_refuses_a_program_of_torch_export_whose_biases_it_would_miss() -> None:
    inputs = torch.randn(2, 1, 8, 8)
    program = torch.export.export(network(), (inputs,)).module()
    with pytest.raises(xc.UnsupportedModelError, match="does not show its layers"):
        xc.attribute(program, inputs, 1, method="fullgrad")
