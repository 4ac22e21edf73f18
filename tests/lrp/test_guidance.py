"""Guided training steps, against a slow float64 oracle, closed forms, and plain training."""

import copy
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import nets
import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import xaicompare as xc
from xaicompare.lrp.guidance import Factor
from xaicompare.lrp.multiplier import Multiplier

BATCH = 4


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)).double()


def cnn() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3, padding=1), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3)),
    ).double()


SHAPES = {mlp: (6,), cnn: (2, 8, 8)}
GUIDED = sorted(set(nets.MAKERS) - {"vit"})  # LayerNorm has no rule, and is refused by name


def batch(maker: Callable[[], nn.Module], number: int = 0) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(number)
    inputs = torch.randn(BATCH, *SHAPES[maker], generator=draws, dtype=torch.float64)
    return inputs, torch.randint(3, (BATCH,), generator=draws)


def gradients(model: nn.Module, called: nn.Module, inputs: Tensor, labels: Tensor, *more: Tensor) -> list[Tensor]:
    model.zero_grad()
    cross_entropy(called(inputs, *more), labels).backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def steps(model: nn.Sequential) -> list[nn.Module]:
    """Its layers, as the oracle wants them: without overwriting."""
    return [nn.ReLU() if isinstance(layer, nn.ReLU) else layer for layer in model]


RULES = {
    "zero": ("zero", oracles.zero),
    "epsilon": ("epsilon", oracles.epsilon(1e-6)),
    "large epsilon": ({"rule": "epsilon", "epsilon": 0.3}, oracles.epsilon(0.3)),
    "gamma": ({"rule": "gamma", "gamma": 0.25}, oracles.gamma(0.25)),
}
KINDS = {"all": nn.Module, "linear": nn.Linear, "conv": nn.Conv2d}


@pytest.mark.parametrize("start", ["outputs", "probabilities", "predicted", "label"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("maker", "layers"), [(mlp, "all"), (cnn, "all"), (cnn, "linear"), (cnn, "conv")])
def test_as_the_published_algorithm(maker: Callable[[], nn.Module], layers: str, rule: str, start: str) -> None:
    model = maker()
    given, oracle = RULES[rule]
    guidance = xc.RelevanceGuidance(model, 0.7, given, layers, start)
    for number in range(2):  # several batches: nothing is carried over
        inputs, labels = batch(maker, number)
        found = gradients(model, guidance, inputs, labels, labels)
        expected = oracles.guided_gradients(
            steps(model), inputs, labels, 0.7, oracle, lambda layer: isinstance(layer, KINDS[layers]), start
        )
        for made, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(made, wanted, rtol=1e-9, atol=1e-9)


def test_guidance_changes_gradients() -> None:
    model, (inputs, labels) = mlp(), batch(mlp)
    plain, guided = (
        gradients(model, model, inputs, labels),
        gradients(model, xc.RelevanceGuidance(model), inputs, labels),
    )
    assert torch.equal(plain[-1], guided[-1])  # the output layer is never guided
    assert not torch.allclose(plain[0], guided[0], rtol=1e-3)


@pytest.mark.parametrize("name", GUIDED)
@pytest.mark.parametrize("factor", [0, {"*": 0.0}, lambda batch: 0.0], ids=["number", "by layer", "schedule"])
def test_factor_zero_is_plain_training_bit_by_bit(name: str, factor: Factor) -> None:
    known, inputs = nets.net_and_inputs(name)
    labels = torch.arange(len(inputs)) % 3
    ends = []
    for wrapped in (False, True):
        model = copy.deepcopy(known).train()
        called = xc.RelevanceGuidance(model, factor, layers="all") if wrapped else model
        optimizer = torch.optim.Adam(model.parameters())
        torch.manual_seed(3)
        for _ in range(3):
            gradients(model, called, inputs, labels)
            optimizer.step()
        ends.append(model.state_dict())
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.parametrize("name", GUIDED)
def test_the_forward_pass_is_the_models_own(name: str) -> None:
    """Also with dropout and the batch's own statistics; random draws and running statistics move as in the model."""
    known, inputs = nets.net_and_inputs(name)
    made = []
    for wrapped in (False, True):
        model = copy.deepcopy(known).train()
        called = xc.RelevanceGuidance(model, 0.1, layers="all") if wrapped else model
        torch.manual_seed(3)
        outputs = [called(inputs).detach() for _ in range(2)]
        made.append([*outputs, torch.rand(1), *model.buffers()])
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))


