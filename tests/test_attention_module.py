"""The attention module, against its formula, and how it gets into a network."""

import math

import pytest
import torch
from nets import attended, cnn, mlp, net_and_inputs, resnet18
from torch import Tensor, nn

import xaicompare as xc
from xaicompare.attended import Attention, PositionSoftmax

over = pytest.mark.parametrize


def module(scorer: str = "mlp", **settings: object) -> Attention:
    torch.manual_seed(3)
    made = Attention(4, scorer, **settings).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made


def x(n: int = 2) -> Tensor:
    return torch.randn(n, 4, 5, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


@torch.no_grad()
def slow(made: Attention, maps: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Weights and outputs of one sample (c, h, w), position by position."""
    layers = [layer for layer in made.scorer if isinstance(layer, nn.Conv2d)]
    channels, high, wide = maps.shape
    scores = {}
    for row in range(high):
        for column in range(wide):
            given = maps[:, row, column]
            for place, layer in enumerate(layers):
                given = layer.weight[:, :, 0, 0] @ given + layer.bias
                given = given.tanh() if place < len(layers) - 1 else given
            scores[row, column] = math.exp(float(given) / temperature)
    weights, outputs = torch.zeros(high, wide).double(), torch.zeros(channels, high, wide).double()
    for (row, column), value in scores.items():
        weights[row, column] = value / sum(scores.values())
        outputs[:, row, column] = maps[:, row, column] * weights[row, column] * high * wide
    return weights, outputs


@over("scorer", ["linear", "mlp"])
@over("temperature", [0.5, 1.0, 3.0])
def test_module_is_its_formula(scorer: str, temperature: float) -> None:
    made, maps = module(scorer, temperature=temperature), x()
    for sample in range(2):
        weights, outputs = slow(made, maps[sample], temperature)
        torch.testing.assert_close(made.weights(maps)[sample, 0], weights, atol=1e-12, rtol=0)
        torch.testing.assert_close(made(maps)[sample], outputs, atol=1e-12, rtol=0)


def test_weights_sum_to_one_and_temperature_flattens() -> None:
    sharp, flat = (module(temperature=value).weights(x()) for value in (0.2, 5.0))
    for weights in (sharp, flat):
        torch.testing.assert_close(weights.sum((1, 2, 3)), torch.ones(2).double())
        assert weights.min() > 0
    assert (sharp.amax((1, 2, 3)) > flat.amax((1, 2, 3))).all()


def test_huge_scores_overflow_nowhere() -> None:
    gate = PositionSoftmax()(torch.tensor([[[[1e4, -1e4]]], [[[1e4, 1e4]]]]))
    assert gate[:, 0, 0].tolist() == [[2, 0], [1, 1]]


@over("scorer", ["linear", "mlp"])
def test_gradients_are_those_of_finite_differences(scorer: str) -> None:
    made = module(scorer)
    assert torch.autograd.gradcheck(made, x(1).requires_grad_())
    names = [name for name, _ in made.named_parameters()]
    maps = x(1)

    def of_parameters(*values: Tensor) -> Tensor:
        return torch.func.functional_call(made, dict(zip(names, values, strict=True)), maps)

    assert torch.autograd.gradcheck(of_parameters, tuple(made.parameters()))


def test_permuted_positions_give_permuted_outputs() -> None:
    made, maps = module(), x()
    order = torch.randperm(15, generator=torch.Generator().manual_seed(0))

    def permuted(values: Tensor) -> Tensor:
        return values.flatten(2)[:, :, order].view_as(values)

    torch.testing.assert_close(made(permuted(maps)), permuted(made(maps)))
    torch.testing.assert_close(made.weights(permuted(maps)), permuted(made.weights(maps)))


@over("scorer", ["linear", "mlp"])
def test_a_fresh_module_changes_nothing_and_learns(scorer: str) -> None:
    made = Attention(4, scorer).double()
    torch.testing.assert_close(made(x()), x())
    (made(x())[:, :, 0, 0].sum()).backward()
    assert made.scorer[-1].weight.grad.abs().max() > 0


@over(
    ("settings", "words"),
    [
        ({"scorer": "cubic"}, "unknown scorer 'cubic'"),
        ({"temperature": 0.0}, "temperature=0.0; expected a finite number above 0"),
        ({"temperature": math.inf}, "temperature=inf"),
        ({"hidden": 0}, "hidden=0; expected at least 1"),
    ],
)
def test_settings_out_of_range_are_told(settings: dict, words: str) -> None:
    for call in (lambda: Attention(4, **settings), lambda: xc.attend(cnn(), "3", **settings)):
        with pytest.raises(xc.XaiCompareError, match=words):
            call()


def test_attend_makes_a_copy_that_computes_the_same() -> None:
    for make, after, channels in ((cnn, "2", 6), (resnet18, "layer3.0", 256)):
        model = make()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        names = list(before)
        made = xc.attend(model, after, scorer="mlp")
        inputs = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(made(inputs), model(inputs))
        (name,) = [name for name, each in made.named_modules() if isinstance(each, Attention)]
        home, _, own = after.rpartition(".")
        assert name == f"{home}.attention_{own}".lstrip(".")
        assert made.get_submodule(name).scorer[0].in_channels == channels
        assert [key for key in made.state_dict() if "attention" not in key] == names
        assert list(model.state_dict()) == names
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert not any(isinstance(each, Attention) for each in model.modules())


def test_attend_follows_the_models_type_and_mode() -> None:
    made = xc.attend(cnn().double().train(), "4")
    assert made.attention_4.scorer[0].weight.dtype == torch.float64
    assert made.training
    assert made.attention_4.training
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, second, other = (xc.attend(cnn(), "4", scorer="mlp", seed=seed).attention_4 for seed in (0, 0, 1))
    assert torch.equal(first.scorer[0].weight, second.scorer[0].weight)
    assert not torch.equal(first.scorer[0].weight, other.scorer[0].weight)
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


@over(
    ("make", "after", "words"),
    [
        (cnn, "33", "unknown layer '33'"),
        (cnn, "", "unknown layer ''"),
        (resnet18, "layer3", "after='layer3' stands in a ResNet; expected a layer inside an nn.Sequential"),
        (cnn, "7", r"after='7' gives shape \(1, 8\); expected maps"),
        (mlp, "1", "after='1' was not reached by a blank image"),
    ],
)
def test_attend_tells_what_it_can_not_do(make: object, after: str, words: str) -> None:
    with pytest.raises(xc.XaiCompareError, match=words):
        xc.attend(make(), after)


def test_attention_map_is_the_modules_own_and_leaves_no_trace() -> None:
    model, inputs = net_and_inputs("attended")
    found = xc.attention_map(model, inputs)
    torch.testing.assert_close(found, model[2].weights(model[:2](inputs)).detach())
    assert not model[2].gate._forward_hooks
    assert [key for key in vars(model[2].gate) if key != "temperature" and not key.startswith("_")] == ["training"]
    two = nn.Sequential(nn.Conv2d(3, 4, 3), Attention(4), nn.Conv2d(4, 2, 3, bias=False), Attention(2), nn.Flatten(1))
    two = nn.Sequential(*two, nn.Linear(2 * 144, 3))
    for parameter in two.parameters():
        nn.init.normal_(parameter)
    assert xc.attention_map(two, inputs).shape == (3, 1, 12, 12)
    assert xc.attention_map(two, inputs, "1").shape == (3, 1, 14, 14)
    with pytest.raises(xc.UnknownNameError, match=r"unknown attention module '2'; .*1, 3"):
        xc.attention_map(two, inputs, "2")
    with pytest.raises(xc.UnsupportedModelError, match=r"has no attention module.*xaicompare\.attend\(model, after="):
        xc.attention_map(cnn(), inputs)


def test_the_module_learns_where_the_class_is() -> None:
    """The first channel says where, the second what: only a weighted mean can tell the class."""
    torch.manual_seed(0)
    values = torch.randn(256, 1, 6, 6)
    place = torch.randint(36, (256,))
    marks = torch.zeros(256, 36).scatter_(1, place[:, None], 1).view(256, 1, 6, 6)
    labels = (values.flatten(1).gather(1, place[:, None])[:, 0] > 0).long()
    inputs = torch.cat([marks, values], 1)
    net = nn.Sequential(Attention(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs), labels).backward()
        optimizer.step()
    assert (net(inputs).argmax(1) == labels).float().mean() > 0.9
    found = xc.attention_map(net, inputs).flatten(1)
    assert found.gather(1, place[:, None]).mean() > 10 / 36, "ten times as much as where all are equal"


def test_guided_training_and_the_doctor_know_the_module() -> None:
    model, inputs = attended(), torch.randn(4, 3, 16, 16)
    guided = xc.RelevanceGuidance(model.train(), layers="conv")
    guided(inputs, torch.tensor([0, 1, 2, 3])).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    told = str(xc.doctor(model.eval(), inputs))
    assert "attended.py" in told
