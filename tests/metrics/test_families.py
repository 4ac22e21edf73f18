"""Complexity, localisation and robustness, against plain loops, closed forms, and libraries that know them."""

import math
from typing import Any

import pytest
import scipy.stats
import torch
from nets import cnn
from sklearn.metrics import roc_auc_score
from test_removal import explained
from torch import Tensor, nn

import xaicompare as xc
from xaicompare.draws import sample_generators
from xaicompare.errors import InputError
from xaicompare.methods import InputXGradient, Saliency
from xaicompare.registry import METRICS

LOCAL = [name for name in METRICS.names() if METRICS[name].traits.family == "localisation"]
COMPLEX = ["sparseness", "complexity", "effective_complexity"]


def made(values: Tensor) -> tuple[nn.Module, xc.Attribution]:
    """A map (n, h, w) of a small network."""
    model, inputs = cnn().double(), torch.randn(len(values), 3, *values.shape[1:]).double()
    return model, explained(model, inputs, values[:, None].double())


def judged(name: str, values: Tensor, masks: Tensor | None = None, **settings: Any) -> Tensor:
    return xc.score(*made(values), name, masks, **settings)


class TestComplexity:
    def test_gini_is_half_the_relative_mean_difference(self) -> None:
        values = torch.randn(3, 5, 5)
        for found, sample in zip(judged("sparseness", values), values.abs().double().flatten(1), strict=True):
            expected = (sample[:, None] - sample[None]).abs().mean() / (2 * sample.mean())
            assert float(found) == pytest.approx(float(expected))

    def test_entropy(self) -> None:
        values = torch.randn(3, 5, 5)
        for found, sample in zip(judged("complexity", values), values.abs().double().flatten(1), strict=True):
            assert float(found) == pytest.approx(scipy.stats.entropy(sample.numpy()))

    def test_share_above_the_threshold(self) -> None:
        values = torch.tensor([[0.0, 0.5, -10.0], [0.05, 0.2, 3.0]])[None]
        assert float(judged("effective_complexity", values, threshold=0.01)) == pytest.approx(4 / 6)

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (torch.zeros(1, 4, 4), {"sparseness": 0.0, "complexity": math.log(16), "effective_complexity": 0.0}),
            (torch.full((1, 4, 4), -2.0), {"sparseness": 0.0, "complexity": math.log(16), "effective_complexity": 1.0}),
            (
                torch.eye(16)[:1].view(1, 4, 4),
                {"sparseness": 15 / 16, "complexity": 0.0, "effective_complexity": 1 / 16},
            ),
        ],
        ids=["zeros", "constant", "one position"],
    )
    def test_closed_forms(self, values: Tensor, expected: dict[str, float]) -> None:
        for name, value in expected.items():
            assert float(judged(name, values)) == pytest.approx(value)

    @pytest.mark.parametrize("name", COMPLEX)
    def test_scale_and_place_do_not_matter(self, name: str) -> None:
        values = torch.randn(2, 5, 5)
        torch.testing.assert_close(judged(name, values), judged(name, 1e-12 * values.flip(1)))


