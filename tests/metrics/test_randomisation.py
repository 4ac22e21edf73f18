"""Randomised models and other classes, against copies that are randomised by hand and against skimage and scipy."""

import copy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from nets import cnn, mlp
from skimage.metrics import structural_similarity
from test_contract import Untouched
from torch import Tensor, nn

import xaicompare as xc
from xaicompare.core import Method, Traits, Values
from xaicompare.draws import sample_generators
from xaicompare.errors import InputError, UnsupportedModelError
from xaicompare.metrics._similarity import alike, pearson, spearman, ssim
from xaicompare.metrics.randomisation import SimilarityCurve

ORDERS = ["top_down", "bottom_up", "independent"]
SIMILARITIES = ["ssim", "spearman", "pearson"]
WEIGHTED = ["0", "1", "4", "9"]  # of `cnn`, in the order in which they run


def scene(method: str = "saliency", **settings: Any) -> tuple[nn.Module, xc.Attribution]:
    model, inputs = cnn().double(), torch.randn(2, 3, 12, 10).double()
    return model, xc.attribute(model, inputs, 1, method, **settings)


def maps(values: Tensor) -> xc.Attribution:
    """An attribution with this map (n, h, w)."""
    inputs = torch.zeros(len(values), 1, *values.shape[1:]).double()
    made = xc.attribute(nn.Sequential(nn.Flatten(), nn.Linear(inputs[0].numel(), 2)).double(), inputs, 0, "center")
    return replace(made, values=values[:, None].double())


class TestSimilarity:
    @pytest.mark.parametrize("shape", [(9, 16), (8, 6), (5, 5), (3, 4)])
    def test_ssim_is_scikit_images(self, shape: tuple[int, int]) -> None:
        a = torch.rand(3, *shape).double()
        b = (a + 0.3 * torch.randn(3, *shape)).double()
        side = min(7, *shape) - (min(7, *shape) + 1) % 2
        for found, x, y in zip(ssim(a, b), a.numpy(), b.numpy(), strict=True):
            assert float(found) == pytest.approx(structural_similarity(x, y, win_size=side, data_range=1.0))

    def test_correlations_are_scipys_ties_included(self) -> None:
        a, b = torch.randint(0, 5, (4, 30)).double(), torch.randint(0, 5, (4, 30)).double()
        for i in range(4):
            assert float(spearman(a, b)[i]) == pytest.approx(scipy.stats.spearmanr(a[i], b[i])[0])
            assert float(pearson(a, b)[i]) == pytest.approx(scipy.stats.pearsonr(a[i], b[i])[0])

    @pytest.mark.parametrize("how", SIMILARITIES)
    def test_a_map_is_like_itself_at_any_scale_and_flat_ones_are_alike(self, how: Any) -> None:
        values = torch.randn(3, 8, 8)
        assert alike(maps(values), maps(values), how, "signed").tolist() == [1, 1, 1]
        torch.testing.assert_close(alike(maps(values), maps(1e-9 * values), how, "signed"), torch.ones(3).double())
        for flat in (torch.zeros(3, 8, 8), torch.ones(3, 8, 8)):
            assert alike(maps(flat), maps(flat), how, "absolute").tolist() == [1, 1, 1]
            beside = alike(maps(flat), maps(values), how, "absolute")
            assert beside.abs().max() < 0.1, "nothing and something are not alike"

    @pytest.mark.parametrize("how", SIMILARITIES)
    def test_the_sign_counts_or_not(self, how: Any) -> None:
        first, second = maps(values := torch.randn(2, 8, 8)), maps(-values)
        torch.testing.assert_close(alike(first, second, how, "absolute"), torch.ones(2).double())
        assert (alike(first, second, how, "signed") < 0).all()

    def test_ssim_is_for_images(self) -> None:
        model = mlp()
        made = xc.attribute(model, torch.randn(2, 12), 0, "saliency")
        for name in ("model_randomisation", "random_logit"):
            with pytest.raises(InputError, match=rf"{name}: similarity='ssim' on maps \(2, 12\).*Use 'spearman'"):
                xc.score(model, made, name)
            assert xc.score(model, made, name, similarity="spearman").shape == (2,)


