"""The sweep through whole networks: against Zennit, conserving, differentiable, at every layer."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
import zennit.attribution
import zennit.composites
import zennit.core
import zennit.rules
import zennit.types
from nets import _lively, cnn, mlp, net_and_inputs, thin_vgg16
from torch import Tensor, nn

import xaicompare as xc
from xaicompare.lrp import NAMED, Numbers, composite, network
from xaicompare.lrp.plan import planned

NUMBERS = {"epsilon": 0.01, "gamma": 0.2, "low": -5.0, "high": 5.0}
EVERYWHERE = [name for name in NAMED if name not in ("vgg16-layers", "mnist-mlp")]


def squeezenet() -> nn.Module:
    return _lively(torchvision.models.squeezenet1_1(num_classes=5))


def densenet() -> nn.Module:
    return _lively(torchvision.models.DenseNet(8, (2, 2, 2), 16, num_classes=5))


def random_net(seed: int) -> nn.Module:
    return Branches(seed).double().eval()


class Branches(nn.Module):
    """A random network with branches that are summed, joined, gated and pooled."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            width = 2 * int(torch.randint(2, 4, ()))
            self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU(0.1))
            self.left = nn.Conv2d(width, width, 3, padding=1, groups=2)
            self.right = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(width, width, 1, bias=False))
            self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1), nn.Sigmoid())
            self.norm = nn.BatchNorm2d(2 * width)
            self.head = nn.Linear(2 * width, 4)
            _lively(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        left = F.relu(self.left(x)) + x
        both = torch.cat([left * self.gate(left), self.right(x)], 1)
        both = F.avg_pool2d(F.relu(self.norm(both)), 2)
        return self.head(both.mean((2, 3)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", EVERYWHERE)
def test_relevance_and_what_was_absorbed_make_up_the_start_at_every_layer(name: str, seed: int) -> None:
    inputs = torch.randn(3, 3, 8, 8).double()
    made = xc.relevance(random_net(seed), inputs, 1, name, **NUMBERS)
    scale = torch.stack([values.flatten(1).abs().sum(1) for values in made.layers.values()]).amax(0)
    assert (made.residual.abs() <= 1e-10 * scale).all()
    # One line of layers carries everything between the stem and the branches.
    above = sum(made.absorbed[layer] for layer in list(made.absorbed)[: list(made.sums).index("stem.2")])
    torch.testing.assert_close(made.sums["stem.2"] + above, made.start, rtol=0, atol=1e-10 * float(scale.max()))


def by_zennit(model: nn.Module, inputs: Tensor, target: Tensor, name: str) -> Tensor:
    engine = {"engine": "zennit"} | NUMBERS
    return xc.attribute(model, inputs, target, "lrp", composite=name, **engine).values


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize("net", ["mlp", "cnn", "vgg11_bn", "resnet18", "squeezenet"])
def test_composites_are_zennits(net: str, name: str) -> None:
    if net == "mlp" and name == "epsilon-gamma-box":
        pytest.skip("Zennit gives z-box to a first convolution only, ours to any first layer")
    torch.manual_seed(3)
    model, inputs = (squeezenet(), torch.randn(2, 3, 64, 64)) if net == "squeezenet" else net_and_inputs(net)
    inputs = inputs.clamp(-5, 5)
    target = model(inputs).argmax(1)
    single, peer = xc.relevance(model, inputs, target, name, **NUMBERS).values, by_zennit(model, inputs, target, name)
    try:
        exact = by_zennit(model.double(), inputs.double(), target, name)
        double = xc.relevance(model, inputs.double(), target, name, **NUMBERS).values
    finally:
        model.float()
    assert off(double, exact) < 1e-8
    # Where branches all but cancel, single precision errs by more, Zennit as we do.
    assert off(single, exact) < max(1e-4, 2 * off(peer, exact))


def off(values: Tensor, exact: Tensor) -> float:
    return float((values - exact).abs().max() / exact.abs().max())


def test_vgg16_layers_is_zennits() -> None:
    model, inputs = thin_vgg16(width=4).double(), torch.rand(2, 3, 32, 32).double()
    expected = xc.attribute(model, inputs, 1, "lrp", composite="vgg16-layers", engine="zennit", low=0, high=1).values
    made = xc.attribute(model, inputs, 1, "lrp", composite="vgg16-layers", low=0, high=1)
    torch.testing.assert_close(made.values, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))
    assert made.status == "ok"


def test_densenet_is_zennits_on_the_same_steps() -> None:
    """Zennit would merge BatchNorm across DenseNet's concatenations; without canonizers both pass it through."""
    torch.manual_seed(0)
    model, inputs = densenet().double(), torch.randn(2, 3, 32, 32).double()
    net = network(model, inputs)
    chain = zennit.composites.LayerMapComposite(
        layer_map=[
            (zennit.types.Activation, zennit.rules.Pass()),
            (zennit.types.BatchNorm, zennit.rules.Pass()),
            (zennit.types.AvgPool, zennit.rules.Norm()),
            (zennit.types.Convolution, zennit.rules.ZPlus()),
            (zennit.types.Linear, zennit.rules.Epsilon(0.01)),
        ]
    )
    with zennit.attribution.Gradient(net.traced, chain) as attributor:
        expected = attributor(inputs, lambda logits: logits * F.one_hot(torch.tensor([1, 1]), 5))[1]
    plan = planned(net, composite("epsilon-plus", Numbers(epsilon=0.01)))
    unmerged = type(net)(net.traced, _unmerged(net), net.entry, net.exit, {}, net.nonnegative, net.reads_inputs)
    forward = xc.lrp.evaluated(planned(unmerged, plan.composite), inputs)
    start = forward.outputs * F.one_hot(torch.tensor([1, 1]), 5)
    made = xc.lrp.swept(forward, start).relevance
    torch.testing.assert_close(made, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))


def _unmerged(net: object) -> tuple:
    merged = {user for layer in net.norms for user in layer.users}
    return tuple(
        type(step)(step.node, step.name, "affine", step.module, step.sources) if step.node in merged else step
        for step in net.steps
    )


@pytest.mark.parametrize("make", [cnn, lambda: random_net(1).float(), densenet, squeezenet])
def test_several_classes_in_one_sweep_are_single_calls(make: Callable[[], nn.Module]) -> None:
    model, inputs = make(), torch.randn(2, 3, 32, 32)
    made = xc.relevance(model, inputs, torch.tensor([[0, 2, 3], [1, 1, 0]]), "epsilon-plus-flat")
    assert made.values.shape == (2, 3, 3, 32, 32)
    for place, target in enumerate(([0, 1], [2, 1], [3, 0])):
        single = xc.relevance(model, inputs, target, "epsilon-plus-flat")
        torch.testing.assert_close(made.values[:, place], single.values, rtol=1e-4, atol=1e-6)
        for name, values in single.layers.items():
            torch.testing.assert_close(made.layers[name][:, place], values, rtol=1e-4, atol=1e-6)


def test_start_and_layers() -> None:
    model, inputs = cnn(), torch.randn(2, 3, 16, 16)
    made = xc.relevance(model, inputs, start="one", layers=["4"])
    assert set(made.layers) == {"4"}
    assert made.layers["4"].shape == model[:5](inputs).shape
    assert made.start.tolist() == [1, 1]
    score = xc.relevance(model, inputs)
    torch.testing.assert_close(score.values, made.values * score.start[:, None, None, None], rtol=1e-3, atol=1e-6)
    shares = xc.relevance(model, inputs, 2, start="probability")
    torch.testing.assert_close(shares.start, model(inputs).softmax(1)[:, 2])
    with pytest.raises(xc.UnknownNameError, match=r"layer '44'; did you mean '4'"):
        xc.relevance(model, inputs, layers=["44"])


@pytest.mark.parametrize("name", EVERYWHERE)
def test_relevance_is_differentiable_in_weights_and_inputs(name: str) -> None:
    torch.manual_seed(4)
    model = nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(3, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)),
    )
    model = _lively(model).double()
    inputs = torch.randn(2, 1, 8, 8).double().requires_grad_()
    weight = model[0].weight

    def value() -> Tensor:
        return xc.relevance(model, inputs, 1, name, create_graph=True, **NUMBERS).values.square().sum()

    def slope(tensor: Tensor, place: tuple[int, ...]) -> float:
        ends = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                tensor[place] += step
            ends.append(float(value().detach()))
            with torch.no_grad():
                tensor[place] -= step
        return (ends[0] - ends[1]) / 2e-6

    made = torch.autograd.grad(value(), [weight, inputs], allow_unused=True)
    for tensor, gradient, place in ((weight, made[0], (1, 0, 2, 1)), (inputs, made[1], (0, 0, 3, 4))):
        found = 0.0 if gradient is None else float(gradient[place])
        assert abs(found - slope(tensor, place)) <= 1e-4 * max(1.0, abs(found))


