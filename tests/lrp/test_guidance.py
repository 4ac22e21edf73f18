"""Guided training steps, against a slow float64 oracle, closed forms, and plain training."""

import copy
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


@pytest.mark.parametrize("start", ["probabilities", "predicted", "label"])
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


@pytest.mark.parametrize("name", sorted(nets.MAKERS))
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


@pytest.mark.parametrize("name", sorted(nets.MAKERS))
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
    chances = values.softmax(1)
    # Relevance of the convolution's outputs, which BatchNorm hands on: by hand, epsilon 1e-6.
    relevance = _down(model[8].weight, stages[7], stages[8], chances)
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
    relevance = _down(model.top.weight, both, logits, logits.softmax(1))
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
    torch.distributed.destroy_process_group()


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


class TestFactors:
    def test_one_per_layer(self) -> None:
        guidance = xc.RelevanceGuidance(mlp(), {"*": 0.1, "2": 0.5})
        assert guidance.factors() == {"0": 0.1, "2": 0.5}
        assert "{'0': 0.1, '2': 0.5}" in repr(guidance)

    def test_a_schedule_counts_guided_batches(self) -> None:
        model, (inputs, labels) = mlp(), batch(mlp)
        guidance = xc.RelevanceGuidance(model, lambda number: 0.1 * number)
        for number in range(3):
            assert guidance.factors() == dict.fromkeys("02", 0.1 * number)
            gradients(model, guidance, inputs, labels)
        again = xc.RelevanceGuidance(mlp(), lambda number: 0.1 * number)
        again.load_state_dict(guidance.state_dict())
        assert again.batch == 3

    def test_learned_start_at_zero_stay_bounded_and_move(self) -> None:
        model = mlp().float()
        guidance = xc.RelevanceGuidance(model, "learned", bound=0.2, normalise="max")
        assert guidance.factors() == {"0": 0.0, "2": 0.0}
        optimizer = torch.optim.SGD(guidance.parameters(), lr=0.5)
        inputs, labels = batch(mlp)
        for _ in range(60):
            optimizer.zero_grad()
            cross_entropy(guidance(inputs.float()), labels).backward()
            optimizer.step()
        factors = guidance.factors()
        assert all(0 < abs(factor) <= 0.2 for factor in factors.values()), factors

    def test_learned_gradient_is_minus_the_cosine(self) -> None:
        """Of the weights' gradient that relevance added, and of the next batch's gradient; handed on later."""
        model, (inputs, labels) = mlp(), batch(mlp)
        guidance = xc.RelevanceGuidance(model, "learned", layers="2")
        plain = gradients(model, guidance, inputs, labels)
        for parameter in guidance.parameters():
            parameter.grad = None
        one = oracles.guided_gradients(
            list(model), inputs, labels, 1.0, oracles.epsilon(1e-6), lambda layer: layer is model[2]
        )
        direction = one[2] - plain[2]
        later = gradients(model, guidance, *batch(mlp, 1))
        guidance.zero_grad()
        gradients(model, guidance, *batch(mlp, 2))
        cosine = (direction * later[2]).sum() / direction.norm() / later[2].norm()
        (raw,) = guidance.learned.raw
        assert float(raw.grad) == pytest.approx(-float(cosine), rel=1e-5)


