"""A loss that counts explanations outside masks: against finite differences, and on a cue that misleads."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from xaicompare.errors import DataError, SettingError
from xaicompare.study.experiment import Cell, Experiment
from xaicompare.study.train import _course, trained_cell
from xaicompare.training.lesson import Batch
from xaicompare.training.right_reasons import RightReasons, outside
from xaicompare.zoo import load_dataset


def net(activation: type[nn.Module] = nn.Softplus) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(
            nn.Conv2d(1, 2, 3),
            activation(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2, 4),
            activation(),
            nn.Linear(4, 3),
        ),
    ).double()


def batch() -> tuple[Batch, Tensor]:
    draws = torch.Generator().manual_seed(1)
    inputs = torch.randn(4, 1, 5, 5, generator=draws, dtype=torch.float64)
    return Batch(inputs, torch.tensor([0, 1, 2, 0]), torch.arange(4)), torch.rand(9, 5, 5, generator=draws) < 0.3


def loss_of(arm: RightReasons, model: nn.Module) -> Tensor:
    given, mask = batch()
    lesson = arm.lesson(model, lambda places: mask[places])
    return lesson.loss(lesson.logits(given.inputs, given.labels), given)


def test_the_penalty_is_the_squared_gradient_outside_the_mask() -> None:
    """The gradient of the log-probabilities' sum by differences of inputs, pixel by pixel."""
    model, (given, mask) = net(), batch()
    expected, step = 0.0, 1e-5
    for sample, inside in zip(given.inputs, mask, strict=False):
        for row in range(5):
            for column in range(5):
                if not inside[row, column]:
                    shift = torch.zeros_like(sample)
                    shift[0, row, column] = step
                    sums = [model((sample + sign * shift)[None]).log_softmax(1).sum() for sign in (1, -1)]
                    expected += float((sums[0] - sums[1]).detach() / (2 * step)) ** 2 / 4
    made = loss_of(RightReasons(weight=0.7), model) - cross_entropy(model(given.inputs), given.labels)
    assert float(made.detach()) == pytest.approx(0.7 * expected, rel=1e-6)
    assert expected > 1e-4


@pytest.mark.parametrize("explanation", ["gradient", "epsilon", "gamma"])
def test_its_gradient_is_that_of_finite_differences(explanation: str) -> None:
    """With respect to every weight; ReLU has no kink near these inputs."""
    model = net(nn.Softplus if explanation == "gradient" else nn.ReLU)
    arm = RightReasons(weight=0.7, explanation=explanation)
    model.zero_grad()
    loss_of(arm, model).backward()
    step = 1e-6
    for parameter in model.parameters():
        flat, found = parameter.data.view(-1), torch.zeros(parameter.numel(), dtype=torch.float64)
        for place in range(len(flat)):
            sides = []
            for sign in (1, -1):
                flat[place] += sign * step
                sides.append(float(loss_of(arm, model).detach()))
                flat[place] -= sign * step
            found[place] = (sides[0] - sides[1]) / (2 * step)
        torch.testing.assert_close(parameter.grad.view(-1), found, rtol=1e-4, atol=1e-6)


def test_lrp_epsilon_on_relu_without_biases_is_input_times_gradient() -> None:
    """Of the label's output; so the penalty has a closed form."""
    model, (given, mask) = net(nn.ReLU), batch()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    inputs = given.inputs.clone().requires_grad_()
    score = model(inputs).gather(1, given.labels[:, None]).sum()
    product = (inputs * torch.autograd.grad(score, inputs)[0]).detach()
    made = loss_of(RightReasons(weight=2.0, explanation="epsilon"), model)
    expected = cross_entropy(model(given.inputs), given.labels) + 2 * outside(product, mask[:4])
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=0)


def test_outside() -> None:
    explanation = torch.tensor([[[[1.0, -2.0]], [[3.0, 0.5]]], [[[4.0, 1.0]], [[0.0, 1.0]]]])  # (2, 2, 1, 2)
    mask = torch.tensor([[[False, True]], [[True, False]]])
    assert float(outside(explanation, mask)) == ((1 + 9) + (1 + 1)) / 2
    assert float(outside(explanation, torch.ones_like(mask))) == 0


CUED = {
    "data": {"name": "planted", "train": 400, "test": 100, "cue": "train", "without": 0.0, "holes": 0.0},
    "model": "lenet",
    "shares": [1.0],
    "repeats": 1,
    "recipe": {"epochs": 3, "batch_size": 32, "lr": 2e-3},
    "arms": [
        {"name": "plain", "label": "plain"},
        {"name": "right_reasons", "label": "none", "weight": 0.0},
        {"name": "right_reasons", "label": "some", "weight": 1.0},
    ],
}


def test_weight_0_is_plain_training_bit_by_bit() -> None:
    made = Experiment.from_dict(CUED | {"data": CUED["data"] | {"train": 64}})
    trained = [made.arms[arm].train(_course(made, Cell(1.0, 0, arm), "cpu")).state_dict() for arm in made.arms]
    assert all(torch.equal(trained[0][key], trained[1][key]) for key in trained[0])
    assert not all(torch.equal(trained[0][key], trained[2][key]) for key in trained[0])


def test_gradients_outside_the_masks_shrink() -> None:
    """In images that were not trained on, too."""
    made = Experiment.from_dict(CUED)
    found = []
    for arm in ("plain", "some"):
        course = _course(made, Cell(1.0, 0, arm), "cpu")
        model = made.arms[arm].train(course)
        inputs, _ = course.dataset.test.batch(range(100))
        inputs.requires_grad_()
        gradient = torch.autograd.grad(model(inputs).log_softmax(1).sum(), inputs)[0]
        masks = course.dataset.test.masks(range(100))
        assert masks is not None
        found.append(float(outside(gradient, masks)))
    assert found[1] < 0.7 * found[0]


def test_mistakes() -> None:
    with pytest.raises(SettingError, match="unknown explanation 'epsilonn'; did you mean 'epsilon'"):
        RightReasons(explanation="epsilonn")
    unknown = Experiment.from_dict(CUED | {"data": "digits"})
    with pytest.raises(DataError, match="digits has no masks"):
        trained_cell(unknown, Cell(1.0, 0, "some"))
    flipped = Experiment.from_dict(CUED | {"recipe": {"flip": True}})
    with pytest.raises(SettingError, match="neither flip nor limit"):
        trained_cell(flipped, Cell(1.0, 0, "some"))


def test_masks_follow_the_sample() -> None:
    """A share of the images is drawn in another order: each keeps its own mask."""
    images = load_dataset("planted", train=100, test=20).train
    drawn = images.drawn(10, 3)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(3))[:10]
    given, wanted = drawn.masks(range(10)), images.masks(order)
    assert given is not None
    assert wanted is not None
    assert torch.equal(given, wanted)
    assert copy.copy(replace(drawn, decisive=None)).masks([0]) is None
