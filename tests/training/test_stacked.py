"""Stacked gradients against those of `RelevanceGuidance`, one network at a time, in double precision."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import xaicompare as xc
from xaicompare.training.stacked import STARTS, Guide, gradients, leaves_of

FACTORS = (0.0, 0.3, -0.7, 1.0)


def small_cnn(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    body = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False), nn.ReLU()),
    )
    return nn.Sequential(body, nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()


def mlp(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(98, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)
    ).double()


def oracle(model: nn.Module, factor: float, start: str, inputs: Tensor, labels: Tensor, layers: str) -> list[Tensor]:
    guidance = xc.RelevanceGuidance(model, factor, {"rule": "epsilon", "epsilon": 1e-3}, layers, start)
    model.zero_grad()
    cross_entropy(guidance(inputs, labels), labels).backward()
    return [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("layers", ["linear", "all"])
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("made", [mlp, small_cnn], ids=lambda made: made.__name__)
def test_each_network_gets_the_gradients_that_it_gets_alone(made, start: str, layers: str) -> None:
    models = [made(seed) for seed in range(len(FACTORS))]
    draws = torch.Generator().manual_seed(5)
    inputs = torch.randn(len(models), 6, 2, 7, 7, generator=draws, dtype=torch.float64)
    labels = torch.randint(3, (len(models), 6), generator=draws)
    names = [name for name, _ in models[0].named_parameters()]
    stacked = {name: torch.stack([dict(model.named_parameters())[name].detach() for model in models]) for name in names}
    guided = xc.RelevanceGuidance(models[0], 1.0, layers=layers).layers
    wide = torch.full((len(models),), 1e-3, dtype=torch.float64)
    guide = Guide(
        dict.fromkeys(guided, torch.tensor(FACTORS, dtype=torch.float64)),
        wide,
        torch.full((len(models),), STARTS.index(start)),
    )
    leaves = leaves_of(models[0])
    step = torch.func.vmap(lambda *given: gradients(leaves, *given))
    found, losses = step(stacked, guide, inputs, labels)
    for k, (model, factor) in enumerate(zip(models, FACTORS, strict=True)):
        expected = oracle(model, factor, start, inputs[k], labels[k], layers)
        for name, grad in zip(names, expected, strict=True):
            assert torch.allclose(found[name][k], grad, rtol=1e-9, atol=1e-12), (k, name)
        assert losses[k].item() == pytest.approx(cross_entropy(model(inputs[k]), labels[k]).item(), rel=1e-12)


def test_no_factor_asks_for_no_relevance() -> None:
    """A factor of 0 is plain training also where relevance is not finite."""
    model = mlp(0)
    for parameter in model[-1].parameters():
        nn.init.zeros_(parameter)  # outputs of 0, and nothing to share
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    none = torch.tensor(0.0, dtype=torch.float64)
    inputs, labels = torch.rand(4, 2, 7, 7, dtype=torch.float64), torch.arange(4) % 3
    guide = Guide({"1": none, "3": none}, none, torch.tensor(STARTS.index("probabilities")))  # divides by 0
    found, _ = gradients(leaves_of(model), parameters, guide, inputs, labels)
    cross_entropy(model(inputs), labels).backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(found[name], parameter.grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2)),
        nn.Sequential(nn.Conv2d(1, 1, 3, padding="same")),
        nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")),
        nn.Sequential(nn.BatchNorm2d(2)),
        nn.TransformerEncoderLayer(4, 2),
    ],
    ids=lambda model: repr(model)[:40],
)
def test_other_networks_are_none_of_these(model: nn.Module) -> None:
    assert leaves_of(model) is None