class TestStabilisers:
    def multipliers(self, **settings: object) -> list[Tensor]:
        """The multiplier of layer 2, sample by sample, from the gradients of its bias."""
        model = mlp()
        inputs, labels = batch(mlp)
        found = []
        for sample, label in zip(inputs, labels, strict=True):
            plain = gradients(model, model, sample[None], label[None])[3]
            guided = gradients(model, xc.RelevanceGuidance(model, layers="2", **settings), sample[None], label[None])[3]
            found.append((guided / plain)[plain != 0])
        return found

    def test_normalised_relevance_reaches_the_factor(self) -> None:
        for made in self.multipliers(factor=0.5, normalise="max"):
            assert float((made - 1).abs().max()) == pytest.approx(0.5)

    def test_clamped(self) -> None:
        for made in self.multipliers(factor=100.0, clamp=(0.5, 2.0)):
            assert 0.5 - 1e-9 <= float(made.min()) <= float(made.max()) <= 2.0 + 1e-9

    @pytest.mark.parametrize("normalise", [None, "max", "mean"])
    def test_centred_multipliers_have_mean_one(self, normalise: str | None) -> None:
        relevance = torch.randn(4, 3, 5, 5, dtype=torch.float64)
        multiplier = Multiplier(centre=True, normalise=normalise)
        made = multiplier.of(multiplier.used(relevance), 0.7)
        torch.testing.assert_close(made.flatten(1).mean(1), torch.ones(4, dtype=torch.float64))

    def test_filters_scale_their_weights_gradient_alone(self) -> None:
        model, (inputs, labels) = cnn(), batch(cnn)
        plain = gradients(model, model, inputs, labels)
        found = gradients(model, xc.RelevanceGuidance(model, 0.7, layers="0", filters=True), inputs, labels)
        cached = [
            oracles._cached_relevance(steps(model), sample, 0, oracles.epsilon(1e-6), "probabilities")[0][0][1]
            for sample in inputs
        ]
        scale = 1 + 0.7 * torch.stack(cached).sum((2, 3)).mean(0)
        torch.testing.assert_close(found[0], plain[0] * scale[:, None, None, None], rtol=1e-9, atol=1e-12)
        assert all(torch.equal(one, other) for one, other in zip(found[1:], plain[1:], strict=True))

    def test_recorded_quantiles(self) -> None:
        model, (inputs, labels) = cnn(), batch(cnn)
        guidance = xc.RelevanceGuidance(model, 0.5, layers="all", normalise="max", record_every=2)
        for _ in range(3):
            gradients(model, guidance, inputs, labels)
        assert {(told.batch, told.layer) for told in guidance.recorded} == {
            (n, name) for n in (0, 2) for name in "0258"
        }
        assert all(0.5 <= t.least <= t.low <= t.median <= t.high <= t.greatest <= 1.5 for t in guidance.recorded)


