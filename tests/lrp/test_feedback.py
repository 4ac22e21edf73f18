"""Feedback propagation, against a slow float64 oracle, the paper's first theorem, and closed forms."""

import copy

import nets
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

import xaicompare as xc
from xaicompare.errors import XaiCompareError

LOSSES = {
    "cross-entropy": cross_entropy,
    "squares": lambda outputs, labels: (outputs - one_hot(labels, outputs.shape[1])).square().sum(),
}


def updates(
    model: nn.Module, called: nn.Module, inputs: Tensor, labels: Tensor, loss: str = "cross-entropy"
) -> list[Tensor]:
    """What an optimizer would follow downhill, turned round."""
    model.zero_grad()
    LOSSES[loss](called(inputs), labels).backward()
    return [-parameter.grad.clone() for parameter in model.parameters()]


def double(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    model, inputs = nets.net_and_inputs(name)
    return copy.deepcopy(model).double(), inputs.double(), torch.arange(len(inputs)) % 3


@pytest.mark.parametrize(
    ("name", "loss"), [("mlp", "squares"), *((name, "cross-entropy") for name in ("cnn", "mlp", "resnet18"))]
)
def test_theorem_1(name: str, loss: str) -> None:
    """With ReLU, LFP-0 is gradient descent scaled by |w|: also through pooling, branches, and BatchNorm's averages.

    Means and sums of branches are stabilised by 1e-6, hence the tolerance where there are some.
    """
    model, inputs, labels = double(name)
    plain = updates(model, model, inputs, labels, loss)
    found = updates(model, xc.FeedbackPropagation(model, "zero"), inputs, labels, loss)
    for made, gradient, parameter in zip(found, plain, model.parameters(), strict=True):
        wanted = gradient * parameter.detach().abs()
        tolerance = 1e-12 if name == "mlp" else 1e-3
        assert (made - wanted).norm() <= tolerance * wanted.norm()
        assert wanted.norm() > 0


def test_theorem_1_is_about_relu() -> None:
    """With tanh it does not hold: no derivative is taken."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    inputs, labels = torch.randn(4, 6).double(), torch.tensor([0, 1, 2, 0])
    plain = updates(model, model, inputs, labels)
    found = updates(model, xc.FeedbackPropagation(model, "zero"), inputs, labels)
    weights = [parameter.detach().abs() for parameter in model.parameters()]
    torch.testing.assert_close(found[2], plain[2] * weights[2])
    assert not torch.allclose(found[0], plain[0] * weights[0], rtol=0.01)


def slow(layers: list[nn.Module], inputs: Tensor, rewards: Tensor, epsilon: float) -> dict[int, tuple[Tensor, Tensor]]:
    """Sums over samples of R_w sign(w) = sign(w) a_j w_jk / z_k R_k, of weights (k, j) and biases (k,), by layer."""
    made: dict[int, tuple[Tensor, Tensor]] = {}
    for sample, reward in zip(inputs, rewards, strict=True):
        values = [sample]
        for layer in layers:
            values.append(layer(values[-1][None])[0].detach())
        relevance = reward
        for place in range(len(layers) - 1, -1, -1):
            layer, a, z = layers[place], values[place], values[place + 1]
            if not isinstance(layer, nn.Linear):
                continue  # activations hand relevance on as it is
            size = z + torch.where(z < 0, -1.0, 1.0).to(z) * epsilon
            shares = a[None, :] * layer.weight.detach() * (relevance / size)[:, None]  # (k, j), R_w
            bias = layer.bias.detach() * relevance / size
            known = made.get(place, (torch.zeros_like(shares), torch.zeros_like(bias)))
            made[place] = known[0] + layer.weight.sign() * shares, known[1] + layer.bias.sign() * bias
            relevance = shares.sum(0)
    return made


REWARDS = {
    "loss": lambda z, y: z * (one_hot(y, z.shape[1]) - z.softmax(1)) / len(z),
    "sign": lambda z, y: z.sign() * (one_hot(y, z.shape[1]) - z.softmax(1)) / len(z),
}


@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 0.3])
@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.SiLU])
def test_as_the_formula(activation: type[nn.Module], reward: str, epsilon: float) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 7), activation(), nn.Linear(7, 3)).double()
    inputs, labels = torch.randn(5, 6).double(), torch.tensor([0, 1, 2, 0, 1])
    rule = "zero" if epsilon == 0 else {"rule": "epsilon", "epsilon": epsilon}
    found = updates(model, xc.FeedbackPropagation(model, rule, reward, gain=3.0), inputs, labels)  # type: ignore[arg-type]
    expected = slow(list(model), inputs, 3 * REWARDS[reward](model(inputs).detach(), labels), epsilon)
    wanted = [tensor for place in sorted(expected) for tensor in expected[place]]
    for made, each in zip(found, wanted, strict=True):
        torch.testing.assert_close(made, each, rtol=1e-9, atol=1e-12)
        assert each.abs().max() > 0


def test_one_neuron_by_hand() -> None:
    """z = 2 * 3 - 1 * 4 + 1 = 3, rewarded by 6: R_w is 2 * 3 * 6 / 3 = 12 and -8, and 2 for the bias."""
    model = nn.Sequential(nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[2.0, -1.0]]))
        model[0].bias.fill_(1.0)
    feedback = xc.FeedbackPropagation(model, "zero")
    (-2 * feedback(torch.tensor([[3.0, 4.0]])).sum()).backward()  # the reward is z times 2
    assert (-model[0].weight.grad).tolist() == [[12.0, 8.0]]  # up for both: what speaks against z shrinks
    assert (-model[0].bias.grad).tolist() == [2.0]


def test_relevance_of_weights_adds_up_to_that_of_the_neurons() -> None:
    """Without biases, in every layer the weights' relevance sums to the reward."""
    model = nets.mlp(bias=False).double()
    inputs, labels = torch.randn(4, 12).double(), torch.arange(4)
    outputs = model(inputs).detach()
    found = updates(model, xc.FeedbackPropagation(model, "zero"), inputs, labels)
    reward = REWARDS["loss"](outputs, labels).sum()
    for made, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close((made * parameter.detach().sign()).sum(), reward)


def test_batchnorm_in_training_mode_is_a_constant_map_of_the_batch() -> None:
    """As its scale and shift at that batch's statistics in evaluation mode would have it; alone, too."""
    torch.manual_seed(2)
    for first in ([nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)], [nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3)]):
        model = nn.Sequential(*first, nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).double()
        inputs, labels = torch.randn(6, 2, 6, 6).double(), torch.arange(6) % 3
        found = updates(model.train(), xc.FeedbackPropagation(model, "zero"), inputs, labels)
        frozen = copy.deepcopy(model).eval()
        place = next(i for i, layer in enumerate(frozen) if isinstance(layer, nn.BatchNorm2d))
        read = frozen[:place](inputs).detach()
        frozen[place].running_mean, frozen[place].running_var = read.mean((0, 2, 3)), read.var((0, 2, 3), correction=0)
        wanted = updates(frozen, frozen, inputs, labels)
        for made, gradient, parameter in zip(found, wanted, frozen.parameters(), strict=True):
            torch.testing.assert_close(made, gradient * parameter.detach().abs(), rtol=1e-7, atol=1e-9)


