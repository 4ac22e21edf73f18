"""Every rule on every kind of layer against the formula with explicit sums, in float64."""

from collections.abc import Callable

import oracles
import pytest
import torch
from torch import Tensor, nn

from xaicompare.lrp import Rule, rule_from
from xaicompare.lrp.affine import affine_of, merged, outer_padding
from xaicompare.lrp.rules import Situation

LAYERS: dict[str, tuple[Callable[[bool], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda bias: nn.Linear(6, 4, bias), (6,)),
    "conv1d": (lambda bias: nn.Conv1d(2, 3, 3, stride=2, padding=1, bias=bias), (2, 7)),
    "conv2d": (lambda bias: nn.Conv2d(2, 3, 3, padding=1, bias=bias), (2, 5, 5)),
    "strided": (lambda bias: nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0), bias=bias), (2, 6, 5)),
    "dilated": (lambda bias: nn.Conv2d(2, 3, 2, dilation=2, bias=bias), (2, 5, 5)),
    "grouped": (lambda bias: nn.Conv2d(4, 6, 3, groups=2, bias=bias), (4, 4, 4)),
    "depthwise": (lambda bias: nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=bias), (3, 4, 4)),
    "conv3d": (lambda bias: nn.Conv3d(1, 2, 2, bias=bias), (1, 3, 3, 3)),
    "transposed": (
        lambda bias: nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, output_padding=1, groups=2, bias=bias),
        (2, 3, 3),
    ),
}
RULES: dict[str, tuple[Rule, oracles.Rule]] = {
    "zero": (rule_from("zero"), oracles.zero),
    "epsilon": (rule_from({"rule": "epsilon", "epsilon": 0.05}), oracles.epsilon(0.05)),
    "epsilon of std": (
        rule_from({"rule": "epsilon", "epsilon": 0.1, "of": "std"}),
        oracles.epsilon_of(0.1, torch.std),
    ),
    "gamma": (rule_from({"rule": "gamma", "gamma": 0.3}), oracles.gamma(0.3)),
    "alpha-beta": (rule_from({"rule": "alpha-beta", "alpha": 3, "beta": 2}), oracles.alpha_beta(3, 2)),
    "z-plus": (rule_from("z-plus"), oracles.z_plus),
    "w-square": (rule_from("w-square"), oracles.w_square),
    "flat": (rule_from("flat"), oracles.flat),
    "z-box": (
        rule_from({"rule": "z-box", "low": -6.0, "high": 6.5}),
        lambda a, w, b, r: oracles.z_box(torch.full_like(a, -6.0), torch.full_like(a, 6.5))(a, w, b, r),
    ),
}


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest, bias: bool) -> tuple[nn.Module, Tensor]:
    make, shape = LAYERS[request.param]
    return make(bias).double(), torch.randn(3, *shape).double()


def situation(module: nn.Module, inputs: Tensor, **known: bool) -> Situation:
    affine = affine_of(module)
    assert affine is not None
    z = module(inputs).detach()
    return Situation(affine, inputs, z, torch.randn_like(z), **({"nonnegative": False, "positive": False} | known))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rule", RULES)
@torch.no_grad()
def test_rules_are_the_oracles_on_every_layer(layer: tuple[nn.Module, Tensor], rule: str) -> None:
    module, inputs = layer
    at = situation(module, inputs)
    made = RULES[rule][0](at)
    for number, a in enumerate(inputs):
        expected = RULES[rule][1](a.flatten(), *oracles.dense(module, a.shape), at.relevance[number].flatten())
        torch.testing.assert_close(made.relevance[number].flatten(), expected, rtol=1e-8, atol=1e-10)
    sums = made.relevance.flatten(1).sum(1) + made.lost
    torch.testing.assert_close(sums, at.relevance.flatten(1).sum(1), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rule", RULES)
@torch.no_grad()
def test_what_is_known_of_signs_saves_work_and_changes_nothing(layer: tuple[nn.Module, Tensor], rule: str) -> None:
    module, inputs = layer
    at = situation(module, inputs.abs())
    expected = RULES[rule][0](at)
    torch.testing.assert_close(RULES[rule][0](situation_like(at, nonnegative=True)), expected)
    seen = situation_like(at, relevance=at.relevance * (at.z > 0))
    expected = RULES[rule][0](seen)
    if not RULES[rule][0].reads_negative:
        known = situation_like(seen, z=at.z.clamp(min=0), nonnegative=True, positive=True)
        torch.testing.assert_close(RULES[rule][0](known), expected)


def situation_like(at: Situation, **changed: object) -> Situation:
    return Situation(**(vars(at) | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", RULES)
@torch.no_grad()
def test_blank_inputs_and_dead_neurons_give_finite_relevance(rule: str) -> None:
    module = nn.Conv2d(2, 3, 3, bias=False)
    module.weight[0] = 0
    for inputs in (torch.zeros(2, 2, 5, 5), torch.full((2, 2, 5, 5), 1e-38), torch.randn(2, 2, 5, 5)):
        made = RULES[rule][0](situation(module, inputs))
        assert made.relevance.isfinite().all()
        assert made.lost.isfinite().all()


def test_classic_gamma_is_its_formula() -> None:
    module, inputs = nn.Linear(6, 4).double(), torch.randn(3, 6).double()
    at = situation(module, inputs)
    made = rule_from({"rule": "gamma", "gamma": 0.4, "generalised": False})(at).relevance
    weight = module.weight + 0.4 * module.weight.clamp(min=0)
    parts = inputs[:, None] * weight  # (n, k, j)
    z = parts.sum(2) + module.bias + 0.4 * module.bias.clamp(min=0)
    torch.testing.assert_close(made, (parts / z[..., None] * at.relevance[..., None]).sum(1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "made",
    [
        lambda: (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)),
        lambda: (nn.ConvTranspose2d(2, 4, 3, groups=2), nn.BatchNorm2d(4)),
        lambda: (nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4, affine=False)),
    ],
)
def test_merged_batchnorm_computes_the_same(made: Callable[[], tuple[nn.Module, nn.Module]]) -> None:
    layer, norm = made()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    norm.eval()
    inputs = torch.randn(3, 6) if isinstance(layer, nn.Linear) else torch.randn(3, 2, 5, 5)
    affine = affine_of(layer)
    assert affine is not None
    whole = merged(affine, norm)
    torch.testing.assert_close(whole.up(inputs, whole.weight, whole.bias), norm(layer(inputs)), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(
    "settings", [{"padding": "same"}, {"padding": "valid"}, {"padding": 1, "padding_mode": "reflect"}]
)
def test_padding_other_than_numbers_of_zeros(settings: dict) -> None:
    module, inputs = nn.Conv2d(2, 3, (2, 3), **settings), torch.randn(2, 2, 5, 5)
    padding, affine = outer_padding(module), affine_of(module)
    assert padding is not None
    assert affine is not None
    padded = nn.functional.pad(inputs, *padding)
    torch.testing.assert_close(affine.up(padded, module.weight, module.bias), module(inputs))
