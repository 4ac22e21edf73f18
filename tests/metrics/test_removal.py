from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from nets import cnn, mlp
from oracles import removal
from torch import Tensor, nn

import xaicompare as xc
from xaicompare.core import Attribution
from xaicompare.metrics.removal import RemovalCurve, feature_ranks

SHARES = (0.0, 0.1, 0.35, 1.0)


def explained(model: nn.Module, inputs: Tensor, values: Tensor, target: int = 1) -> Attribution:
    """An attribution whose values are given."""
    return replace(xc.attribute(model, inputs, target, "random"), values=values)


def images() -> tuple[nn.Module, Attribution]:
    model, inputs = cnn().double(), torch.randn(3, 3, 6, 6).double()
    return model, explained(model, inputs, torch.randn(3, 1, 6, 6).double())


def vectors() -> tuple[nn.Module, Attribution]:
    model, inputs = mlp().double(), torch.randn(3, 12).double()
    return model, explained(model, inputs, torch.randn(3, 12).double())


def curve(model: nn.Module, attribution: Attribution, **settings: Any) -> RemovalCurve:
    return xc.ConfidenceRemoval(shares=SHARES, **settings).curve(model, attribution)


@pytest.mark.parametrize("order", ["most", "least"])
@pytest.mark.parametrize("fill", ["mean", 0.5])
@pytest.mark.parametrize("make", [images, vectors])
def test_curves_are_the_oracles(make: Any, fill: str | float, order: str) -> None:
    model, attribution = make()
    made = curve(model, attribution, order=order, fill=fill)
    for i, (image, values) in enumerate(zip(attribution.inputs, attribution.map, strict=True)):
        means = image.mean((1, 2)) if image.ndim == 3 else image.mean()
        filled = means if fill == "mean" else torch.tensor(fill)
        expected = removal(model, image[None], values[None], filled, list(SHARES), most=order == "most")
        assert torch.allclose(made.logits[i], expected[0])
    assert torch.allclose(made.score, made.logits[..., 1])
    assert made.predicted.equal(made.logits.argmax(2))
    assert torch.allclose(made.confidence(), xc.confidence(made.logits))


@pytest.mark.parametrize("order", ["most", "least", "random"])
def test_share_0_is_untouched_and_share_1_leaves_nothing(order: str) -> None:
    model, attribution = images()
    made = curve(model, attribution, order=order, fill=torch.tensor([0.1, 0.2, 0.3]))
    empty = torch.tensor([0.1, 0.2, 0.3]).double().view(1, 3, 1, 1).expand(1, 3, 6, 6)
    assert torch.allclose(made.logits[:, 0], model(attribution.inputs))
    assert torch.allclose(made.logits[:, -1], model(empty).expand(3, -1))


def test_the_exact_map_of_a_linear_model_takes_the_score_down_fastest() -> None:
    model, inputs = nn.Linear(7, 2, bias=False).double(), torch.randn(1, 7).double()
    attribution = xc.attribute(model, inputs, 0, "input_x_gradient")
    for order, best in [("most", min), ("least", max)]:
        metric = xc.ConfidenceRemoval(shares=tuple(count / 7 for count in range(8)), order=order, fill=0)
        for count, score in enumerate(metric.curve(model, attribution).score[0]):
            worths = (attribution.values[0, list(kept)].sum() for kept in combinations(range(7), 7 - count))
            assert float(score) == pytest.approx(float(best(worths)))


def test_the_score_is_the_curve_at_one_share() -> None:
    model, attribution = images()
    made = curve(model, attribution)
    for i, share in enumerate(SHARES):
        alone = xc.score(model, attribution, "confidence_removal", order="most", share=share)
        assert torch.allclose(alone, made.confidence()[:, i])


@pytest.mark.parametrize("order", ["most", "least", "random"])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_neither_the_batch_nor_its_size_matters(order: str, batch_size: int) -> None:
    model, attribution = images()
    attribution = replace(attribution, values=torch.zeros_like(attribution.values))  # all positions equal
    together = curve(model, attribution, order=order)
    assert torch.allclose(curve(model, attribution, order=order, batch_size=batch_size).logits, together.logits)
    one = {name: getattr(attribution, name)[2:] for name in ("values", "inputs", "target", "score")}
    assert torch.allclose(curve(model, replace(attribution, **one), order=order).logits[0], together.logits[2])


