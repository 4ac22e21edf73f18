"""Attention, relevance and both, against sums written from their definitions."""

import pytest
import torch
from nets import attended, cnn, net_and_inputs
from torch import Tensor, nn
from torch.nn.functional import interpolate

import xaicompare as xc

over = pytest.mark.parametrize
Z = {"rule": "zero"}


def single(model: nn.Module, inputs: Tensor, target: Tensor, gamma: float, attention: str) -> Tensor:
    """The relevance of one class and one gamma: LRP-0 above the module, gamma below."""
    rule = {"rule": "gamma", "gamma": gamma}
    rules = {"convolution": rule, "dense": rule, "named": {"4": Z, "7": Z}, "attention": attention}
    return xc.relevance(model, inputs, target, rules).values


def test_attention_is_the_map_enlarged() -> None:
    model, inputs = net_and_inputs("attended")
    made = xc.attribute(model, inputs, method="attention")
    assert torch.equal(made.values, xc.attention_map(model, inputs))  # of the same size here
    small = nn.Sequential(*model[:2], nn.MaxPool2d(4), model[2], nn.Flatten(), nn.Linear(96, 5)).eval()
    weights = xc.attention_map(small, inputs)
    made = xc.attribute(small, inputs, method="attention")
    assert torch.equal(made.values, interpolate(weights, size=(16, 16), mode="bilinear", align_corners=False))
    assert torch.equal(made.values, xc.attribute(small, inputs, 0, "attention").values), "of no class"


@over("follow", [False, True])
@over("gammas", [(0.25,), (0.0, 0.5, 2.0)])
def test_extended_lrp_is_the_mean_of_single_maps(gammas: tuple[float, ...], follow: bool) -> None:
    model, inputs = attended().double(), net_and_inputs("attended")[1].double()
    attention = "follow" if follow else "constant"
    target, logits = torch.tensor([0, 3, 1]), model(inputs).detach()
    for classes in (1, 3, (4, 1)):
        made = xc.attribute(model, inputs, target, "extended_lrp", gammas=gammas, classes=classes, follow=follow)
        maps = []
        for n in range(3):
            ranked = [int(c) for c in logits[n].argsort(descending=True) if c != target[n]]
            own = classes if isinstance(classes, tuple) else [int(target[n]), *ranked[: classes - 1]]
            for c in own:
                maps += [single(model, inputs[n : n + 1], c, g, attention)[0] for g in gammas]
        expected = torch.stack(maps).unflatten(0, (3, -1)).mean(1)
        torch.testing.assert_close(made.values, expected)
        assert (made.residual.abs() <= 1e-8 * made.score.abs().clamp_min(1)).all()


def test_without_biases_the_values_sum_to_the_score() -> None:
    model, inputs = attended().double(), net_and_inputs("attended")[1].double()
    for layer in (0, 4, 7):
        nn.init.zeros_(model[layer].bias)
    made = xc.attribute(model, inputs, method="extended_lrp", gammas=(0.25,))
    torch.testing.assert_close(made.total, made.score, rtol=1e-3, atol=1e-4)


@over("settings", [{}, {"gammas": (0.1,), "classes": 2, "follow": True}], ids=str)
def test_refined_is_attention_times_relevance(settings: dict) -> None:
    model, inputs = net_and_inputs("attended")
    both = xc.attribute(model, inputs, 2, "attention_refined_lrp", **settings)
    relevance = xc.attribute(model, inputs, 2, "extended_lrp", **settings)
    attention = xc.attribute(model, inputs, 2, "attention")
    torch.testing.assert_close(both.values, attention.values * relevance.values)
    torch.testing.assert_close(both.total, (attention.values * relevance.values).sum((1, 2, 3)))
    assert both.residual is None


def test_refined_with_equal_attention_is_relevance_over_the_number_of_positions() -> None:
    model, inputs = attended(), net_and_inputs("attended")[1]
    nn.init.zeros_(model[2].scorer[2].weight)
    both = xc.attribute(model, inputs, 2, "attention_refined_lrp")
    relevance = xc.attribute(model, inputs, 2, "extended_lrp")
    torch.testing.assert_close(both.values * 16**2, relevance.values)


@over("method", ["attention", "extended_lrp", "attention_refined_lrp"])
def test_without_a_module_the_error_says_how_to_add_one(method: str) -> None:
    with pytest.raises(xc.UnsupportedModelError, match=rf"{method}: .* no attention module.*attend\(model, after="):
        xc.attribute(*net_and_inputs("cnn"), method=method)


def test_settings_that_do_not_fit_are_told() -> None:
    model, inputs = net_and_inputs("attended")
    for settings, words in (
        ({"classes": 6}, "classes=6; expected at most 5"),
        ({"classes": (5,)}, "target holds 5"),
        ({"gammas": ()}, "expected at least one of each"),
        ({"gammas": (-1.0,)}, "greater than or equal to 0"),
    ):
        with pytest.raises(xc.XaiCompareError, match=words):
            xc.attribute(model, inputs, 0, "extended_lrp", **settings)


def test_an_attended_copy_is_explained_and_gradcam_looks_past_its_scorer() -> None:
    torch.manual_seed(0)
    plain = cnn()
    model, inputs = xc.attend(plain, "5"), torch.randn(2, 3, 16, 16)
    made = xc.attribute(model, inputs, method="extended_lrp")
    assert made.status == "ok"
    torch.testing.assert_close(
        xc.attribute(model, inputs, 1, "gradcam").values, xc.attribute(plain, inputs, 1, "gradcam").values
    )
