"""Relevance-scaled steps, against a slow oracle, closed forms, and plain training."""

import copy
from collections.abc import Callable

import nets
import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

import xaicompare as xc
from xaicompare.study.experiment import Cell, Experiment
from xaicompare.study.train import trained_cell
from xaicompare.training.scaled import step_factors


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)).double()


def cnn() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(20, 3)),
    ).double()


SHAPES = {mlp: (6,), cnn: (2, 8, 8)}


def batch(maker: Callable[[], nn.Module], number: int = 0) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(number)
    inputs = torch.randn(4, *SHAPES[maker], generator=draws, dtype=torch.float64)
    return inputs, torch.randint(3, (4,), generator=draws)


def relevance_of(layers: list[nn.Module], inputs: Tensor) -> dict[int, Tensor]:
    """Mean magnitude by neuron of every hidden layer, one sample and one layer at a time, from the probabilities."""
    sizes: dict[int, list[Tensor]] = {}
    for sample in inputs:
        values = [sample[None]]
        for layer in layers:
            values.append(layer(values[-1]).detach())
        found = values[-1][0].softmax(0)
        for place in range(len(layers) - 1, 0, -1):
            layer, below = layers[place], values[place]
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                weights, bias = oracles.dense(layer, below[0].shape)
                found = oracles.epsilon(1e-6)(below[0].flatten(), weights, bias, found.flatten()).view_as(below[0])
            elif not isinstance(layer, nn.ReLU):
                point = below.clone().requires_grad_()
                found = torch.autograd.grad(layer(point), point, found.view_as(values[place + 1]))[0][0]
            if isinstance(layers[place - 1], (nn.Linear, nn.Conv2d)):
                sizes.setdefault(place - 1, []).append(
                    found.abs().flatten(1).mean(1) if found.ndim > 1 else found.abs()
                )
    return {place: torch.stack(each).mean(0) for place, each in sizes.items()}


@pytest.mark.parametrize("toward", ["relevant", "irrelevant"])
@pytest.mark.parametrize("maker", [mlp, cnn])
def test_as_the_published_formula(maker: Callable[[], nn.Sequential], toward: str) -> None:
    """SGD: W - eta * dL/dW * beta, for three steps; also the biases, and the output layer plainly."""
    model = maker()
    guidance = xc.RelevanceGuidance(model, 0.0, layers="all", start="probabilities")
    optimizer = xc.RelevanceScaled(SGD(model.parameters(), lr=0.1), guidance, toward, floor=0.01)
    for number in range(3):
        inputs, labels = batch(maker, number)
        slow = copy.deepcopy(model)
        slow.zero_grad()
        cross_entropy(slow(inputs), labels).backward()
        found = relevance_of(list(slow), inputs)
        for place, layer in enumerate(slow):
            beta = torch.ones(1).double()
            if place in found:
                share = (found[place] / found[place].mean()).clamp(min=0.01)
                beta = share if toward == "relevant" else 1 / share
                beta = beta / beta.mean()
            for parameter in layer.parameters():
                parameter.data -= 0.1 * parameter.grad * beta.view(-1, *[1] * (parameter.ndim - 1))
        optimizer.zero_grad()
        cross_entropy(guidance(inputs), labels).backward()
        optimizer.step()
        for made, wanted in zip(model.parameters(), slow.parameters(), strict=True):
            torch.testing.assert_close(made, wanted, rtol=1e-8, atol=1e-10)
    assert set(optimizer.betas) == set(guidance.layers)


def test_beta() -> None:
    relevance = torch.tensor([0.0, 1.0, 2.0, 5.0])
    assert step_factors(relevance, floor=0.0).tolist() == [0.0, 0.5, 1.0, 2.5]
    for toward in ("relevant", "irrelevant"):
        beta = step_factors(relevance, toward, 0.25)  # 0.25, 0.5, 1, 2.5, or their reciprocals
        assert float(beta.mean()) == pytest.approx(1)
        assert (beta.diff() > 0).all() if toward == "relevant" else (beta.diff() < 0).all()
        assert float(beta.max() / beta.min()) == pytest.approx(10)
        torch.testing.assert_close(step_factors(3.7 * relevance, toward, 0.25), beta)
    assert step_factors(torch.zeros(3), "irrelevant").tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet18"])