def test_equal_values_go_in_random_but_reproducible_order() -> None:
    _, attribution = images()
    tied = replace(attribution, values=torch.cat([torch.zeros(3, 1, 3, 6), torch.ones(3, 1, 3, 6)], 2))
    ranks = feature_ranks(tied, "most", seed=0)[0]
    assert ranks.sort(1).values.equal(torch.arange(36).expand(3, -1))
    assert ranks[:, 18:].max() < 18
    assert ranks.equal(feature_ranks(tied, "most", seed=0)[0])
    assert not ranks.equal(feature_ranks(tied, "most", seed=1)[0])
    assert not ranks[0].equal(ranks[1]), "every image has draws of its own"
    middle = torch.stack([feature_ranks(tied, "most", seed)[0][0] for seed in range(400)]).double().mean(0)
    assert (middle[:18] - 26.5).abs().max() < 1.3, "no corner goes first"
    assert (middle[18:] - 8.5).abs().max() < 1.3


def test_random_order_does_not_look_at_the_map() -> None:
    model, attribution = images()
    other = replace(attribution, values=torch.randn(3, 3, 6, 6))
    made = [curve(model, each, order="random").logits for each in (attribution, other)]
    assert made[0].equal(made[1])
    assert not curve(model, attribution, order="random", seed=1).logits.equal(made[0])


def test_channels_are_summed_with_their_signs() -> None:
    model, attribution = images()
    values = torch.randn(3, 3, 6, 6).double()
    several, summed = (replace(attribution, values=each) for each in (values, values.sum(1, keepdim=True)))
    assert curve(model, several).logits.equal(curve(model, summed).logits)


def test_raw_outputs_that_are_not_positive_are_an_error() -> None:
    model, attribution = vectors()
    nn.init.constant_(model[-1].bias, -100)
    with pytest.raises(xc.InputError, match="the greatest raw output is -"):
        xc.score(model, attribution, "confidence_removal", of="outputs")
    assert xc.score(model, attribution, "confidence_removal").shape == (3,)


def test_signed_confidence_tells_when_the_prediction_has_turned() -> None:
    model, attribution = vectors()
    made = curve(model, attribution)
    signs = torch.where(made.predicted == 1, 1.0, -1.0)
    assert torch.allclose(made.signed_confidence(), signs * made.confidence())
    assert repr(made) == "RemovalCurve(3 samples, 4 shares from 0 to 1, 5 classes)"


def test_the_model_and_the_global_random_state_come_back() -> None:
    model, attribution = images()
    model.train()
    before = torch.get_rng_state(), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    curve(model, attribution)
    assert model.training
    assert all(module.training for module in model.modules())
    assert torch.get_rng_state().equal(before[0])
    assert all(tensor.equal(before[1][name]) for name, tensor in model.state_dict().items())


def test_a_map_must_be_finite() -> None:
    model, attribution = images()
    with pytest.raises(xc.InputError, match="the attribution holds NaN or inf"):
        curve(model, replace(attribution, values=attribution.values / 0))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"share": 1.2}, r"share=1.2; expected less than or equal to 1"),
        ({"order": "worst"}, r"order='worst'; expected 'most', 'least' or 'random'"),
        ({"of": "logits"}, r"of='logits'; expected 'probabilities' or 'outputs'"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(xc.SettingError, match=f"confidence_removal: {words}"):
        xc.ConfidenceRemoval(**settings)


def test_a_fill_must_fit() -> None:
    model, attribution = images()
    with pytest.raises(xc.InputError, match=r"shape \(2,\); expected a number, \(3,\) or \(3, 6, 6\)"):
        curve(model, attribution, fill=torch.zeros(2))


def test_high_is_good_only_where_the_least_important_go_first() -> None:
    better = {order: xc.ConfidenceRemoval(order=order).higher_is_better for order in ("most", "least", "random")}
    assert better == {"most": False, "least": True, "random": False}