class TestLocalisation:
    def masks(self) -> Tensor:
        masks = torch.zeros(3, 6, 6, dtype=torch.bool)
        masks[:, 1:4, 2:5] = True
        return masks

    def test_plain_loops(self) -> None:
        values, masks = torch.randn(3, 6, 6), self.masks()
        inside = masks.flatten(1)
        for i, sample in enumerate(values.double().flatten(1)):
            first = sample.argsort(descending=True)
            positive = sample.clamp(min=0)
            expected = {
                "pointing_game": float(inside[i, first[0]]),
                "relevance_mass": float(positive[inside[i]].sum() / positive.sum()),
                "relevance_rank": float(inside[i, first[:9]].double().mean()),
                "top_k_intersection": float(inside[i, first[:4]].double().mean()),
                "attribution_auc": roc_auc_score(inside[i].numpy(), sample.numpy()),
            }
            for name, value in expected.items():
                settings = {"share": 4 / 36} if name == "top_k_intersection" else {}
                assert float(judged(name, values, masks, **settings)[i]) == pytest.approx(value), name

    def test_ties_share_their_places(self) -> None:
        values = torch.zeros(3, 6, 6)
        share = {"pointing_game": 0.25, "relevance_mass": 0.25, "relevance_rank": 0.25, "top_k_intersection": 0.25}
        for name, expected in (share | {"attribution_auc": 0.5}).items():
            assert judged(name, values, self.masks()).tolist() == pytest.approx([expected] * 3), name
        rounded = torch.randint(0, 3, (3, 6, 6)).float()
        expected = [
            roc_auc_score(mask.flatten(), value.flatten()) for mask, value in zip(self.masks(), rounded, strict=True)
        ]
        assert judged("attribution_auc", rounded, self.masks()).tolist() == pytest.approx(expected)

    @pytest.mark.parametrize("name", LOCAL)
    def test_the_mask_is_best_and_its_inverse_worst(self, name: str) -> None:
        mask = self.masks().float()
        right, wrong = (float(judged(name, side * mask, self.masks()).mean()) for side in (1, -1))
        chance = float(judged(name, torch.rand(3, 6, 6), self.masks()).mean())
        assert right == 1
        assert wrong <= chance < right

    @pytest.mark.parametrize(
        ("masks", "told"),
        [
            (None, "masks are missing"),
            (torch.ones(3, 5, 6, dtype=torch.bool), r"expected bool \(3, 6, 6\)"),
            (torch.ones(3, 6, 6), r"masks are torch.float32"),
            (torch.zeros(3, 6, 6, dtype=torch.bool), "the mask of sample 0 is empty"),
            (torch.ones(3, 6, 6, dtype=torch.bool), "the mask of sample 0 is full"),
        ],
    )
    def test_masks_must_fit(self, masks: Tensor | None, told: str) -> None:
        with pytest.raises(InputError, match=told):
            judged("relevance_mass", torch.randn(3, 6, 6), masks)


class TestRobustness:
    def test_a_linear_model_in_closed_form(self) -> None:
        """The gradient never changes; input x gradient changes by weight x noise, so its Lipschitz ratio is known."""
        model = nn.Linear(4, 2).double()
        nn.init.constant_(model.weight, 3.0)
        inputs = torch.randn(3, 4).double()
        steady = xc.attribute(model, inputs, 1, Saliency(absolute=False))
        for name in ("max_sensitivity", "avg_sensitivity", "local_lipschitz"):
            assert xc.score(model, steady, name).tolist() == [0, 0, 0]
        times = xc.attribute(model, inputs, 1, InputXGradient())
        torch.testing.assert_close(xc.score(model, times, "local_lipschitz"), torch.full((3,), 3.0).double())

    def test_plain_loops(self) -> None:
        model, inputs = cnn().double(), torch.randn(2, 3, 8, 8).double()
        explained_once = xc.attribute(model, inputs, 1, InputXGradient())
        most, mean, ratio = [], [], []
        for i, draws in enumerate(sample_generators(inputs, 0)):
            noise = 0.1 * (2 * torch.rand((5, 3, 8, 8), generator=draws) - 1)
            changes, relative = [], []
            for step in noise:
                again = xc.attribute(model, inputs[i : i + 1] + step, 1, InputXGradient()).values[0]
                change = (again - explained_once.values[i]).norm()
                relative.append(float(change / explained_once.values[i].norm()))
                changes.append(float(change / step.norm()))
            most.append(max(relative))
            mean.append(sum(relative) / 5)
            ratio.append(max(changes))
        for name, expected in (("max_sensitivity", most), ("avg_sensitivity", mean), ("local_lipschitz", ratio)):
            found = xc.score(model, explained_once, name, n_samples=5)
            assert found.tolist() == pytest.approx(expected, rel=1e-5), name

    def test_neither_the_batch_nor_the_global_state_matters(self) -> None:
        model, inputs = cnn(), torch.randn(3, 3, 8, 8)
        together = xc.score(model, xc.attribute(model, inputs, 1, "saliency"), "max_sensitivity")
        torch.manual_seed(5)
        alone = xc.score(model, xc.attribute(model, inputs[1:2], 1, "saliency"), "max_sensitivity")
        torch.testing.assert_close(together[1:2], alone)

    def test_a_map_of_zeros_that_stays_one(self) -> None:
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        nn.init.zeros_(model[1].weight)
        zeros = xc.attribute(model, torch.rand(2, 3, 2, 2), 1, "saliency")
        for name in ("max_sensitivity", "avg_sensitivity", "local_lipschitz"):
            assert xc.score(model, zeros, name).tolist() == [0, 0]


