"""Pruning: what is cut, by which importance, and what the smaller network computes."""

from itertools import pairwise
from typing import Any, get_args

import pytest
import torch
from nets import resnet18, thin_vgg16, vgg11_bn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torchvision import models as torchvision_models

import xaicompare as xc
from xaicompare.errors import InputError, SettingError, UnknownNameError, UnsupportedModelError
from xaicompare.study.experiment import Cell, Experiment
from xaicompare.study.train import trained_cell
from xaicompare.training.pruning import Criterion, Pruned


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mlp(*widths: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        steps: list[nn.Module] = []
        for below, above in pairwise(widths):
            steps += [nn.Linear(below, above), nn.ReLU()]
        return nn.Sequential(*steps[:-1]).double()


def convolutions() -> nn.Sequential:
    """BatchNorm that does something, and a flattened 2 x 2 map before the linear layers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        norm = nn.BatchNorm2d(6)
        norm.running_mean.normal_(0, 0.2), norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5), nn.init.normal_(norm.bias)
        steps = [nn.Conv2d(3, 6, 3, padding=1), norm, nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        steps += [nn.Conv2d(6, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout()]
        return nn.Sequential(*steps, nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 5)).double().eval()


IMAGES = torch.randn(7, 3, 8, 8, dtype=torch.float64, generator=seeded(1))
CLASSES = torch.tensor([0, 1, 2, 3, 4, 0, 1])
VALUES, KINDS = torch.randn(9, 5, dtype=torch.float64, generator=seeded(2)), torch.arange(9) % 3


def least(importance: Tensor, count: int) -> list[int]:
    return importance.argsort()[:count].tolist()


def without(layer: nn.Module, units: list[int]) -> Tensor:
    """The rows of a layer's weight that stay."""
    return layer.weight.detach()[[unit for unit in range(len(layer.weight)) if unit not in units]]


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_an_mlp_computes_as_with_outgoing_weights_of_zero() -> None:
    model = mlp(5, 8, 6, 3)
    smaller = xc.prune(model, (VALUES, KINDS), 0.5, "magnitude")
    assert [layer.weight.shape for layer in smaller if isinstance(layer, nn.Linear)] == [(4, 5), (3, 4), (3, 3)]
    with torch.no_grad():
        gone = {place: least(model[place].weight.abs().sum(1), len(model[place].weight) // 2) for place in (0, 2)}
        for place, units in gone.items():
            model[place + 2].weight[:, units] = 0
    assert torch.allclose(smaller(VALUES), model(VALUES), rtol=0, atol=1e-12)


def test_a_cnn_computes_as_with_outgoing_weights_of_zero() -> None:
    """Where a map is flattened, all its positions go."""
    model = convolutions()
    smaller = xc.prune(model, (IMAGES, CLASSES), 0.5, "magnitude")
    assert (smaller[1].num_features, smaller[4].out_channels, smaller[9].in_features) == (3, 2, 8)
    with torch.no_grad():
        magnitudes = [model[place].weight.abs().flatten(1).sum(1) for place in (0, 4, 9)]
        gone = [least(magnitude, len(magnitude) // 2) for magnitude in magnitudes]
        model[4].weight[:, gone[0]] = 0
        model[9].weight.unflatten(1, (4, 4))[:, gone[1]] = 0  # (neurons, channels, positions)
        model[11].weight[:, gone[2]] = 0
    assert torch.allclose(smaller(IMAGES), model(IMAGES), rtol=0, atol=1e-12)


def test_no_share_is_the_model_bit_for_bit() -> None:
    model = resnet18().train()
    inputs = torch.randn(2, 3, 32, 32, generator=seeded())
    for share in (0, 0.0005):  # of 512 filters, 0.0005 are none
        same = xc.prune(model, (inputs, [0, 1]), share)
        assert same is not model
        assert same.training
        assert torch.equal(same.eval()(inputs), model.eval()(inputs))
        model.train()


def test_the_model_is_not_touched() -> None:
    model = convolutions().train()
    model[0].weight.requires_grad_(False)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    identities = [id(parameter) for parameter in model.parameters()]
    before = torch.get_rng_state()
    for criterion in ("lrp", "gradient", "magnitude", "random"):
        smaller = xc.prune(model, (IMAGES, CLASSES), 0.5, criterion)
        assert smaller.training
        assert [parameter.requires_grad for parameter in smaller.parameters()] == [False] + [True] * 9
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())
    assert identities == [id(parameter) for parameter in model.parameters()]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(before, torch.get_rng_state())


def test_relevance_is_that_of_the_formula() -> None:
    """Z+ in a network with one hidden layer: R_j = sum over samples of a_j w_jk+ / sum_j a_j w_jk+."""
    model = mlp(5, 10, 3)
    hidden = model[0](VALUES).clamp(min=0)
    relevance = torch.zeros(10, dtype=torch.float64)
    for a, k in zip(hidden, KINDS.tolist(), strict=True):
        contributions = a * model[2].weight[k].clamp(min=0)
        relevance += contributions.detach() / contributions.sum().detach().clamp(min=1e-12)
    smaller = xc.prune(model, (VALUES, KINDS), 0.4)
    assert torch.equal(smaller[0].weight.detach(), without(model[0], least(relevance, 4)))


@pytest.mark.parametrize("composite", ["z-plus", {"convolution": "z-plus", "dense": "epsilon"}])
def test_relevance_is_summed_over_positions_and_samples(composite: Any) -> None:
    model = convolutions()
    found = xc.relevance(model, IMAGES, CLASSES, composite, start="one").layers
    expected = {0: found["0"].sum((0, 2, 3)), 4: found["4"].sum((0, 2, 3)), 9: found["9"].sum(0)}
    loader = DataLoader(TensorDataset(IMAGES, CLASSES), batch_size=3)
    for data in ((IMAGES, CLASSES), loader, [(IMAGES[:1], CLASSES[:1]), (IMAGES[1:], CLASSES[1:].tolist())]):
        smaller = xc.prune(model, data, 0.5, composite=composite)
        kept = model[0].weight[sorted(expected[0].argsort()[3:].tolist())]
        assert torch.equal(smaller[0].weight, kept)
        for place, layer in ((4, model[4]), (9, model[9])):
            units = least(expected[place], len(layer.weight) // 2)
            biases = [float(bias) for unit, bias in enumerate(layer.bias.detach()) if unit not in units]
            assert smaller[place].bias.tolist() == biases


def test_the_gradient_criterion_is_how_the_loss_moves_when_a_unit_is_scaled() -> None:
    model = convolutions()
    step, importance = 1e-5, torch.zeros(6, dtype=torch.float64)
    for unit in range(6):
        losses = []
        for scale in (1 - step, 1 + step):
            factors = torch.ones(6, 1, 1, dtype=torch.float64).index_fill(0, torch.tensor(unit), scale)
            logits = model[1:](model[0](IMAGES) * factors)
            losses.append(cross_entropy(logits, CLASSES, reduction="none").detach())
        importance[unit] = ((losses[1] - losses[0]) / (2 * step)).abs().sum()
    smaller = xc.prune(model, (IMAGES, CLASSES), 0.5, "gradient")
    assert torch.equal(smaller[0].weight.detach(), without(model[0], least(importance, 3)))


@pytest.mark.parametrize("criterion", ["lrp", "gradient"])
def test_without_gradients_around_it_the_same_is_cut(criterion: Any) -> None:
    expected = xc.prune(convolutions(), (IMAGES, CLASSES), 0.5, criterion)(IMAGES).detach()
    for surrounding in (torch.no_grad(), torch.inference_mode()):
        model = convolutions()
        with surrounding:
            smaller = xc.prune(model, (IMAGES.clone(), CLASSES.clone()), 0.5, criterion)
        assert torch.equal(smaller(IMAGES), expected)
        smaller(IMAGES).sum().backward()


def test_random_units_follow_the_seed() -> None:
    weights = [xc.prune(mlp(5, 40, 3), (VALUES, KINDS), 0.5, "random", seed=seed)[0].weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_among_all_units_the_least_relevant_go_wherever_they_are() -> None:
    model = mlp(5, 8, 6, 3)
    found = xc.relevance(model, VALUES, KINDS, "z-plus", start="one").layers
    everywhere = torch.cat([found["0"].sum(0), found["2"].sum(0)])
    gone = set(least(everywhere, 7))
    smaller = xc.prune(model, (VALUES, KINDS), 0.5, scope="model")
    assert torch.equal(smaller[0].weight.detach(), without(model[0], [unit for unit in gone if unit < 8]))
    assert torch.equal(smaller[2].bias.detach(), model[2].bias.detach()[[u for u in range(6) if 8 + u not in gone]])


@pytest.mark.parametrize("scope", ["layer", "model"])
def test_every_layer_keeps_a_unit_and_the_outputs_all(scope: Any) -> None:
    smaller = xc.prune(mlp(5, 8, 6, 3), (VALUES, KINDS), 0.99, scope=scope)
    assert [layer.weight.shape for layer in smaller if isinstance(layer, nn.Linear)] == [(1, 5), (1, 1), (3, 1)]


def small_densenet() -> nn.Module:
    return torchvision_models.DenseNet(growth_rate=8, block_config=(2, 3), num_init_features=16, num_classes=5)


NETWORKS = {
    "resnet18": resnet18,
    "vgg11_bn": vgg11_bn,
    "densenet": small_densenet,
    "squeezenet1_1": lambda: torchvision_models.squeezenet1_1(num_classes=5),
    "mobilenet_v2": lambda: torchvision_models.mobilenet_v2(num_classes=5, width_mult=0.5),
    "mobilenet_v3_small": lambda: torchvision_models.mobilenet_v3_small(num_classes=5, width_mult=0.5),
    "googlenet": lambda: torchvision_models.googlenet(num_classes=5, aux_logits=False, init_weights=False),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_units_that_do_nothing_go_and_nothing_changes(name: str) -> None:
    """A quarter of every layer's filters is set to 0, and BatchNorm keeps 0 at 0: outputs stay what they are."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = NETWORKS[name]().eval()
    inputs = torch.randn(2, 3, 64, 64, generator=seeded())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_(), nn.init.zeros_(module.bias)
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, generator=seeded(len(module.weight)))
            if len(module.weight) != 5:
                with torch.no_grad():
                    for parameter in module.parameters():
                        parameter[: round(0.25 * len(parameter))] = 0
    smaller = xc.prune(model, (inputs, [0, 1]), 0.25, "magnitude")
    expected = model(inputs).detach()
    assert expected.std() > 0
    assert torch.allclose(smaller(inputs), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert 0.5 < size(smaller) / size(model) < 0.62


@pytest.mark.parametrize("criterion", ["lrp", "gradient"])
@pytest.mark.parametrize("name", ["resnet18", "densenet", "mobilenet_v2"])
def test_pruned_networks_train_on(name: str, criterion: Any) -> None:
    inputs, target = torch.randn(2, 3, 32, 32, generator=seeded()), torch.tensor([0, 1])
    smaller = xc.prune(NETWORKS[name](), (inputs, target), 0.5, criterion).train()
    assert size(smaller) < 0.3 * size(NETWORKS[name]())
    cross_entropy(smaller(inputs), target).backward()
    assert all(parameter.grad is not None for parameter in smaller.parameters())


@pytest.mark.parametrize("groups", [2, 8])
def test_grouped_convolutions_lose_the_same_places_of_each_group(groups: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        steps = [nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 1, groups=groups), nn.ReLU(), nn.Conv2d(16, 5, 1)]
        model = nn.Sequential(*steps, nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    dead = torch.arange(16).unflatten(0, (groups, -1))[:, -(16 // groups // 2) :].flatten()
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight[dead], layer.bias[dead] = 0.0, 0.0
    smaller = xc.prune(model, (IMAGES, CLASSES), 0.5, "magnitude")
    assert (smaller[2].groups, smaller[2].weight.shape) == (groups, (8, 8 // groups, 1, 1))
    assert torch.allclose(smaller(IMAGES), model(IMAGES), rtol=0, atol=1e-12)


def test_half_of_a_vgg16() -> None:
    """Half of its filters: a quarter of the weights and of the multiplications."""
    model = thin_vgg16(width=8)
    smaller = xc.prune(model, (torch.rand(4, 3, 32, 32, generator=seeded()), torch.arange(4)))
    widths = [layer.out_channels for layer in smaller.features if isinstance(layer, nn.Conv2d)]
    assert widths == [4] * 13
    assert [layer.out_features for layer in smaller.classifier if isinstance(layer, nn.Linear)] == [3, 3, 4]
    assert size(smaller.features) < 0.27 * size(model.features)


class Constants(nn.Module):
    """Knows a width that nothing told it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(3, 4, 1), nn.Linear(4 * 64, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(self.convolution(inputs).view(-1, 4 * 64))


class Flipped(Constants):
    """Turns the order of its channels round, which a graph of sizes can't see."""

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(self.convolution(inputs).flip(1).flatten(1))


class Twice(Constants):
    """Uses a layer twice."""

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(self.convolution(self.convolution(inputs)[:, :3]).flatten(1))


class Auxiliary(Constants):
    """Has an output that is there while training only."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(4 * 64, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        maps = self.convolution(inputs).flatten(1)
        return self.linear(maps) + self.second(maps) if self.training else self.linear(maps)


class Normed(Constants):
    """Normalises over its channels, so that those that stay change with those that go."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(self.norm(self.convolution(inputs)).flatten(1))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Constants, r"Constants can't be cut \(.*\); expected layers .* not x\.view"),
        (Flipped, "Flipped, cut, computes something else"),
        (Normed, "Normed, cut, computes something else"),
        (Twice, "runs its layer 'convolution' 2 times"),
        (Auxiliary, "runs its layer 'second' 0 times in evaluation mode; expected once"),
    ],
)
def test_models_that_can_not_be_cut(kind: type[nn.Module], told: str) -> None:
    for criterion in ("magnitude", "gradient") if kind in (Constants, Flipped, Normed) else get_args(Criterion):
        with pytest.raises(UnsupportedModelError, match=told):
            xc.prune(kind().double(), (IMAGES, CLASSES), 0.5, criterion)


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"share": 1.0}, SettingError, r"share is 1\.0; expected from 0 to below 1"),
        ({"share": -0.1}, SettingError, "expected from 0"),
        ({"criterion": "relevance"}, UnknownNameError, "unknown criterion 'relevance'"),
        ({"scope": "models"}, UnknownNameError, "did you mean 'model'"),
        ({"composite": "z-pls"}, UnknownNameError, "did you mean 'z-plus'"),
        ({"data": []}, InputError, "data hold no batch"),
        ({"data": [VALUES]}, InputError, r"data hold a Tensor; expected pairs \(inputs, classes\)"),
        ({"data": (VALUES, [3])}, InputError, r"target has shape \(1,\); expected \(9,\)"),
        ({"data": (VALUES, [7] * 9)}, InputError, "target holds 7; expected classes from 0 to 2"),
        ({"data": (VALUES, [7] * 9), "criterion": "gradient"}, InputError, "target holds 7"),
        ({"data": (VALUES[:, :3], KINDS)}, InputError, "expected inputs of the shape"),
        ({"data": (VALUES[:, :3], KINDS), "criterion": "random"}, InputError, "expected inputs of the shape"),
    ],
)
def test_mistakes(given: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        xc.prune(mlp(5, 8, 3), **({"data": (VALUES, KINDS)} | given))


def experiment(*arms: dict[str, Any], epochs: int = 3) -> Experiment:
    told = {"data": "digits", "model": {"name": "mlp", "hidden": [16]}, "shares": [0.3], "repeats": 1}
    recipe = {"epochs": epochs, "batch_size": 32}
    return Experiment.from_dict(told | {"recipe": recipe, "arms": ["plain", *arms]})


def test_the_arm_takes_as_many_steps_as_plain_training_and_ends_smaller() -> None:
    made = experiment(
        *({"name": "pruned", "label": criterion, "criterion": criterion} for criterion in ("lrp", "random")),
        {"name": "pruned", "label": "from the start", "first": 0, "fine_tune": 3, "criterion": "random"},
    )
    runs = {arm: trained_cell(made, Cell(0.3, 0, arm))[0] for arm in made.arms}
    assert {run.batches for run in runs.values()} == {runs["plain"].batches}
    assert runs["plain"].parameters == 1024 * 16 + 16 + 16 * 10 + 10
    assert runs["lrp"].parameters == runs["from the start"].parameters == 1024 * 8 + 8 + 8 * 10 + 10
    assert len({run.accuracy for run in runs.values()}) > 2
    assert trained_cell(made, Cell(0.3, 0, "lrp"))[0].accuracy == runs["lrp"].accuracy


def test_the_arm_wants_epochs_before_the_cut() -> None:
    made = experiment({"name": "pruned", "label": "pruned", "fine_tune": 3})
    with pytest.raises(SettingError, match="fine_tune=3 of 3 epochs in all; expected fewer"):
        trained_cell(made, Cell(0.3, 0, "pruned"))
    with pytest.raises(SettingError, match=r"share=1\.0; expected less than 1"):
        Pruned(share=1.0)
