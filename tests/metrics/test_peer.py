"""Quantus's metrics under our interface, and our own metrics against Quantus's where both mean the same."""

import logging
import pickle
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_removal import explained
from torch import Tensor, nn

import xaicompare as xc
from xaicompare.methods import InputXGradient, Saliency
from xaicompare.metrics import QuantusMetric, peer
from xaicompare.registry import METRICS
from xaicompare.study.spec import Study

pytest.importorskip("quantus", reason="Quantus is an extra", exc_type=ImportError)

NAMES = sorted(peer._peers())
# Few steps, so that all metrics together take seconds.
QUICK = {"nr_samples": 4, "nr_runs": 20, "n_perturb_samples": 2, "subset_size": 16, "k": 10, "nr_steps": 4}
ALWAYS_REFUSED = {"BatchSufficiency", "Consistency", "Focus", "SensitivityN", "Sufficiency"}


def net(channels: int, classes: int = 5) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, classes),
    ).eval()


def case(channels: int, side: int = 16, n: int = 3) -> tuple[nn.Module, xc.Attribution, Tensor]:
    """A network, what input x gradient says of images, and masks."""
    model, inputs = net(channels), torch.rand(n, channels, side, side)
    masks = torch.zeros(n, side, side, dtype=torch.bool)
    masks[:, 4:10, 4:12] = True
    return model, xc.attribute(model, inputs, method=InputXGradient()), masks


def quick(name: str) -> Any:
    """The metric with few steps; of features, as many at once as it can take."""
    known = METRICS[f"quantus:{name}"].__dataclass_fields__
    settings = {key: value for key, value in QUICK.items() if key in known}
    if "features_in_step" in known and name != "NonSensitivity":  # which fails on any other number than 1
        settings["features_in_step"] = 16
    if "return_nan_when_prediction_changes" in known:
        settings["return_nan_when_prediction_changes"] = False
    return METRICS.build(f"quantus:{name}", **settings)


def _numpy_state() -> np.ndarray:
    return np.random.get_state()[1].copy()  # noqa: NPY002 (the legacy global is what Quantus moves)


def first(made: xc.Attribution, image: int) -> xc.Attribution:
    part = slice(image, image + 1)
    return replace(made, **{name: getattr(made, name)[part] for name in ("values", "inputs", "target", "score")})


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
@pytest.mark.parametrize("name", NAMES)
def test_every_metric_gives_values_or_says_why_not(name: str, channels: int) -> None:
    model, made, masks = case(channels)
    if name in ALWAYS_REFUSED:
        with pytest.raises(xc.UnsupportedModelError, match=f"quantus:{name}: Quantus .*(expected|own)"):
            METRICS[f"quantus:{name}"]
        return
    metric = quick(name)
    given = masks if metric.traits.masks else None
    before = torch.get_rng_state(), _numpy_state(), random.getstate(), list(logging.root.handlers)
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    values = metric(model, made, given)
    assert values.shape == (3,)
    assert values.isfinite().all()
    torch.testing.assert_close(values[1:2], metric(model, first(made, 1), None if given is None else masks[1:2]))
    assert torch.get_rng_state().equal(before[0])
    assert (_numpy_state() == before[1]).all()
    assert (random.getstate(), logging.root.handlers) == before[2:]
    assert all(tensor.equal(weights[key]) for key, tensor in model.state_dict().items())