class TestSubsets:
    def test_a_linear_model_in_closed_form(self) -> None:
        """Its gradient foretells every perturbation; input x gradient every removal to 0."""
        model, inputs = nn.Linear(12, 2).double(), torch.randn(3, 12).double()
        gradient = xc.attribute(model, inputs, 1, Saliency(absolute=False))
        for settings in ({}, {"std": 2.0}):
            torch.testing.assert_close(xc.score(model, gradient, "infidelity", **settings), torch.zeros(3).double())
        times = xc.attribute(model, inputs, 1, InputXGradient())
        for name in ("sensitivity_n", "faithfulness_correlation"):
            torch.testing.assert_close(xc.score(model, times, name, fill=0.0), torch.ones(3).double())
            against = explained(model, inputs, -times.values)
            torch.testing.assert_close(xc.score(model, against, name, fill=0.0), -torch.ones(3).double())

    def test_infidelity_of_squares(self) -> None:
        """Zero for the gradient of a linear model on images; an error for vectors."""
        model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).double()
        gradient = xc.attribute(model, torch.randn(2, 3, 4, 4).double(), 1, Saliency(absolute=False))
        found = xc.score(model, gradient, "infidelity", perturbation="square")
        torch.testing.assert_close(found, torch.zeros(2).double())
        wrong = explained(model, gradient.inputs, -gradient.values)
        assert (xc.score(model, wrong, "infidelity", perturbation="square") > 0.1).all()
        flat = xc.attribute(nn.Linear(4, 2), torch.rand(2, 4), 1, "saliency")
        with pytest.raises(InputError, match="perturbation='square' on inputs"):
            xc.score(nn.Linear(4, 2), flat, "infidelity", perturbation="square")

    def test_infidelity_by_a_plain_loop(self) -> None:
        model, inputs = cnn().double(), torch.randn(2, 3, 6, 6).double()
        known = xc.attribute(model, inputs, 1, Saliency(absolute=False))
        found = xc.score(model, known, "infidelity", n_samples=7, batch_size=3)
        for i, draws in enumerate(sample_generators(inputs, 0)):
            noise = 0.1 * torch.randn((7, 3, 6, 6), generator=draws).double()
            errors = [
                (step * known.values[i]).sum() - (model(inputs[i : i + 1]) - model(inputs[i : i + 1] - step))[0, 1]
                for step in noise
            ]
            assert float(found[i]) == pytest.approx(torch.stack(errors).square().mean().item())

    def test_correlation_by_scipy(self) -> None:
        """Of the very subsets: those of which removal is recorded by a model that sees what is gone."""
        seen: list[Tensor] = []

        class Recording(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                seen.append(x == 0)
                return torch.stack([x.sum(1), x.square().sum(1) + 3 * x[:, 0] * x[:, 1]], 1)

        model, inputs = Recording(), torch.rand(1, 10).double() + 0.5
        known = explained(model, inputs, torch.randn(1, 10).double())
        seen.clear()
        found = float(xc.score(model, known, "faithfulness_correlation", fill=0.0, share=0.3, n_subsets=40))
        gone = torch.cat([batch for batch in seen if batch.any()])
        assert gone.sum(1).tolist() == [3] * 40
        summed = (gone * known.values).sum(1)
        lost = known.score - model(torch.where(gone, 0, inputs))[:, 1]
        assert found == pytest.approx(scipy.stats.pearsonr(summed, lost)[0])

    @pytest.mark.parametrize("name", ["sensitivity_n", "faithfulness_correlation"])
    def test_a_constant_map_foretells_nothing(self, name: str) -> None:
        for constant in (0.0, 0.1, -3.0):  # whose sums differ by rounding
            assert judged(name, torch.full((2, 6, 6), constant)).tolist() == [0, 0]

    @pytest.mark.parametrize("name", ["sensitivity_n", "faithfulness_correlation", "infidelity"])
    def test_neither_the_batch_nor_its_size_matters(self, name: str) -> None:
        model, inputs = cnn().double(), torch.randn(3, 3, 6, 6).double()
        known = xc.attribute(model, inputs, 1, Saliency(absolute=False))
        together = xc.score(model, known, name, batch_size=7)
        alone = xc.score(model, xc.attribute(model, inputs[1:2], 1, Saliency(absolute=False)), name)
        torch.testing.assert_close(together[1:2], alone)