@pytest.mark.parametrize("layers", ["all", "linear"])
def test_a_constant_multiplier_is_a_learning_rate(layers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R = 4 with factor 0.5: each guided layer multiplies by 3; what is below k of them has 3^k times the gradient."""
    monkeypatch.setattr(Multiplier, "used", lambda _, relevance, **__: torch.full_like(relevance, 4.0))
    model, (inputs, labels) = cnn(), batch(cnn)
    plain = gradients(model, model, inputs, labels)
    guidance = xc.RelevanceGuidance(model, 0.5, layers=layers, centre=True)
    found = gradients(model, guidance, inputs, labels)
    guided = {"all": [4, 3, 2, 1, 0], "linear": [1, 1, 1, 1, 0]}[layers]  # guided layers from each one up
    for place, times in enumerate(guided):
        for which in (2 * place, 2 * place + 1):
            torch.testing.assert_close(found[which], 3.0**times * plain[which], rtol=1e-9, atol=1e-12)


def test_batch_norm_and_dropout_as_in_that_pass() -> None:
    """The same network with the batch's statistics and the drawn mask written out gets the same gradients."""
    torch.manual_seed(1)
    model = nn.Sequential(
        *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5)),
        *(nn.Linear(4 * 36, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)),
    ).double()
    inputs, labels = batch(cnn)
    guidance = xc.RelevanceGuidance(model, 0.7, layers="0")
    torch.manual_seed(5)
    found = gradients(model, guidance, inputs, labels)
    torch.manual_seed(5)
    values, stages = inputs, []
    for layer in model:
        values = layer(values)
        stages.append(values)
    # Relevance of the convolution's outputs, which BatchNorm hands on: by hand, epsilon 1e-6.
    relevance = _down(model[8].weight, stages[7], stages[8], values)
    scale = model[6].weight / (stages[5].var(0, correction=0) + 1e-5).sqrt()
    relevance = _down(model[5].weight * scale[:, None], stages[4], stages[6], relevance)
    scaled = stages[0].register_hook(lambda gradient: gradient * (1 + 0.7 * relevance.view_as(stages[0]).detach()))
    model.zero_grad()
    cross_entropy(values, labels).backward()
    scaled.remove()
    for made, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(made, parameter.grad, rtol=1e-9, atol=1e-9)


def _down(weight: Tensor, a: Tensor, z: Tensor, relevance: Tensor) -> Tensor:
    return a * ((relevance / (z + 1e-6 * torch.where(z < 0, -1.0, 1.0))) @ weight)


