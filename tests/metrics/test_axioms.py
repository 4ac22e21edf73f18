"""Completeness, non-sensitivity and input invariance, against closed forms, plain loops and models that are wrapped."""

from typing import Any

import pytest
import torch
from nets import cnn, mlp, resnet18
from test_contract import Untouched
from test_curves import planted
from test_removal import explained
from torch import Tensor, nn

import xaicompare as xc
from xaicompare.draws import sample_generators
from xaicompare.errors import UnsupportedModelError
from xaicompare.methods import Saliency
from xaicompare.metrics._shift import twin

NAMES = ["completeness", "non_sensitivity", "input_invariance"]


def scene(method: str = "input_x_gradient", **settings: Any) -> tuple[nn.Module, xc.Attribution]:
    model, inputs = cnn().double(), torch.randn(3, 3, 8, 8).double()
    return model, xc.attribute(model, inputs, 1, method, strict=False, **settings)


class TestCompleteness:
    def test_a_linear_model_in_closed_form(self) -> None:
        """Input x gradient sums to the output but for the bias; other sums miss by what is known."""
        model, inputs = nn.Linear(6, 2).double(), torch.randn(4, 6).double()
        exact = xc.attribute(model, inputs, 1, "input_x_gradient")
        for factor, expected in ((1.0, 0.0), (0.0, 1.0), (-1.0, 2.0), (0.5, 0.5), (4.0, 0.75)):
            found = xc.score(model, explained(model, inputs, factor * exact.values), "completeness")
            assert found.tolist() == pytest.approx([expected] * 4), factor

    @pytest.mark.parametrize("baseline", [0.3, "mean", torch.tensor([0.1, 0.2, 0.3])])
    def test_the_formula(self, baseline: Any) -> None:
        model, made = scene()
        found = xc.score(model, made, "completeness", baseline=baseline)
        for i, image in enumerate(made.inputs):
            value = image.mean((1, 2)) if isinstance(baseline, str) else torch.as_tensor(baseline).double().expand(3)
            blank = value[:, None, None].expand_as(image)
            difference = (model(image[None]) - model(blank[None]))[0, 1].item()
            total = made.values[i].sum().item()
            assert float(found[i]) == pytest.approx(abs(total - difference) / max(abs(total), abs(difference)))

    def test_methods_that_promise_it_keep_it_against_their_own_baseline(self) -> None:
        model, made = scene("deeplift", baseline=0.4)
        assert xc.score(model, made, "completeness", baseline=0.4).max() < 1e-6
        assert xc.score(model, made, "completeness", baseline=-2.0).min() > 1e-3
        integrated = xc.attribute(model, made.inputs, 1, "integrated_gradients", n_steps=500)
        assert xc.score(model, integrated, "completeness").max() < 1e-2

    def test_nothing_explained_of_no_difference_is_complete(self) -> None:
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        nn.init.zeros_(model[1].weight)
        made = xc.attribute(model, torch.rand(2, 3, 2, 2), 1, "saliency")
        assert xc.score(model, made, "completeness").tolist() == [0, 0]


class TestNonSensitivity:
    @pytest.mark.parametrize(
        ("share", "expected"),
        [("mask", 0.0), ("inverse", 1.0), ("zeros", 4 / 64), ("ones", 60 / 64)],
    )
    def test_a_model_that_sees_the_middle_alone(self, share: str, expected: float) -> None:
        model, inputs, mask = planted()
        values = {"mask": mask, "inverse": 1 - mask, "zeros": 0 * mask, "ones": 0 * mask + 1}[share]
        made = explained(model, inputs, values.expand(8, 1, 16, 16))
        assert xc.score(model, made, "non_sensitivity").tolist() == pytest.approx([expected] * 8)

    @pytest.mark.parametrize("features", ["patch", "pixel"])
    def test_plain_loops(self, features: str) -> None:
        model, inputs = cnn().double(), torch.randn(2, 3, 6, 6).double()
        made = explained(model, inputs, torch.randn(2, 1, 6, 6).double().pow(5))
        side = 2 if features == "patch" else 1
        settings: dict[str, Any] = {"map_threshold": 0.1, "output_threshold": 0.2}
        found = xc.score(model, made, "non_sensitivity", features=features, n_features=9, n_samples=3, **settings)
        for i, draws in enumerate(sample_generators(inputs, 0)):
            image, drawn = inputs[i], torch.rand((3, 3, 6, 6), generator=draws).double()
            low, high = image.amin((1, 2))[:, None, None], image.amax((1, 2))[:, None, None]
            values, reactions = [], []
            for row in range(0, 6, side):
                for column in range(0, 6, side):
                    place = (slice(None), slice(row, row + side), slice(column, column + side))
                    changes = []
                    for noise in low + (high - low) * drawn:
                        changed = image.clone()
                        changed[place] = noise[place]
                        changes.append(abs((model(changed[None]) - model(image[None]))[0, 1].item()))
                    reactions.append(sum(changes) / 3)
                    values.append(made.map[i][place[1:]].abs().mean().item())
            silent = [value <= 0.1 * max(values) for value in values]
            indifferent = [reaction <= 0.2 * max(reactions) for reaction in reactions]
            wrong = [one != other for one, other in zip(silent, indifferent, strict=True)]
            assert 0 < sum(wrong) < len(wrong)
            assert float(found[i]) == pytest.approx(sum(wrong) / len(wrong))

    def test_vectors(self) -> None:
        """A model that reads two of six features."""
        model = nn.Linear(6, 2)
        model.weight.data[1] = torch.tensor([1.0, 0, 0, 0, 0, -1])
        exact = xc.attribute(model, torch.rand(3, 6), 1, "saliency")
        assert xc.score(model, exact, "non_sensitivity").tolist() == [0, 0, 0]
        wrong = explained(model, exact.inputs, torch.tensor([1.0, 1, 0, 0, 0, 0]).expand(3, 6))
        assert xc.score(model, wrong, "non_sensitivity").tolist() == pytest.approx([2 / 6] * 3)


