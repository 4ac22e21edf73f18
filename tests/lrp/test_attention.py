"""Relevance through an attention module: the weights held constant, and followed."""

import copy

import pytest
import torch
from nets import attended, net_and_inputs
from torch import Tensor, nn

import xaicompare as xc
from xaicompare.attended import Attention
from xaicompare.lrp import above_attention, network

over = pytest.mark.parametrize
RULES = ["zero", "epsilon", "gamma", "z-plus", {"rule": "alpha-beta", "alpha": 2.0, "beta": 1.0}]


def net(scorer: str = "mlp", bias: bool = True) -> nn.Sequential:
    """A convolution, attention, a convolution and a linear layer; float64."""
    torch.manual_seed(5)
    made = nn.Sequential(
        *(nn.Conv2d(2, 3, 3, padding=1, bias=bias), nn.ReLU(), Attention(3, scorer, temperature=0.7)),
        *(nn.Conv2d(3, 4, 2, bias=bias), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3, bias=bias)),
    ).double()
    for layer in made.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(layer.weight)
    return made


def inputs(n: int = 2) -> Tensor:
    return torch.randn(n, 2, 5, 5, generator=torch.Generator().manual_seed(6)).double()


def swept(model: nn.Module, rule: object, attention: str, **more: object) -> xc.LayerRelevance:
    return xc.relevance(model, inputs(), 1, {"convolution": rule, "dense": rule, "attention": attention}, **more)


@over("attention", ["constant", "follow"])
@over("rule", RULES, ids=str)
def test_nothing_is_lost_but_what_is_told(rule: object, attention: str) -> None:
    made = swept(net(), rule, attention)
    assert (made.residual.abs() <= 1e-8 * made.start.abs()).all()


@over("rule", ["epsilon", "gamma", "z-plus"])
def test_constant_weights_pass_all_relevance_on(rule: str) -> None:
    """Each output of the module has one contribution: what comes in above leaves below, neuron by neuron."""
    made = swept(net(), rule, "constant")
    torch.testing.assert_close(made.layers["1"], made.layers["step_0_product"])
    assert "2.gate" not in made.layers
    assert not any(name.startswith("2.scorer") for name in made.sums)


def test_constant_weights_without_biases_conserve_the_score() -> None:
    made = swept(net(bias=False), {"rule": "epsilon", "epsilon": 0}, "constant")
    torch.testing.assert_close(made.values.sum((1, 2, 3)), made.start)


def test_constant_weights_are_a_network_that_has_them_as_numbers() -> None:
    """The same relevance as of a network whose product is a linear layer with these numbers on its diagonal."""
    model, x = net(), inputs(1)
    gate = model[2].weights(model[:2](x)).detach()[0] * 25  # (1, 5, 5)
    frozen = nn.Linear(75, 75, bias=False).double()
    with torch.no_grad():
        frozen.weight.copy_(torch.diag(gate.expand(3, 5, 5).flatten()))
    flat = nn.Sequential(*model[:2], nn.Flatten(), frozen, nn.Unflatten(1, (3, 5, 5)), *model[3:])
    rules = {"convolution": "gamma", "dense": {"rule": "epsilon", "epsilon": 0}}
    expected = xc.relevance(flat, x, 1, rules).values
    torch.testing.assert_close(xc.relevance(model, x, 1, rules).values, expected)


def test_followed_weights_are_the_formulas() -> None:
    """Half of each product's relevance to either factor; R_i = e_i / T (R_i - a_i sum R_j) through softmax."""
    model = net()
    made = swept(model, "epsilon", "follow")
    above = made.layers["step_0_product"]
    maps = model[:2](inputs())
    scores, weights = model[2].scorer(maps)[:, 0].detach(), model[2].weights(maps)[:, 0].detach()
    for n in range(2):
        gate = [[float(above[n, :, i, j].sum()) / 2 for j in range(5)] for i in range(5)]
        whole = sum(map(sum, gate))
        for i in range(5):
            for j in range(5):
                expected = float(scores[n, i, j]) / 0.7 * (gate[i][j] - float(weights[n, i, j]) * whole)
                assert float(made.layers["2.scorer.2"][n, 0, i, j]) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    torch.testing.assert_close(made.layers["2.gate"][:, 0], above.sum(1) / 2)


def test_what_followed_scores_get_does_not_depend_on_their_zero() -> None:
    """Softmax does not see a number added to all scores, and neither does the sum of their relevance."""
    model = net()
    moved = copy.deepcopy(model)
    with torch.no_grad():
        moved[2].scorer[2].bias += 3
    sums = [swept(each, "epsilon", "follow").sums["2.scorer.2"] for each in (model, moved)]
    torch.testing.assert_close(*sums)


def test_followed_weights_are_input_times_gradient_of_the_scores() -> None:
    """What followed weights hand down is half of what the scores add to input times gradient."""
    model = net("linear", bias=False)
    made = swept(model, "zero", "follow").values
    x = inputs().requires_grad_()
    maps = model[:2](x)
    scores = model[2].scorer(maps)
    out = model[3:](maps.detach() * model[2].gate(scores))[:, 1].sum()
    through_scores = torch.autograd.grad(out, x)[0] * x / 2
    constant = swept(model, "zero", "constant").values / 2
    # LRP-0 without biases is input x gradient below, but for the bias of the scorer, which takes a share.
    assert torch.nn.functional.cosine_similarity((made - constant).flatten(), through_scores.flatten(), 0) > 0.999


def test_several_classes_and_layers_above() -> None:
    model = net()
    rules = {"convolution": "gamma", "dense": "zero", "attention": "follow"}
    made = xc.relevance(model, inputs(), torch.tensor([[0, 2], [1, 1]]), rules).values
    for place, target in enumerate(([0, 1], [2, 1])):
        torch.testing.assert_close(made[:, place], xc.relevance(model, inputs(), target, rules).values)
    assert above_attention(network(model, inputs())) == {"3", "6"}


def test_followed_relevance_is_differentiable() -> None:
    model = net()
    weight = model[2].scorer[2].weight

    def value() -> Tensor:
        return swept(model, "epsilon", "follow", create_graph=True).values.square().sum()

    slope = torch.autograd.grad(value(), weight)[0][0, 0, 0, 0]
    ends = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            weight[0, 0] += step
        ends.append(float(value().detach()))
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4)


def test_zennit_and_unknown_choices_are_told() -> None:
    model, x = net_and_inputs("attended")
    with pytest.raises(xc.UnsupportedModelError, match=r"engine='zennit' .* attention module.*engine='native'"):
        xc.attribute(model, x, 1, "lrp", engine="zennit")
    with pytest.raises(xc.SettingError, match="attention='maybe'; expected 'constant' or 'follow'"):
        xc.relevance(attended(), x, 1, {"attention": "maybe"})