def by_hand(model: nn.Module, made: xc.Attribution, order: str, seed: int = 0) -> list[list[float]]:
    """SSIM (steps, n) of absolute maps, on copies that are randomised layer by layer."""
    seeds = torch.randint(2**62, (4,), generator=torch.Generator().manual_seed(seed)).tolist()
    names = WEIGHTED if order == "bottom_up" else WEIGHTED[::-1]
    known, rows = dict(zip(WEIGHTED, seeds, strict=True)), []
    for step in range(4):
        copied = copy.deepcopy(model)
        for name in [names[step]] if order == "independent" else names[: step + 1]:
            torch.manual_seed(known[name])
            copied.get_submodule(name).reset_parameters()
        again = made.method.attribute(copied, made.inputs, made.target)
        pairs = [
            [values / max(values.max(), 1e-30) for values in (one.abs().numpy(), two.abs().numpy())]
            for one, two in zip(made.map, again.map, strict=True)
        ]
        rows.append([structural_similarity(one, two, win_size=7, data_range=1.0) for one, two in pairs])
    return rows


class TestModelRandomisation:
    @pytest.mark.parametrize("order", ORDERS)
    @pytest.mark.parametrize("method", ["input_x_gradient", "guided_backprop", "lrp", "gradcam"])
    def test_copies_randomised_by_hand(self, method: str, order: str) -> None:
        """BatchNorm with its running statistics, and methods that remember what a model looked like, included."""
        model, made = scene(method)
        expected = np.array(by_hand(model, made, order))
        curve = xc.curve(model, made, "model_randomisation", order=order)
        assert isinstance(curve, SimilarityCurve)
        np.testing.assert_allclose(curve.values.numpy().T, expected, atol=1e-6)
        found = xc.score(model, made, "model_randomisation", order=order)
        np.testing.assert_allclose(found.numpy(), expected.mean(0), atol=1e-6)
        assert curve.shares.tolist() == [0.25, 0.5, 0.75, 1.0]
        assert list(curve.layers) == (WEIGHTED if order == "bottom_up" else WEIGHTED[::-1])

    @pytest.mark.parametrize("order", ORDERS)
    @pytest.mark.parametrize("similarity", SIMILARITIES)
    @pytest.mark.parametrize("control", ["edges", "center", "random"])
    def test_controls_stay_as_they_are(self, control: str, similarity: str, order: str) -> None:
        model, made = scene(control)
        found = xc.score(model, made, "model_randomisation", order=order, similarity=similarity)
        assert found.tolist() == pytest.approx([1, 1], abs=1e-12)

    @pytest.mark.parametrize("similarity", SIMILARITIES)
    def test_gradients_change_and_guided_backprop_changes_less(self, similarity: str) -> None:
        model, inputs = trained()
        found = {
            name: float(
                xc.score(
                    model, xc.attribute(model, inputs, None, name), "model_randomisation", similarity=similarity
                ).mean()
            )
            for name in ("saliency", "input_x_gradient", "guided_backprop", "edges")
        }
        assert found["saliency"] < 0.7, found
        assert found["input_x_gradient"] < 0.8, found
        assert found["saliency"] < found["guided_backprop"] < found["edges"] == 1, found

    def test_the_last_step_has_everything_randomised_however_few_there_are(self) -> None:
        model, made = scene()
        every = xc.curve(model, made, "model_randomisation")
        for steps, shares, layers in ((1, [1.0], ("0",)), (2, [0.5, 1.0], ("4", "0"))):
            curve = xc.curve(model, made, "model_randomisation", n_steps=steps)
            assert (curve.shares.tolist(), curve.layers) == (shares, layers)
            torch.testing.assert_close(curve.values[:, -1], every.values[:, -1])

    def test_the_batch_does_not_matter_and_the_seed_does(self) -> None:
        model, made = scene()
        together = xc.score(model, made, "model_randomisation")
        torch.manual_seed(5)
        alone = xc.score(model, xc.attribute(model, made.inputs[1:], 1, "saliency"), "model_randomisation")
        torch.testing.assert_close(together[1:], alone)
        assert not torch.allclose(together, xc.score(model, made, "model_randomisation", seed=1))

    @pytest.mark.parametrize("order", ORDERS)
    def test_the_model_comes_back(self, order: str) -> None:
        model, made = scene("lrp")
        with Untouched(model.train()):
            xc.score(model, made, "model_randomisation", order=order)

    @pytest.mark.parametrize("order", ORDERS)
    def test_the_model_comes_back_after_an_error(self, order: str) -> None:
        model, made = scene()
        weight = model[0].weight.detach().clone()
        refusing = replace(made, method=Refusing(weight=weight))
        with (
            Untouched(model),
            pytest.raises(UnsupportedModelError, match="the map once '0' is randomised: refusing: no"),
        ):
            xc.score(model, refusing, "model_randomisation", order=order)

    def test_layers_come_as_they_run_and_what_cannot_start_again_is_shuffled(self) -> None:
        model = Reversed()
        before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
        kept = Keeping()
        made = replace(xc.attribute(model, torch.rand(1, 6), 0, "saliency"), method=kept)
        curve = xc.curve(model, made, "model_randomisation", order="bottom_up", similarity="spearman")
        assert curve.layers == ("", "first", "attention", "attention.out_proj", "last")
        seen = _seen[-1]
        for name in ("scale", "attention.in_proj_weight"):
            assert not seen[name].equal(before[name]), name
            assert seen[name].flatten().sort()[0].equal(before[name].flatten().sort()[0]), name
        assert not seen["first.weight"].flatten().sort()[0].equal(before["first.weight"].flatten().sort()[0])
        assert all(tensor.equal(before[name]) for name, tensor in model.named_parameters())
        torch.manual_seed(5)
        xc.curve(model, made, "model_randomisation", order="bottom_up", similarity="spearman")
        assert all(_seen[-1][name].equal(tensor) for name, tensor in seen.items()), "by the metric's seed alone"

    def test_a_model_without_parameters(self) -> None:
        model = nn.Flatten()
        made = xc.attribute(model, torch.rand(1, 3, 4, 4), 0, "saliency")
        with pytest.raises(UnsupportedModelError, match="model_randomisation: Flatten has no parameters"):
            xc.score(model, made, "model_randomisation")