class Wrapped(nn.Module):
    """The definition: the model, after the shift is subtracted."""

    def __init__(self, model: nn.Module, shift: float) -> None:
        super().__init__()
        self.model, self.shift = model, shift

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x - self.shift)


class Normalising(nn.Module):
    """No layer reads the inputs as they are."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - 0.4) / 0.2)


class Beside(nn.Module):
    """A layer reads the inputs, and so does something else."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + 1e-4 * x.square().mean((1, 2, 3))[:, None]


def padded(mode: str, padding: Any, **settings: Any) -> nn.Module:
    first = nn.Conv2d(3, 6, 3, padding=padding, padding_mode=mode, **settings)
    return nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4)).eval()


class TestInputInvariance:
    @pytest.mark.parametrize(
        "model",
        [
            cnn(),
            resnet18(),
            padded("zeros", (0, 2), bias=False),
            padded("zeros", "same", dilation=2),
            padded("reflect", 1),
            padded("circular", 2),
            padded("zeros", 1, groups=3, stride=2),
            nn.Sequential(nn.Flatten(), mlp(3 * 64)),
            Normalising(cnn()),
        ],
        ids=lambda model: type(model).__name__,
    )
    def test_the_twin_gives_the_models_outputs_for_moved_inputs(self, model: nn.Module) -> None:
        model, inputs = model.double(), torch.randn(2, 3, 8, 8).double()
        with Untouched(model):
            made = twin(model, inputs, 1.7, Saliency())
            torch.testing.assert_close(made(inputs + 1.7), model(inputs))
        assert made is not model

    @pytest.mark.parametrize("shift", [1.0, -0.3])
    def test_a_linear_model_in_closed_form(self, shift: float) -> None:
        """The gradient stays; w x becomes w (x + shift), also against a baseline that stays."""
        model, inputs = nn.Linear(6, 2).double(), torch.randn(3, 6).double()
        weight = model.weight[1].detach()
        expected = (shift * weight).norm() / (weight * inputs).norm(dim=1)
        for method in ("input_x_gradient", "integrated_gradients", "deeplift", "occlusion"):
            settings = {"window": 1} if method == "occlusion" else {}
            made = xc.attribute(model, inputs, 1, method, **settings)
            torch.testing.assert_close(xc.score(model, made, "input_invariance", shift=shift), expected, msg=method)
        gradient = xc.attribute(model, inputs, 1, "saliency")
        assert xc.score(model, gradient, "input_invariance", shift=shift).tolist() == [0, 0, 0]

    @pytest.mark.parametrize(
        ("method", "settings"),
        [
            ("input_x_gradient", {}),
            ("integrated_gradients", {}),
            ("gradcam", {"layer": "0"}),
            ("guided_gradcam", {}),
            ("guided_backprop", {}),
            ("deeplift", {}),
            ("occlusion", {"window": 2}),
            ("edges", {}),
        ],
    )
    def test_the_wrapped_model_explained(self, method: str, settings: dict[str, Any]) -> None:
        """Where the method can tell no difference between a bias and a subtraction."""
        model, made = scene(method, **settings)
        named = {"layer": "model.0"} if "layer" in settings else settings
        again = xc.attribute(Wrapped(model, 1.0), made.inputs + 1, 1, method, **named)
        expected = (again.values - made.values).flatten(1).norm(dim=1) / made.values.flatten(1).norm(dim=1)
        torch.testing.assert_close(xc.score(model, made, "input_invariance"), expected, atol=1e-9, rtol=1e-6)

    @pytest.mark.parametrize(
        "method", ["saliency", "smoothgrad", "guided_backprop", "gradcam", "cam", "edges", "center"]
    )
    def test_invariant_methods(self, method: str) -> None:
        assert xc.score(*scene(method), "input_invariance").max() < 1e-9

    def test_the_zero_rule_multiplies_with_what_moved(self) -> None:
        """Relevance is x * c, where c knows the inputs only through the first layer's outputs."""
        model, inputs = mlp().double(), torch.rand(3, 12).double() + 0.5
        made = xc.attribute(model, inputs, 1, "lrp", composite="zero")
        change = (made.values / inputs).norm(dim=1) / made.values.norm(dim=1)  # of a shift by 1
        torch.testing.assert_close(xc.score(model, made, "input_invariance"), change)

    def test_bounds_of_pixels_move_with_them(self) -> None:
        """So z-box, whose reference they are, does not notice; nor do rules that read no pixels."""
        model, inputs = mlp().double(), torch.rand(3, 12).double()
        for settings in ({"composite": "mnist-mlp", "low": 0.0, "high": 1.0}, {"composite": "epsilon-plus-flat"}):
            made = xc.attribute(model, inputs, 1, "lrp", strict=False, **settings)
            assert xc.score(model, made, "input_invariance").max() < 1e-9

    def test_without_a_layer_that_reads_the_inputs(self) -> None:
        model, inputs = Normalising(cnn()).double(), torch.rand(2, 3, 8, 8).double()
        for method, settings in (("saliency", {}), ("gradcam", {"layer": "net.4"}), ("guided_backprop", {})):
            made = xc.attribute(model, inputs, 1, method, **settings)
            assert xc.score(model, made, "input_invariance").max() < 1e-9, method
        made = xc.attribute(model, inputs, 1, "lrp", composite="epsilon", strict=False)
        with pytest.raises(
            UnsupportedModelError, match="the first layers of Normalising do not read the inputs as they"
        ):
            xc.score(model, made, "input_invariance")

    @pytest.mark.parametrize(("kind", "size"), [("Normalising", 1e-7), ("Beside", 1e-4)])
    def test_outputs_that_hardly_move_prove_nothing(self, kind: str, size: float) -> None:
        """As those of a deep network before its training: there a twin that takes too little back would pass."""
        net = cnn().double()
        net[-1].weight.data *= size
        net[-1].bias.data += 1
        model, inputs = {"Normalising": Normalising, "Beside": Beside}[kind](net), torch.rand(2, 3, 8, 8).double()
        assert (model(inputs + 1) - model(inputs)).abs().max() < 1e-2
        made = xc.attribute(model, inputs, 1, "saliency")
        assert xc.score(model, made, "input_invariance").max() < 1e-9

    def test_a_shift_that_swallows_the_inputs(self) -> None:
        model, inputs = cnn(), torch.rand(2, 3, 8, 8)
        made = xc.attribute(model, inputs, 1, "saliency")
        with pytest.raises(UnsupportedModelError, match="moved by 1e\\+09 and back differ"):
            xc.score(model, made, "input_invariance", shift=1e9)

    def test_a_map_of_zeros_that_stays_one(self) -> None:
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        nn.init.zeros_(model[1].weight)
        made = xc.attribute(model, torch.rand(2, 3, 2, 2), 1, "saliency")
        assert xc.score(model, made, "input_invariance").tolist() == [0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_neither_the_batch_nor_the_global_state_matters_and_the_model_comes_back(name: str) -> None:
    model, made = scene()
    with Untouched(model.train()):
        together = xc.score(model, made, name)
    torch.manual_seed(5)
    alone = xc.score(model, xc.attribute(model, made.inputs[1:2], 1, "input_x_gradient"), name)
    torch.testing.assert_close(together[1:2], alone)
    if name != "input_invariance":
        torch.testing.assert_close(together, xc.score(model, made, name, batch_size=2))


@pytest.mark.parametrize("name", NAMES)
def test_a_map_must_fit(name: str) -> None:
    model, made = scene()
    with pytest.raises(xc.InputError, match=f"{name}: the attribution has shape"):
        xc.score(model, explained(model, made.inputs, torch.zeros(3, 1, 4, 4).double()), name)


def test_a_baseline_that_needs_neighbours_is_refused() -> None:
    with pytest.raises(xc.SettingError, match="completeness: baseline='linear'"):
        xc.score(*scene(), "completeness", baseline="linear")