class TestRefusals:
    def test_relevance_that_is_not_finite_is_told_with_layer_and_batch(self) -> None:
        model, (inputs, labels) = mlp(), batch(mlp)
        guidance = xc.RelevanceGuidance(model)
        guidance(inputs)
        nn.init.constant_(model[4].weight, float("nan"))
        with pytest.raises(xc.DivergedError, match="relevance at layer 2 in guided batch 1 is not finite"):
            gradients(model, guidance, inputs, labels)

    def test_products_that_are_not_finite(self) -> None:
        guidance = xc.RelevanceGuidance(mlp(), 1e200, normalise="max")
        with pytest.raises(xc.DivergedError, match="scaled gradient at layer 0 in guided batch 0 is not finite"):
            gradients(guidance.model, guidance, *batch(mlp))

    def test_gradients_that_are_not_finite(self) -> None:
        outputs = xc.RelevanceGuidance(mlp())(batch(mlp)[0])
        with pytest.raises(xc.DivergedError, match="gradient at layer 2 in guided batch 0 is not finite"):
            (outputs * float("inf")).sum().backward()

    def test_a_second_backward(self) -> None:
        model, (inputs, labels) = mlp(), batch(mlp)
        loss = cross_entropy(xc.RelevanceGuidance(model)(inputs), labels)
        loss.backward(retain_graph=True)
        with pytest.raises(xc.XaiCompareError, match="a second backward through guided batch 0"):
            loss.backward()

    def test_compiled_and_wrapped_models(self) -> None:
        with pytest.raises(xc.UnsupportedModelError, match=r"Use RelevanceGuidance\(model._orig_mod\)"):
            xc.RelevanceGuidance(torch.compile(mlp(), backend="eager"))
        with pytest.raises(xc.UnsupportedModelError, match=r"DataParallel\(RelevanceGuidance\(model\)\)"):
            xc.RelevanceGuidance(nn.DataParallel(mlp()))

    @pytest.mark.parametrize(
        ("settings", "told"),
        [
            ({"factor": "learn"}, "factor='learn'; expected a number"),
            ({"factor": True}, "factor True; expected a finite number"),
            ({"factor": float("nan")}, "factor nan; expected a finite number"),
            ({"factor": {"2": 0.1}}, "none for 0; expected one for every guided layer"),
            ({"factor": {"5": 0.1}}, "unknown guided layer '5'"),
            ({"rule": "alpha-beta"}, "rule='alpha-beta'; expected 'zero', 'epsilon' or 'gamma'"),
            ({"rule": "epsilom"}, "did you mean 'epsilon'"),
            ({"layers": "lineer"}, "did you mean 'linear'"),
            ({"layers": "4"}, "layers='4' leaves nothing to guide; expected a layer below the output layer, 4"),
            ({"layers": "conv"}, "layers='conv' leaves nothing to guide"),
            ({"start": "score"}, "start='score'; expected 'probabilities'"),
            ({"clamp": (2.0, 1.0)}, "expected \\(least, greatest\\) with 1 between them"),
            ({"clamp": (2.0, 3.0)}, "with 1 between them"),
            ({"layers": 0}, "layers=0; expected 'all'"),
            ({"layers": ["0", "4"]}, "names the output layer, 4, which is never guided"),
            ({"record_every": "5"}, "record_every='5'"),
            ({"bound": -1}, "bound=-1; expected a finite number above 0"),
            ({"normalise": "sum"}, "normalise"),
            ({"factor": "learned", "bound": 0.0}, "bound=0.0; expected a finite number above 0"),
            ({"factor": "learned", "filters": True}, "expected one of them"),
            ({"record_every": 0}, "record_every=0"),
        ],
    )
    def test_settings(self, settings: dict[str, object], told: str) -> None:
        with pytest.raises(xc.XaiCompareError, match=told):
            xc.RelevanceGuidance(mlp(), **settings)

    def test_labels(self) -> None:
        inputs, labels = batch(mlp)
        guidance = xc.RelevanceGuidance(mlp(), start="label")
        with pytest.raises(xc.InputError, match=r"expected guidance\(inputs, labels\)"):
            guidance(inputs)
        with pytest.raises(xc.InputError, match=r"target has shape \(3,\); expected \(4,\)"):
            guidance(inputs, labels[:3])

    def test_inputs(self) -> None:
        inputs, labels = batch(mlp)
        guidance = xc.RelevanceGuidance(mlp(), start="label")
        with pytest.raises(xc.InputError, match="inputs are a ndarray"):
            guidance(inputs.numpy())
        with pytest.raises(xc.InputError, match="an empty batch"):
            guidance(inputs[:0])
        with pytest.raises(xc.InputError, match="inputs hold NaN"):
            guidance(inputs * float("nan"), labels)
        with pytest.raises(xc.InputError, match="target holds 7; expected classes from 0 to 2"):
            guidance(inputs, torch.full_like(labels, 7))
        with pytest.raises(xc.UnsupportedModelError, match="guided already"):
            xc.RelevanceGuidance(guidance)

    def test_steps_without_a_rule_may_stand_below(self) -> None:
        below = [nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten()]
        model = nn.Sequential(*below, nn.Linear(144, 5), nn.ReLU(), nn.Linear(5, 3)).double()
        found = gradients(model, xc.RelevanceGuidance(model), *batch(cnn))
        assert all(torch.isfinite(gradient).all() for gradient in found)
        with pytest.raises(xc.UnsupportedModelError, match=r"no rule for GroupNorm \(at 1\), which stands above"):
            xc.RelevanceGuidance(model, layers="all")

    def test_parametrized_layers(self) -> None:
        model = mlp()
        torch.nn.utils.parametrizations.spectral_norm(model[2])
        with pytest.raises(xc.UnsupportedModelError, match="2 has parametrizations"):
            xc.RelevanceGuidance(model)

    @pytest.mark.parametrize("how", ["a counter", "chance", "noise", "an attribute"])
    def test_a_model_that_goes_another_way_each_time(self, how: str) -> None:
        class Wavering(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layers, self.calls, self.scale = mlp(), 0, 1.0

            def forward(self, x: Tensor) -> Tensor:
                self.calls += 1
                made = self.layers(x)
                if how == "a counter":
                    return made * self.calls
                if how == "chance" and torch.rand(1) < 0.5:
                    return 2 * made
                return made + torch.randn(3) if how == "noise" else made * self.scale

        def train() -> None:
            for seed in range(4):
                torch.manual_seed(seed)
                guidance = xc.RelevanceGuidance(Wavering().eval())
                guidance.train()
                for number in range(3):
                    gradients(guidance.model, guidance, *batch(mlp, number))
                    guidance.model.scale = 2.0

        with pytest.raises(xc.UnsupportedModelError, match="a traced copy differs"):
            train()


class TestWhatElseIsTraced:
    """Findings of a first reader: what was guided wrongly, and is not any more."""

    def test_several_outputs_and_heads_that_nobody_uses(self) -> None:
        class Heads(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.one, self.other, self.unused = (nn.Linear(6, 6) for _ in range(4))

            def forward(self, x: Tensor) -> Tensor:
                h = self.a(x).relu()
                made = self.one(h) + self.other(h)
                self.unused(h)
                return made

        assert xc.RelevanceGuidance(Heads(), layers="all").layers == ("a",)

    @pytest.mark.parametrize("how", ["method", "function", "out of place"])
    def test_operations_in_place(self, how: str) -> None:
        class Overwriting(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b, self.c = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)

            def forward(self, x: Tensor) -> Tensor:
                h = self.b(torch.relu(self.a(x)))
                if how == "method":
                    h = h.mul_(0.5)
                elif how == "function":
                    h = nn.functional.dropout(h * 0.5, 0.0, True, True)
                else:
                    h = h * 0.5
                return self.c(torch.tanh(h))

        found = []
        for _ in range(2):
            torch.manual_seed(0)
            model = Overwriting().double()
            found.append(gradients(model, xc.RelevanceGuidance(model, layers="a"), *batch(mlp)))
            how = "out of place"
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other)

    @pytest.mark.parametrize("change", ["deepcopy", "unfreeze", "assign", "two passes", "tied"])
    def test_filters_follow_the_weights_of_now(self, change: str) -> None:
        """Against single passes through a fresh guidance."""
        model, (inputs, labels) = cnn(), batch(cnn)
        if change == "unfreeze":
            model.requires_grad_(False)
        guidance = xc.RelevanceGuidance(model, 0.7, layers="all", filters=True)
        if change == "deepcopy":
            guidance = copy.deepcopy(guidance)
        elif change == "assign":
            model.load_state_dict({key: value.clone() for key, value in model.state_dict().items()}, assign=True)
        guidance.model.requires_grad_(True)
        fresh = xc.RelevanceGuidance(copy.deepcopy(guidance.model), 0.7, layers="all", filters=True)
        expected = gradients(fresh.model, fresh, inputs, labels)
        if change == "two passes":
            more = gradients(fresh.model, fresh, *batch(cnn, 1))
            expected = [one + other for one, other in zip(expected, more, strict=True)]
            guidance.zero_grad()
            losses = [cross_entropy(guidance(x), y) for x, y in (batch(cnn), batch(cnn, 1))]
            sum(losses).backward()
            found = [parameter.grad for parameter in guidance.model.parameters()]
        else:
            found = gradients(guidance.model, guidance, inputs, labels)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)

    def test_filters_of_linear_layers_on_tokens(self) -> None:
        """The relevance of a neuron is summed over tokens."""
        relevance = torch.randn(4, 7, 5)
        used = Multiplier(filters=True).used(relevance, channels_last=True)
        torch.testing.assert_close(used, relevance.sum(1))
        model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3)).double()
        gradients(model, xc.RelevanceGuidance(model, filters=True), torch.randn(4, 4, 6).double(), batch(mlp)[1])

    def test_gradients_that_a_hook_holds_are_not_overwritten(self) -> None:
        model, held = mlp(), []

        def hold(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            if given[0].requires_grad:
                given[0].register_hook(lambda gradient: held.append(gradient) or held.append(gradient.clone()))

        model[3].register_forward_pre_hook(hold)
        gradients(model, xc.RelevanceGuidance(model, 1000.0), *batch(mlp))
        assert torch.equal(held[0], held[1])