class TestRandomLogit:
    @pytest.mark.parametrize("similarity", SIMILARITIES)
    def test_plain_loops(self, similarity: str) -> None:
        model, made = scene("input_x_gradient")
        found = xc.score(model, made, "random_logit", similarity=similarity)
        for i, draws in enumerate(sample_generators(made.inputs, 0)):
            other = (1 + int(torch.randint(1, 5, (), generator=draws))) % 5
            again = xc.attribute(model, made.inputs[i : i + 1], other, "input_x_gradient").map[0]
            one, two = (values.abs() / values.abs().max() for values in (made.map[i], again))
            expected = {
                "ssim": structural_similarity(one.numpy(), two.numpy(), data_range=1.0),
                "spearman": scipy.stats.spearmanr(one.flatten(), two.flatten())[0],
                "pearson": scipy.stats.pearsonr(one.flatten(), two.flatten())[0],
            }
            assert float(found[i]) == pytest.approx(expected[similarity])

    def test_of_two_classes_it_is_the_other(self) -> None:
        """Whose weights are the opposite: the same but for the sign."""
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).double()
        model[1].weight.data[1] = -model[1].weight.data[0]
        made = xc.attribute(model, torch.rand(3, 1, 8, 8).double(), 1, "saliency", absolute=False)
        for similarity in SIMILARITIES:
            found = xc.score(model, made, "random_logit", similarity=similarity)
            torch.testing.assert_close(found, torch.ones(3).double())
        signed = xc.score(model, made, "random_logit", similarity="pearson", sign="signed")
        torch.testing.assert_close(signed, -torch.ones(3).double())

    def test_every_other_class_is_drawn_and_never_the_same(self) -> None:
        model = cnn()
        target = torch.arange(60) % 5
        made = xc.attribute(model, torch.rand(60, 3, 8, 8), target, "center")
        _targets.clear()
        xc.score(model, replace(made, method=Keeping()), "random_logit")
        drawn = torch.cat(_targets)
        assert (drawn != target).all()
        assert {(int(a), int(b)) for a, b in zip(target, drawn, strict=True)} == {
            (a, b) for a in range(5) for b in range(5) if a != b
        }

    @pytest.mark.parametrize("control", ["edges", "center", "random"])
    def test_controls_know_no_class(self, control: str) -> None:
        assert xc.score(*scene(control), "random_logit").tolist() == [1, 1]

    def test_neither_the_batch_nor_the_global_state_matters_and_the_model_comes_back(self) -> None:
        model, made = scene("lrp")
        with Untouched(model):
            together = xc.score(model, made, "random_logit")
        torch.manual_seed(5)
        alone = xc.score(model, xc.attribute(model, made.inputs[1:], 1, "lrp"), "random_logit")
        torch.testing.assert_close(together[1:], alone)

    def test_a_model_with_one_output(self) -> None:
        model = nn.Sequential(nn.Flatten(), nn.Linear(48, 1))
        made = xc.attribute(model, torch.rand(1, 3, 4, 4), 0, "saliency")
        assert xc.score(model, made, "random_logit").item() == pytest.approx(1)  # slopes of -z and z differ in sign