def test_branches() -> None:
    """A sum of two branches shares relevance in proportion; the oracle is written out for this network."""

    class Branched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.below, self.side, self.top = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.below(x))
            return self.top(h + torch.relu(self.side(h)))

    model, (inputs, labels) = Branched().double(), batch(mlp)
    found = gradients(model, xc.RelevanceGuidance(model, 0.7), inputs, labels)
    below = model.below(inputs)
    h = below.relu()
    side = model.side(h)
    both = h + side.relu()
    logits = model.top(both)
    relevance = _down(model.top.weight, both, logits, logits)
    s = relevance / (both + 1e-6)
    of_side = s * side.relu()
    of_below = s * h + _down(model.side.weight, h, side, of_side)
    for values, part in ((side, of_side), (below, of_below)):
        values.register_hook(lambda gradient, part=part: gradient * (1 + 0.7 * part.detach()))
    model.zero_grad()
    cross_entropy(logits, labels).backward()
    for made, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(made, parameter.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0", "mobilenet_v2", "densenet121", "googlenet"])
def test_torchvision_in_training_mode(name: str) -> None:
    model = xc.build_model(name, 5, 3).train()
    if name == "googlenet":
        model.aux_logits, model.aux1, model.aux2 = False, None, None
    guidance = xc.RelevanceGuidance(model, 0.1, layers="all", normalise="max")
    found = gradients(model, guidance, torch.randn(2, 3, 64, 64), torch.tensor([0, 1]))
    assert all(torch.isfinite(gradient).all() for gradient in found)
    assert len(guidance.layers) == sum(isinstance(m, (nn.Linear, nn.Conv2d)) for m in model.modules()) - 1


def test_accumulated_gradients_are_those_of_each_batch() -> None:
    model = cnn()
    guidance = xc.RelevanceGuidance(model, 0.7, layers="all")
    one, other = batch(cnn, 1), batch(cnn, 2)
    parts = [gradients(model, guidance, *one), gradients(model, guidance, *other)]
    model.zero_grad()
    losses = [cross_entropy(guidance(inputs), labels) for inputs, labels in (one, other)]
    for loss in losses:  # two forward passes before the first backward
        loss.backward()
    for parameter, first, second in zip(model.parameters(), *parts, strict=True):
        torch.testing.assert_close(parameter.grad, first + second)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_comes_close(dtype: torch.dtype) -> None:
    model = cnn().float()
    inputs, labels = batch(cnn)
    guidance = xc.RelevanceGuidance(model, 0.7, {"rule": "epsilon", "epsilon": 0.1}, "all")
    errors = {}
    for name, called in (("plain", model), ("guided", guidance)):
        exact = gradients(model, called, inputs.float(), labels)
        model.zero_grad()
        scaler = torch.amp.GradScaler("cpu", init_scale=128.0)
        with torch.autocast("cpu", dtype):
            loss = cross_entropy(called(inputs.float()), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(torch.optim.SGD(model.parameters(), lr=0.0))
        off = [
            float((p.grad - wanted).norm() / wanted.norm()) for p, wanted in zip(model.parameters(), exact, strict=True)
        ]
        errors[name] = max(off)
    assert errors["guided"] < max(2 * errors["plain"], 0.01), errors


def _trained_in_process(rank: int, folder: Path, port: int, factor: Factor) -> None:
    """Half of every batch, in one of two processes."""
    store = torch.distributed.TCPStore("127.0.0.1", port, 2, is_master=rank == 0, timeout=timedelta(seconds=60))
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    guidance = _fresh(factor)
    called = nn.parallel.DistributedDataParallel(guidance)
    _train(called, guidance, lambda values: values[rank::2])
    torch.save(guidance.state_dict(), folder / f"{rank}.pt")
    torch.distributed.barrier()  # nobody leaves before the other is done
    os._exit(0)  # torch 2.13 can wait for itself for ever where it takes a gloo group apart


def _free_port() -> int:
    with socket.socket() as known:
        known.bind(("127.0.0.1", 0))
        return int(known.getsockname()[1])


def _fresh(factor: Factor) -> xc.RelevanceGuidance:
    torch.manual_seed(0)
    return xc.RelevanceGuidance(cnn(), factor, layers="all", centre=True)


def _train(called: nn.Module, guidance: nn.Module, part: Callable[[Tensor], Tensor]) -> None:
    optimizer = torch.optim.SGD(guidance.parameters(), lr=0.1)
    for number in range(3):
        inputs, labels = batch(cnn, number)
        optimizer.zero_grad()
        cross_entropy(called(part(inputs)), part(labels)).backward()
        optimizer.step()


@pytest.mark.parametrize("factor", [0.7, "learned"])
def test_two_processes_train_as_one(tmp_path: Path, factor: Factor) -> None:
    torch.multiprocessing.spawn(_trained_in_process, (tmp_path, _free_port(), factor), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    weights = [key for key in first if key.startswith(("model.", "learned."))]
    for key in weights:
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=0)
    if factor != "learned":  # whose cosines each process takes of its own half
        alone = _fresh(factor)
        _train(alone, alone, lambda values: values)
        for key in weights:
            torch.testing.assert_close(first[key], alone.state_dict()[key], rtol=1e-9, atol=1e-12)


def test_learns_a_task() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(64, 6)
    labels = (inputs[:, :3].argmax(1)).long()
    model = mlp().float()
    guidance = xc.RelevanceGuidance(model, 0.5, normalise="max")
    optimizer = torch.optim.Adam(guidance.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss = cross_entropy(guidance(inputs), labels)
        loss.backward()
        optimizer.step()
    guidance.eval()
    with torch.no_grad():
        assert (guidance(inputs).argmax(1) == labels).float().mean() > 0.95