@pytest.mark.parametrize("made", [lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True), Adam], ids=["sgd", "adam"])
def test_beta_1_is_plain_training_bit_by_bit(
    name: str, made: Callable[..., Optimizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where relevance is not equal, weights differ."""
    known, inputs = nets.net_and_inputs(name)
    labels = torch.arange(len(inputs)) % 3

    def trained(wrapped: bool) -> dict[str, Tensor]:
        model = copy.deepcopy(known).train()
        optimizer = inner = made(model.parameters())
        called: nn.Module = model
        if wrapped:
            called = xc.RelevanceGuidance(model, 0.0, layers="all")
            optimizer = xc.RelevanceScaled(inner, called)
        torch.manual_seed(3)
        for _ in range(2):
            optimizer.zero_grad()
            cross_entropy(called(inputs), labels).backward()
            optimizer.step()
        return model.state_dict()

    plain, scaled = trained(False), trained(True)
    assert not all(torch.equal(plain[key], scaled[key]) for key in plain)
    monkeypatch.setattr("xaicompare.training.scaled.step_factors", lambda relevance, *_: torch.ones_like(relevance))
    one = trained(True)
    assert all(torch.equal(plain[key], one[key]) for key in plain)


def test_it_is_an_optimizer() -> None:
    model = mlp()
    guidance = xc.RelevanceGuidance(model, 0.0, layers="all")
    inner = Adam([{"params": list(model[0].parameters()), "lr": 0.5}, {"params": list(model[2].parameters())}])
    optimizer = xc.RelevanceScaled(inner, guidance)
    assert isinstance(optimizer, Optimizer)
    assert optimizer.param_groups is inner.param_groups
    assert optimizer.state is inner.state
    assert optimizer.defaults is inner.defaults
    optimizer.add_param_group({"params": list(model[4].parameters()), "lr": 0.0})
    schedule = LambdaLR(optimizer, lambda epoch: 0.5**epoch)  # also around the outer one
    inputs, labels = batch(mlp)
    last = model[4].weight.clone()

    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            loss = cross_entropy(guidance(inputs), labels)
            loss.backward()
        return loss

    assert isinstance(optimizer.step(closure), Tensor)
    schedule.step()
    assert [group["lr"] for group in inner.param_groups] == [0.25, 0.0005, 0.0]
    assert torch.equal(model[4].weight, last)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())
    other = Adam(copy.deepcopy(inner.param_groups))
    other.load_state_dict(optimizer.state_dict())  # a plain one goes on from there, and the other way round
    optimizer.load_state_dict(other.state_dict())
    assert optimizer.param_groups is inner.param_groups
    assert "Adam" in repr(optimizer)


def test_relevance_is_that_of_all_batches_since_the_last_step() -> None:
    """Two halves with gradients summed are one batch; and a step without relevance is plain."""
    model = mlp()
    guidance = xc.RelevanceGuidance(model, 0.0, layers="all")
    optimizer = xc.RelevanceScaled(SGD(model.parameters(), lr=0.0), guidance)
    inputs, labels = batch(mlp)
    betas = []
    for parts in ([slice(0, 4)], [slice(0, 2), slice(2, 4)]):
        for part in parts:
            cross_entropy(guidance(inputs[part]), labels[part]).backward()
        optimizer.step()
        betas.append(optimizer.betas)
    for layer in guidance.layers:
        torch.testing.assert_close(betas[0][layer], betas[1][layer])
    optimizer.step()
    assert optimizer.betas == {}


def test_mistakes() -> None:
    model = mlp()
    guidance = xc.RelevanceGuidance(model, 0.0)
    inner = Adam(model.parameters())
    with pytest.raises(xc.SettingError, match="toward='inverted'; expected 'relevant' or 'irrelevant'"):
        xc.RelevanceScaled(inner, guidance, "inverted")  # type: ignore[arg-type]
    for toward, floor in (("relevant", 1.0), ("irrelevant", 0.0), ("relevant", -0.1)):
        with pytest.raises(xc.SettingError, match="floor="):
            xc.RelevanceScaled(inner, guidance, toward, floor=floor)
    xc.RelevanceScaled(inner, guidance)
    with pytest.raises(xc.UnsupportedModelError, match="an observer already"):
        xc.RelevanceScaled(inner, guidance)
    grouped = nn.Sequential(nn.ConvTranspose2d(4, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    with pytest.raises(xc.UnsupportedModelError, match="0 is a transposed convolution in groups"):
        xc.RelevanceScaled(Adam(grouped.parameters()), xc.RelevanceGuidance(grouped, 0.0, layers="all"))


@pytest.mark.parametrize("toward", ["relevant", "irrelevant"])
def test_the_arm_learns(toward: str) -> None:
    made = Experiment.from_dict(
        {
            "data": "digits",
            "model": {"name": "mlp", "hidden": [32]},
            "shares": [0.5],
            "repeats": 1,
            "recipe": {"epochs": 4, "batch_size": 32},
            "arms": [{"name": "plain", "label": "plain"}, {"name": "scaled", "label": "scaled", "toward": toward}],
        }
    )
    (plain, _), (scaled, _) = (trained_cell(made, Cell(0.5, 0, arm)) for arm in made.arms)
    assert scaled.accuracy > 0.8
    assert scaled.loss != plain.loss
