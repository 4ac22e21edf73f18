from collections.abc import Callable

import oracles
import pytest
import torch
import zennit.attribution
import zennit.composites
from nets import cnn, mlp, net_and_inputs, thin_vgg16
from torch import Tensor, nn

import xaicompare as xc

LOW, HIGH = torch.full((2,), -4.0).double(), torch.tensor([4.0, 5.0]).double()


def convolutions(bias: bool = True) -> nn.Sequential:
    """Every kind of layer that the oracle knows; for inputs (n, 2, 6, 6) of both signs, in float64."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=bias),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 2, bias=bias),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(5, 4, bias=bias),
    ).double()


def dense(bias: bool = True) -> nn.Sequential:
    layers = mlp(features=7, bias=bias).double()
    layers[1].inplace = False
    return layers


NETS = {"dense": (dense, (3, 7)), "convolutions": (convolutions, (3, 2, 6, 6))}
RULES = {
    "zero": oracles.zero,
    "epsilon": oracles.epsilon(0.05),
    "gamma": oracles.gamma(0.4),
    "alpha-beta": oracles.alpha_beta(3, 2),
    "z-plus": oracles.z_plus,
    "w-square": oracles.w_square,
    "flat": oracles.flat,
}
NUMBERS = {"epsilon": 0.05, "gamma": 0.4, "alpha": 3.0, "beta": 2.0}


def agree(values: Tensor, expected: list[Tensor], tolerance: float = 1e-9) -> bool:
    stacked = torch.stack(expected)
    return bool((values - stacked).abs().max() <= tolerance * stacked.abs().max())


def weighted(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]


def _awake(model: nn.Module) -> nn.Module:
    """Weights of both signs, more of them positive: no neuron is silent, where relevance would be lost."""
    for layer in weighted(model):
        nn.init.uniform_(layer.weight, -0.3, 0.5)
    return model


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("make", "shape"), NETS.values(), ids=NETS)
def test_rules_are_the_oracles(make: Callable[[], nn.Sequential], shape: tuple[int, ...], rule: str) -> None:
    model, inputs = make(), torch.randn(shape).double()
    made = xc.attribute(model, inputs, [0, 3, 1], "lrp", composite=rule, **NUMBERS)
    rules = [RULES[rule]] * 3
    pairs = zip(inputs, [0, 3, 1], strict=True)
    assert agree(made.values, [oracles.lrp(list(model), sample, target, rules) for sample, target in pairs])


@pytest.mark.parametrize("given", ["numbers", "channels", "none"])
def test_z_box_is_the_oracles_at_the_pixels_and_epsilon_above(given: str) -> None:
    model, inputs = convolutions(), torch.randn(3, 2, 6, 6).double()
    bounds = {"numbers": {"low": -4, "high": 5}, "channels": {"low": LOW, "high": HIGH}, "none": {}}[given]
    made = xc.attribute(model, inputs, 1, "lrp", composite="z-box", epsilon=0.05, **bounds)
    expected = []
    for sample in inputs:
        low, high = {"numbers": (-4.0, 5.0), "channels": (LOW, HIGH), "none": (sample.min(), sample.max())}[given]
        box = oracles.z_box(_everywhere(low), _everywhere(high))
        expected.append(oracles.lrp(list(model), sample, 1, [box, *[oracles.epsilon(0.05)] * 2]))
    assert agree(made.values, expected)


def _everywhere(bound: float | Tensor) -> Tensor:
    """A bound for each of the 72 pixels, from a number or one per channel."""
    bound = torch.as_tensor(bound).double()
    return (bound if bound.ndim else bound.expand(2))[:, None].expand(2, 36).flatten()


@pytest.mark.parametrize("composite", [*RULES, "z-box"])
@pytest.mark.parametrize(("make", "shape"), NETS.values(), ids=NETS)
def test_without_biases_the_relevance_sums_to_the_score(
    make: Callable[..., nn.Sequential], shape: tuple[int, ...], composite: str
) -> None:
    model = _awake(make(bias=False))
    made = xc.attribute(model, torch.randn(shape).double(), 2, "lrp", composite=composite, epsilon=1e-6)
    assert torch.allclose(made.values.flatten(1).sum(1), made.score, rtol=1e-3)


@pytest.mark.parametrize("net", ["mlp", "cnn", "vgg11_bn", "resnet18"])
def test_zero_is_the_gradient_times_the_input_on_relu_networks(net: str) -> None:
    model, inputs = net_and_inputs(net)
    made = xc.attribute(model, inputs, 1, "lrp", composite="zero").values
    expected = xc.attribute(model, inputs, 1, "input_x_gradient").values
    assert (made - expected).abs().max() < 1e-3 * expected.abs().max()


@pytest.mark.parametrize("composite", ["zero", "epsilon", "gamma", "alpha-beta", "z-plus", "epsilon-plus"])
def test_inputs_of_zero_weight_get_no_relevance(composite: str) -> None:
    model = dense()
    with torch.no_grad():
        model[0].weight[:, 2:4] = 0
    values = xc.attribute(model, torch.randn(3, 7).double(), 0, "lrp", composite=composite).values
    assert values[:, 2:4].abs().max() == 0
    assert values[:, [0, 1, 4, 5, 6]].abs().min() > 0


@pytest.mark.parametrize("composite", ["zero", "epsilon", "z-plus", "epsilon-plus-flat", "epsilon-gamma-box"])
def test_a_blank_image_has_finite_relevance(composite: str) -> None:
    made = xc.attribute(convolutions(bias=False), torch.zeros(1, 2, 6, 6).double(), 0, "lrp", composite=composite)
    assert made.values.abs().max() == 0


ZENNITS = {
    "epsilon-plus": lambda: zennit.composites.EpsilonPlus(epsilon=0.01),
    "epsilon-plus-flat": lambda: zennit.composites.EpsilonPlusFlat(epsilon=0.01),
    "epsilon-gamma-box": lambda: zennit.composites.EpsilonGammaBox(
        low=LOW.view(1, 2, 1, 1), high=HIGH.view(1, 2, 1, 1), epsilon=0.01, gamma=0.1
    ),
    "epsilon-alpha2-beta1": lambda: zennit.composites.EpsilonAlpha2Beta1(epsilon=0.01),
    "epsilon-alpha2-beta1-flat": lambda: zennit.composites.EpsilonAlpha2Beta1Flat(epsilon=0.01),
}


@pytest.mark.parametrize("composite", ZENNITS)
def test_composites_are_zennits(composite: str) -> None:
    model, inputs = convolutions(), torch.randn(3, 2, 6, 6).double()
    made = xc.attribute(model, inputs, 3, "lrp", composite=composite, epsilon=0.01, gamma=0.1, low=LOW, high=HIGH)
    with zennit.attribution.Gradient(model, ZENNITS[composite]()) as attributor:
        _, expected = attributor(inputs, lambda logits: logits * torch.tensor([0, 0, 0, 1]))
    torch.testing.assert_close(made.values, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def test_batchnorm_is_explained_as_part_of_the_layer_before_it() -> None:
    model, inputs = cnn().double(), torch.randn(2, 3, 16, 16).double()
    norm, merged = model[1], cnn().double()
    merged.load_state_dict(model.state_dict())
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    with torch.no_grad():
        merged[0].weight *= scale[:, None, None, None]
        merged[0].bias.copy_((model[0].bias - norm.running_mean) * scale + norm.bias)
    merged[1] = nn.Identity()
    made, expected = (xc.attribute(each, inputs, 1, "lrp", composite="gamma") for each in (model, merged))
    assert torch.allclose(made.values, expected.values, rtol=1e-9)
    assert torch.allclose(made.score, model(inputs)[:, 1], rtol=1e-12)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_mnist_mlp_gives_each_layer_its_rule(depth: int) -> None:
    hidden = [layer for _ in range(depth - 2) for layer in (nn.Linear(9, 9), nn.ReLU())]
    model = nn.Sequential(nn.Linear(7, 9), nn.ReLU(), *hidden, nn.Linear(9, 4)).double()
    inputs = torch.rand(3, 7).double()
    made = xc.attribute(model, inputs, 2, "lrp", composite="mnist-mlp", gamma=0.3, low=0, high=1)
    relative = [oracles.epsilon_of(0.1, torch.std)] if depth > 2 else []
    box = oracles.z_box(torch.zeros(7).double(), torch.ones(7).double())
    rules = [box, *[oracles.gamma(0.3)] * (depth - 3), *relative, oracles.zero]
    assert agree(made.values, [oracles.lrp(list(model), sample, 2, rules) for sample in inputs])


def test_vgg16_layers_gives_each_layer_its_rule() -> None:
    model, inputs = _awake(thin_vgg16().double()), torch.rand(1, 3, 32, 32).double()
    made = xc.attribute(model, inputs, 1, "lrp", composite="vgg16-layers", low=0, high=1)
    box = oracles.z_box(torch.zeros(3 * 32 * 32).double(), torch.ones(3 * 32 * 32).double())
    relative = oracles.epsilon_of(0.25, lambda z: z.square().mean().sqrt())
    at = [
        int(name.split(".")[1])
        for name, layer in model.features.named_modules(prefix="features")
        if layer in weighted(model)
    ]
    assert at == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    rules = [box if place == 0 else oracles.gamma(0.25) if place <= 16 else relative for place in at]
    layers = [*model.features, model.flat, *model.classifier]
    expected = oracles.lrp(layers, inputs[0], 1, [*rules, *[oracles.zero] * 3], average_pools=True)
    assert expected.abs().max() > 0
    assert agree(made.values, [expected], tolerance=1e-6)


@pytest.mark.parametrize("net", ["cnn", "vgg11_bn"])
def test_vgg16_layers_needs_vgg16(net: str) -> None:
    with pytest.raises(xc.UnsupportedModelError, match=r"composite 'vgg16-layers' on .* names 'features"):
        xc.attribute(*net_and_inputs(net), method="lrp", composite="vgg16-layers")


def test_an_unknown_composite_lists_the_known_ones_nearest_last() -> None:
    words = r"composite='epsilon-gama-box'; expected 'epsilon-plus', .*'zero'.*Did you mean 'epsilon-gamma-box'\?"
    with pytest.raises(xc.SettingError, match=words):
        xc.LRP(composite="epsilon-gama-box")


def test_alpha_less_beta_is_one() -> None:
    with pytest.raises(xc.SettingError, match=r"alpha=3.0, beta=1.0; expected alpha - beta = 1"):
        xc.LRP(alpha=3)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"low": 0.5}, r"inputs reach beyond low=0.5; expected bounds that hold for every pixel"),
        ({"high": torch.tensor([9, 9, -9.0])}, "inputs reach beyond high="),
        ({"low": torch.full((2,), -9.0)}, r"low has shape \(2,\); expected a number or \(3,\)"),
        ({"high": torch.full((3, 5, 5), 9.0)}, r"high has shape \(3, 5, 5\)"),
    ],
)
@pytest.mark.parametrize("composite", ["z-box", "epsilon-gamma-box"])
def test_bounds_must_fit(composite: str, bounds: dict[str, float | Tensor], words: str) -> None:
    with pytest.raises(xc.InputError, match=words):
        xc.attribute(*net_and_inputs("cnn"), method="lrp", composite=composite, **bounds)


def test_vectors_may_have_bounds_for_each_feature() -> None:
    model, inputs = dense(), torch.rand(2, 7).double()
    same = [
        xc.attribute(model, inputs, 1, "lrp", composite="z-box", low=0, high=high) for high in (2, torch.full((7,), 2))
    ]
    assert same[0].values.equal(same[1].values)


def test_a_composite_of_ones_own() -> None:
    model, inputs = net_and_inputs("cnn")
    table = {"first": "flat", "convolution": "z-plus", "dense": {"rule": "epsilon", "epsilon": 1e-6}}
    expected = xc.attribute(model, inputs, 1, "lrp", composite="epsilon-plus-flat").values
    assert xc.attribute(model, inputs, 1, "lrp", composite=table).values.equal(expected)
    made = xc.lrp.composite(table)
    assert xc.attribute(model, inputs, 1, "lrp", composite=made).values.equal(expected)
    with pytest.raises(xc.XaiCompareError, match="'flatt'; did you mean 'flat'"):
        xc.LRP(composite={"first": "flatt"})
    with pytest.raises(xc.SettingError, match="engine='zennit' with a composite of your own"):
        xc.LRP(composite=table, engine="zennit")