class Grey(nn.Module):
    """A classifier of one channel, for the mean of three; it changes its mind easily."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(256, 20))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.mean(1, keepdim=True))


@pytest.mark.parametrize("absolute", [False, True])
def test_road_of_colours_is_that_of_their_grey(absolute: bool) -> None:
    model, grey = Grey().eval(), torch.rand(3, 1, 16, 16)
    made = xc.attribute(model.inner, grey, method=InputXGradient())
    coloured = replace(made, inputs=grey.expand(-1, 3, -1, -1).clone())
    settings = {"percentages": [10, 33, 60, 90], "noise": 0.0, "abs": absolute}
    expected = xc.score(model.inner, made, "quantus:ROAD", **settings)
    torch.testing.assert_close(xc.score(model, coloured, "quantus:ROAD", **settings), expected)
    assert 0 < float(expected.mean()) < 1


def test_irof_of_colours_by_hand() -> None:
    from quantus.helpers.utils import get_superpixel_segments

    model, made, _ = case(3, side=32, n=2)
    found = xc.score(model, made, "quantus:IROF", perturb_baseline="mean")
    for image in range(2):
        x, values = made.inputs[image], made.map[image]
        segments = torch.tensor(get_superpixel_segments(x.permute(1, 2, 0).double().numpy(), "slic"))
        means = torch.stack([values[segments == segment].mean() for segment in segments.unique()])
        changed, kept = x.clone(), []
        before = model(x[None]).softmax(1)[0, made.target[image]]
        for segment in means.argsort(descending=True):
            # Quantus takes the mean of what is left, over all channels at once.
            changed = torch.where(segments == segment, changed.mean(), changed)
            kept.append(model(changed[None]).softmax(1)[0, made.target[image]] / before)
        area = len(kept) - torch.trapezoid(torch.stack(kept)).item()
        assert float(found[image]) == pytest.approx(area, rel=1e-4)


def test_it_is_quiet(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """Quantus prints when abs is off where its paper has it on."""
    model, made, _ = case(1)
    METRICS.build("quantus:Sparseness", abs=False)(model, made)
    METRICS.build("quantus:ROAD", percentages=[10])(model, made)
    assert capfd.readouterr() == ("", "")


class TestDirectly:
    """What our interface returns is what Quantus returns for that image, called by hand."""

    def by_hand(self, name: str, model: nn.Module, made: xc.Attribution, image: int, **settings: Any) -> Any:
        import quantus

        one = first(made, image)

        def explain(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
            images = torch.as_tensor(inputs).float().requires_grad_()
            score = model(images)[torch.arange(len(images)), torch.as_tensor(targets)].sum()
            return (images * torch.autograd.grad(score, images)[0]).sum(1, keepdim=True).detach().numpy()

        with peer._quiet():
            metric = getattr(quantus, name)(normalise=False, disable_warnings=True, **settings)
            return metric(
                model=model,
                x_batch=one.inputs.numpy(),
                y_batch=one.target.numpy(),
                a_batch=one.map[:, None].numpy(),
                channel_first=True,
                explain_func=explain,
            )

    @pytest.mark.parametrize(
        ("name", "settings"),
        [
            ("Complexity", {}),
            ("FaithfulnessEstimate", {"features_in_step": 16}),
            ("Infidelity", {"n_perturb_samples": 2}),
            ("EfficientMPRT", {"seed": 3}),
        ],
    )
    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_number(self, name: str, settings: dict[str, Any], channels: int) -> None:
        model, made, _ = case(channels)
        values = xc.score(model, made, f"quantus:{name}", **settings)
        expected = [float(self.by_hand(name, model, made, image, **settings)[0]) for image in range(3)]
        assert values.tolist() == pytest.approx(expected, rel=1e-4)

    def test_a_curve_becomes_its_mean(self) -> None:
        model, made, _ = case(3)
        values = xc.score(model, made, "quantus:PixelFlipping", features_in_step=64)
        curves = [self.by_hand("PixelFlipping", model, made, image, features_in_step=64)[0] for image in range(3)]
        assert len(curves[0]) == 12
        assert values.tolist() == pytest.approx(np.mean(curves, axis=1).tolist(), rel=1e-4)

    def test_shares_become_their_mean(self) -> None:
        model, made, _ = case(1)
        values = xc.score(model, made, "quantus:ROAD", percentages=[20, 60], noise=0.0)
        expected = [
            np.mean(list(self.by_hand("ROAD", model, made, i, percentages=[20, 60]).values())) for i in (0, 1, 2)
        ]
        assert values.tolist() == pytest.approx(expected)

    def test_the_untouched_model_of_mprt_does_not_count(self) -> None:
        model, made, _ = case(3)
        values = xc.score(model, made, "quantus:MPRT", seed=5)
        for image, value in enumerate(values.tolist()):
            layers = self.by_hand("MPRT", model, made, image, seed=5)
            assert layers.pop("original")[0] == pytest.approx(1)
            assert value == pytest.approx(np.mean(list(layers.values())), rel=1e-4)


class TestAgreement:
    """Ours and Quantus's, with the settings in which they mean the same."""

    def both(self, ours: str, theirs: str, made: Any, **settings: Any) -> tuple[Tensor, Tensor]:
        model, attribution, masks = made
        told = settings.pop("told", {})
        given = masks if METRICS[ours].traits.masks else None
        mine = xc.score(model, attribution, ours, given, **settings)
        return mine, xc.score(model, attribution, f"quantus:{theirs}", given, **told)

    @pytest.mark.parametrize(
        ("ours", "theirs", "settings"),
        [
            ("sparseness", "Sparseness", {"told": {"normalise": True}}),  # it adds 1e-7 to values
            ("complexity", "Complexity", {}),
            (
                "effective_complexity",
                "EffectiveComplexity",
                {"told": {"normalise": True, "eps": 0.3}, "threshold": 0.3},
            ),
            ("pointing_game", "PointingGame", {}),
            ("relevance_rank", "RelevanceRankAccuracy", {}),
            ("top_k_intersection", "TopKIntersection", {"told": {"k": 26}, "share": 0.1}),
            ("attribution_auc", "AUC", {}),
        ],
    )
    @pytest.mark.parametrize("channels", [1, 3])
    def test_exactly(self, ours: str, theirs: str, settings: dict[str, Any], channels: int) -> None:
        mine, other = self.both(ours, theirs, case(channels), **settings)
        other = other / 256 if ours == "effective_complexity" else other
        torch.testing.assert_close(mine.double(), other.double(), rtol=1e-4, atol=1e-5)

    def test_relevance_mass_of_maps_without_negative_values(self) -> None:
        """Quantus's own denominator is the signed sum, which leaves 0 to 1 and can be anything."""
        model, made, masks = case(3)
        positive = replace(made, values=made.values.abs())
        mine, other = self.both("relevance_mass", "RelevanceMassAccuracy", (model, positive, masks))
        torch.testing.assert_close(mine.float(), other, rtol=1e-4, atol=1e-5)

    def test_curves_of_pixels_and_patches(self) -> None:
        """Quantus's leave out the untouched image; on grey images, where a pixel is one value to both."""
        model, made, _ = case(1, side=32)
        shares = [step / 16 for step in range(17)]
        settings: dict[str, Any] = {"order": "most", "fill": 0.0, "shares": shares}
        mine = xc.curve(model, made, "pixel_flipping", **settings).values[:, 1:].mean(1)
        other = xc.score(model, made, "quantus:PixelFlipping", features_in_step=64, perturb_baseline=0.0)
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
        by_patch = {"fill": 0.0, "shares": shares, "n_features": 16, "of": "probability"}
        mine = xc.curve(model, made, "selectivity", **by_patch).values[:, 1:].mean(1)
        other = xc.score(model, made, "quantus:Selectivity", patch_size=8, perturb_baseline=0.0)
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)

    def test_road_on_grey_images(self) -> None:
        """Both solve one linear system; noise is drawn by each for itself."""

        class Bright(nn.Module):
            """Whether the middle is brighter than the rest."""

            def forward(self, x: Tensor) -> Tensor:
                evidence = x[:, :, 6:10, 6:10].mean((1, 2, 3)) - 0.55
                return torch.stack([-9 * evidence, 9 * evidence], 1)

        draws = torch.Generator().manual_seed(0)
        inputs = 0.5 * torch.rand(12, 1, 16, 16, generator=draws)
        inputs[:, :, 6:10, 6:10] += 0.6
        values = inputs + 0.5 * torch.randn(inputs.shape, generator=draws)
        made = explained(Bright(), inputs, values)
        assert made.inputs.dtype == torch.float32
        told = list(range(5, 100, 5))
        settings = {"order": "most", "of": "accuracy", "shares": [share / 100 for share in told]}
        mine = xc.curve(Bright(), made, "road", **settings).mean()
        other = xc.score(Bright(), made, "quantus:ROAD", percentages=told)
        assert 0.1 < float(mine.mean()) < 0.9
        assert float((mine - other).abs().max()) <= 2 / len(told)
        assert float(torch.corrcoef(torch.stack([mine, other]))[0, 1]) > 0.95

    def test_sensitivities_in_the_mean(self) -> None:
        """Both draw uniform noise, each its own; on grey images, where the map summed over channels is the map."""
        model, made, _ = case(1)
        mine = xc.score(model, made, "avg_sensitivity", radius=0.2, n_samples=200)
        other = xc.score(model, made, "quantus:AvgSensitivity", nr_samples=200)
        torch.testing.assert_close(mine, other, rtol=0.05, atol=0)
        mine = xc.score(model, made, "max_sensitivity", radius=0.2, n_samples=200)
        other = xc.score(model, made, "quantus:MaxSensitivity", nr_samples=200)
        torch.testing.assert_close(mine, other, rtol=0.25, atol=0)  # the largest of 200 settles slowly

    def test_lipschitz_of_a_linear_model(self) -> None:
        """Input x gradient of constant weights changes by the weight, whatever the noise."""
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        nn.init.constant_(model[1].weight, 3.0)
        made = xc.attribute(model, torch.rand(2, 1, 8, 8), 1, InputXGradient())
        for name in ("local_lipschitz", "quantus:LocalLipschitzEstimate"):
            torch.testing.assert_close(xc.score(model, made, name), torch.full((2,), 3.0), rtol=1e-4, atol=0)

    def test_faithfulness_correlation_in_the_mean(self) -> None:
        """Over random subsets of a quarter of the pixels, set to 0."""
        model, made, _ = case(1)
        mine = xc.score(model, made, "faithfulness_correlation", share=0.25, n_subsets=1500, fill=0.0)
        settings = {"nr_runs": 1500, "subset_size": 64, "perturb_baseline": 0.0}
        other = xc.score(model, made, "quantus:FaithfulnessCorrelation", **settings)
        torch.testing.assert_close(mine.float(), other, atol=0.08, rtol=0)

    def test_infidelity_prefers_the_same_map(self) -> None:
        """Perturbations differ; of a gradient and its negative both prefer the gradient."""
        model, inputs = net(1), torch.rand(4, 1, 16, 16)
        right = xc.attribute(model, inputs, 1, Saliency(absolute=False))
        wrong = replace(right, values=-right.values)
        for name in ("infidelity", "quantus:Infidelity"):
            assert (xc.score(model, right, name) < xc.score(model, wrong, name)).all(), name