def test_other_layers() -> None:
    """Padding by reflection, groups, transposed convolutions, and one layer at two places."""
    torch.manual_seed(3)
    shared = nn.Linear(4, 4)
    nets_and_inputs = [
        (nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect", groups=2), torch.randn(3, 2, 5, 5)),
        (nn.ConvTranspose2d(2, 4, 3, stride=2), torch.randn(3, 2, 5, 5)),
        (nn.Sequential(nn.Linear(2, 4), nn.ReLU(), shared, nn.ReLU(), shared), torch.randn(3, 2)),
    ]
    for lower, inputs in nets_and_inputs:
        size = lower(inputs)[0].numel()
        model = nn.Sequential(lower, nn.ReLU(), nn.Flatten(), nn.Linear(size, 3)).double()
        labels = torch.arange(3)
        plain = updates(model, model, inputs.double(), labels)
        found = updates(model, xc.FeedbackPropagation(model, "zero"), inputs.double(), labels)
        for made, gradient, parameter in zip(found, plain, model.parameters(), strict=True):
            torch.testing.assert_close(made, gradient * parameter.detach().abs(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_it_is_the_model(name: str) -> None:
    """Outputs, random draws and statistics; without gradients, too; a frozen layer stays as it is."""
    known, inputs = nets.net_and_inputs(name)
    made = []
    for wrapped in (False, True):
        model = copy.deepcopy(known).train()
        called = xc.FeedbackPropagation(model) if wrapped else model
        torch.manual_seed(3)
        outputs = [called(inputs).detach() for _ in range(2)]
        with torch.no_grad():
            outputs.append(called(inputs))
        made.append([*outputs, torch.rand(1), *model.buffers()])
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))
    next(model.parameters()).requires_grad_(False)
    called(inputs).sum().backward()
    assert [parameter.grad is None for parameter in model.parameters()][:2] == [True, False]


def test_mistakes() -> None:
    model = nets.mlp()
    inputs = torch.randn(2, 12)
    for settings, told in (
        ({"rule": "gamma"}, "rule='gamma'; expected 'zero' or 'epsilon'"),
        ({"reward": "lots"}, "reward='lots'; expected"),
        ({"gain": 0}, "gain=0; expected"),
    ):
        with pytest.raises(xc.SettingError, match=told):
            xc.FeedbackPropagation(model, **settings)
    with pytest.raises(xc.InputError, match="hold NaN"):
        xc.FeedbackPropagation(model)(inputs * torch.nan)
    outputs = xc.FeedbackPropagation(model)(inputs)
    outputs.sum().backward(retain_graph=True)
    with pytest.raises(XaiCompareError, match="a second backward through one batch"):
        outputs.sum().backward()
    with pytest.raises(xc.UnsupportedModelError, match="wrapped in DataParallel"):
        xc.FeedbackPropagation(nn.DataParallel(model))