_seen: list[dict[str, Tensor]] = []
_targets: list[Tensor] = []


@dataclass(frozen=True)
class Keeping(Method):
    """Notes the parameters and targets that it is given."""

    name = "keeping"
    traits = Traits("control")
    batch_size = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        _seen.append({name: tensor.detach().clone() for name, tensor in model.named_parameters()})
        _targets.append(target)
        return Values(inputs.detach().clone())


@dataclass(frozen=True)
class Refusing(Method):
    """Explains a model with this first weight, and no other."""

    name = "refusing"
    traits = Traits("control")
    batch_size = 64
    weight: Tensor

    def _values(self, model: nn.Sequential, inputs: Tensor, target: Tensor) -> Values:
        if not model[0].weight.equal(self.weight):
            raise UnsupportedModelError("no")
        return Values(inputs.detach().clone())


class Reversed(nn.Module):
    """Defined from the last layer to the first; with weights of its own, and a layer that attention never calls."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 3)
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.first = nn.Linear(6, 4)
        self.unused = nn.Sequential(nn.Linear(6, 4))  # as the auxiliary classifiers of GoogLeNet
        self.scale = nn.Parameter(torch.rand(6))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.first(self.scale * x)[:, None]
        return self.last(self.attention(tokens, tokens, tokens)[0][:, 0])


@cache
def trained() -> tuple[nn.Module, Tensor]:
    """Four convolutions that tell in which corner of a noisy image a bright square lies, and eight such images."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = [
            nn.Conv2d(1, 12, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 12, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        layers += [
            nn.Conv2d(12, 12, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 12, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(12 * 16, 4))
        steps = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(60):
            inputs, labels = corners(32)
            loss = nn.functional.cross_entropy(model(inputs), labels)
            steps.zero_grad()
            loss.backward()
            steps.step()
        inputs, labels = corners(200)
        assert (model(inputs).argmax(1) == labels).double().mean() > 0.95
        return model.eval(), inputs[:8]


def corners(n: int) -> tuple[Tensor, Tensor]:
    inputs, labels = 0.3 * torch.rand(n, 1, 16, 16), torch.randint(4, (n,))
    for image, label in zip(inputs, labels.tolist(), strict=True):
        row, column = (8 * (label // 2) + int(torch.randint(5, ())), 8 * (label % 2) + int(torch.randint(5, ())))
        image[0, row : row + 4, column : column + 4] += 0.7
    return inputs, labels