class TestNames:
    def test_label_settings_and_copies(self) -> None:
        metric = METRICS.build("quantus:MaxSensitivity", nr_samples=5)
        assert isinstance(metric, QuantusMetric)
        assert metric.label() == "quantus:MaxSensitivity(nr_samples=5)"
        assert (metric.traits.family, metric.higher_is_better) == ("peer", False)
        assert pickle.loads(pickle.dumps(metric)) == metric
        assert METRICS["quantus:MaxSensitivity"] is type(metric)
        assert "quantus:MaxSensitivity" in METRICS
        assert METRICS["quantus:AUC"].traits.masks

    @pytest.mark.parametrize(
        ("name", "settings", "told"),
        [
            ("quantus:MaxSensitivty", {}, "unknown metric of Quantus 'MaxSensitivty'; did you mean 'MaxSensitivity'?"),
            ("quantum:ROAD", {}, "unknown metric 'quantum:ROAD'; .*quantus:..."),
            (
                "quantus:ROAD",
                {"percentage": [1]},
                "unknown setting of quantus:ROAD 'percentage'; did you mean 'percentages'",
            ),
            ("quantus:ROAD", {"seed": -1}, "quantus:ROAD: seed=-1; expected greater than or equal to 0"),
        ],
    )
    def test_mistakes(self, name: str, settings: dict[str, Any], told: str) -> None:
        with pytest.raises(xc.XaiCompareError, match=told):
            METRICS.build(name, **settings)

    def test_without_quantus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "quantus", None)
        monkeypatch.setattr(peer, "_peers", peer._peers.__wrapped__)
        with pytest.raises(xc.XaiCompareError, match=r"need Quantus.*pip install 'xaicompare-torch\[quantus\]'"):
            METRICS["quantus:ROAD"]

    def test_in_a_study_file(self) -> None:
        content = {
            "data": "digits",
            "model": "small_cnn",
            "methods": ["saliency"],
            "metrics": [{"name": "quantus:MaxSensitivity", "nr_samples": 3}],
        }
        assert list(Study.from_dict(content).metrics) == ["quantus:MaxSensitivity(nr_samples=3)"]
        for name, told in (("quantus:Bogus", "metric of Quantus 'Bogus'"), ("quantus:Focus", "mosaics"), ("x", "'x'")):
            with pytest.raises(xc.StudyError, match=told):
                Study.from_dict(content | {"metrics": [name]})

    def test_only_float32_images(self) -> None:
        model = nn.Linear(4, 2)
        made = xc.attribute(model, torch.rand(2, 4), 1, "saliency")
        with pytest.raises(xc.InputError, match=r"quantus:Complexity: inputs are torch.float32 of shape \(2, 4\)"):
            xc.score(model, made, "quantus:Complexity")
        double, images = net(1).double(), torch.rand(2, 1, 16, 16).double()
        with pytest.raises(xc.InputError, match=r"inputs are torch\.float64"):
            xc.score(double, xc.attribute(double, images, 1, "saliency"), "quantus:Complexity")

    def test_what_is_not_finite_is_an_error(self) -> None:
        model, made, _ = case(1)
        with pytest.raises(xc.UnsupportedModelError, match="quantus:Complexity: Quantus returns nan for sample 0"):
            xc.score(model, made, "quantus:Complexity", abs=False)