@pytest.mark.parametrize("net", [mlp, cnn])
def test_the_model_comes_back_untouched_and_a_training_model_is_explained_in_evaluation(net: Callable) -> None:
    model = net().train()
    inputs = net_and_inputs(net.__name__)[1]
    expected = xc.relevance(net_like(model).eval(), inputs, 0).values
    made = xc.relevance(model, inputs, 0).values
    assert torch.allclose(made, expected)
    assert model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def net_like(model: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(model)


class Odd(nn.Module):
    """A step that no rule knows."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x).abs()


def test_what_has_no_rule_is_named() -> None:
    with pytest.raises(xc.UnsupportedModelError, match=r"no rule for aten\._fft.*integrated_gradients"):
        xc.relevance(nn.Sequential(nn.Linear(4, 8), Odd(), nn.Linear(8, 2)), torch.randn(2, 4))


def test_weights_that_change_are_followed() -> None:
    model, inputs = mlp(), torch.randn(2, 12)
    before = xc.relevance(model, inputs, 0).values
    with torch.no_grad():
        model[0].weight.mul_(-1)
    after = xc.relevance(model, inputs, 0).values
    assert not torch.allclose(before, after)
    model[1] = nn.Identity()
    assert not torch.allclose(xc.relevance(model, inputs, 0).values, after)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"convolution": "pass"}, "rule 'pass' for 0, a convolution layer"),
        ({"dense": "z-box"}, "rule 'z-box' for 9, which reads no pixels"),
    ],
)
def test_a_rule_that_does_not_fit_its_layer_is_refused(given: dict, words: str) -> None:
    with pytest.raises(xc.SettingError, match=words):
        xc.relevance(*net_and_inputs("cnn"), composite=given)


def test_bfloat16_gives_what_single_precision_gives_roughly() -> None:
    model, inputs = net_and_inputs("cnn")
    expected = xc.relevance(model, inputs, 1).values
    made = xc.relevance(model.bfloat16(), inputs.bfloat16(), 1).values.float()
    model.float()
    assert torch.nn.functional.cosine_similarity(made.flatten(), expected.flatten(), 0) > 0.98


def test_the_top_is_what_the_model_says() -> None:
    """Layers by name hold what a hand-made sweep of a small chain holds."""
    model, inputs = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double(), torch.randn(5, 3).double()
    made = xc.relevance(model, inputs, 1, "epsilon", epsilon=0.1)
    hidden = model[:2](inputs)
    z = model(inputs)[:, 1]
    expected = hidden * model[2].weight[1] * (z / (z + torch.where(z < 0, -0.1, 0.1)))[:, None]
    torch.testing.assert_close(made.layers["1"], expected)
    torch.testing.assert_close(made.layers["2"][:, 1], z)


class Written(nn.Module):
    """A small network whose middle is a function of two convolutions and a parameter."""

    def __init__(self, middle: Callable) -> None:
        super().__init__()
        self.c, self.d = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 6, 3, padding=1)
        self.w, self.l = nn.Parameter(torch.randn(6, 6)), nn.Linear(6, 5)
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        return self.l(self.middle(self, x))


KEPT = {
    "difference": lambda s, x: (F.relu(s.c(x)) - F.relu(s.d(x))).mean((2, 3)),
    "scaled sum": lambda s, x: torch.add(F.relu(s.c(x)), s.d(x), alpha=3).mean((2, 3)),
    "padded": lambda s, x: F.relu(s.c(F.pad(x, (1, 1, 1, 1), value=1.5))).mean((2, 3)),
    "token": lambda s, x: torch.cat([s.w[:, :1].expand(len(x), 6, 1), F.relu(s.c(x)).flatten(2)], 2).mean(2),
    "twice": lambda s, x: (2 * F.relu(s.c(x)) / 3).mean((2, 3)),
    "from one": lambda s, x: (1 - s.c(x)).mean((2, 3)),
    "gate": lambda s, x: (s.c(x) * torch.sigmoid(s.d(x).mean((2, 3)))[:, :, None, None]).mean((2, 3)),
}


def written(middle: Callable) -> nn.Module:
    torch.manual_seed(7)
    return Written(middle).double()


@pytest.mark.parametrize("name", ["epsilon", "epsilon-plus"])
@pytest.mark.parametrize("kind", [kind for kind in KEPT if kind != "token"])
def test_what_constants_take_is_absorbed_not_missing(kind: str, name: str) -> None:
    made = xc.relevance(written(KEPT[kind]), torch.randn(3, 3, 8, 8).double(), 1, name)
    assert (made.residual.abs() <= 1e-9 * made.start.abs() + 1e-9).all()


@pytest.mark.parametrize("kind", ["difference", "scaled sum"])
def test_zero_is_input_times_gradient_on_differences_too(kind: str) -> None:
    model, inputs = written(KEPT[kind]), torch.randn(3, 3, 8, 8).double()
    made = xc.relevance(model, inputs, 1, "zero").values
    expected = xc.attribute(model, inputs, 1, "input_x_gradient").values
    torch.testing.assert_close(made, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize(
    "middle",
    [
        lambda s, x: F.relu(s.c(x)).mean((2, 3)) @ s.w,
        lambda s, x: torch.einsum("nc,ck->nk", s.c(x).mean((2, 3)), s.w),
    ],
)
def test_products_with_a_parameter_are_layers(middle: Callable) -> None:
    model, inputs = written(middle), torch.randn(2, 3, 8, 8).double()
    made = xc.relevance(model, inputs, 1, "zero")
    expected = xc.attribute(model, inputs, 1, "input_x_gradient").values
    torch.testing.assert_close(made.values, expected, rtol=1e-2, atol=1e-5 * float(expected.abs().max()))
    assert (made.residual.abs() <= 1e-9 * made.start.abs() + 1e-9).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"composite": None}, "composite=None"),
        ({"composite": {"named": "flat"}}, "named='flat'"),
        ({"composite": {"dense": None}}, "rule None"),
        ({"composite": {"dense": {"epsilon": 1}}}, "under 'rule'"),
        ({"composite": "alpha-beta", "alpha": 2.0, "beta": 2.0}, "alpha - beta = 1"),
        ({"composite": "z-box", "low": 0.4, "high": 0.6}, "inputs reach beyond low=0.4"),
        ({"start": ["score"]}, "start="),
        ({"target": torch.zeros(3, 0, dtype=torch.long)}, r"target has shape \(3, 0\)"),
        ({"layers": "44"}, "layer '44'"),
    ],
)
def test_careless_settings_are_told(settings: dict, words: str) -> None:
    with pytest.raises(xc.XaiCompareError, match=words):
        xc.relevance(*net_and_inputs("cnn"), **settings)


def test_inputs_that_do_not_fit_are_told() -> None:
    for call in (xc.relevance, xc.doctor):
        with pytest.raises(xc.InputError, match=r"Sequential fails on inputs \(2, 1, 16, 16\)"):
            call(cnn(), torch.randn(2, 1, 16, 16))


def test_a_rectified_view_leaves_what_others_see() -> None:
    """The sweep's own forward pass gives the model's outputs where a ReLU follows a view of what others read."""
    model = written(lambda s, x: (F.relu(s.c(x).flatten(2)) + s.d(x).flatten(2)).mean(2)).double()
    shared = written(lambda s, x: (lambda h: (F.relu(h.flatten(2)) - 2 * h.flatten(2)).mean(2))(s.c(x)))
    inputs = torch.randn(3, 3, 8, 8).double()
    for each in (model, shared):
        torch.testing.assert_close(xc.relevance(each, inputs, 1, "epsilon").logits, each(inputs).detach())
