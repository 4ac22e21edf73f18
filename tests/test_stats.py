"""Bootstrap intervals against slow and known ones; the leaderboard against results made by hand."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from xaicompare.errors import DataError, InputError, SettingError, UnknownNameError
from xaicompare.results import Results
from xaicompare.stats import (
    Interval,
    bootstrap_interval,
    bootstrap_intervals,
    is_control,
    leaderboard,
    paired_difference,
    removal_bands,
)

SHARES = (0.0, 0.2, 0.6)


def made(curves: dict[str, dict[str, np.ndarray]], **changed: object) -> Results:
    """Results of signed confidences (images, SHARES) by method and order; the rest follows from them."""
    parts = []
    for method, orders in curves.items():
        for order, signed in orders.items():
            images, shares = np.indices(signed.shape)
            common = {
                "model": "mlp",
                "dataset": "digits",
                "method": method,
                "image": images.ravel(),
                "target": 0,
                "label": 0,
                "predicted": 0,
                "metric": "confidence_removal",
                "order": order,
                "share": np.array(SHARES)[shares.ravel()],
                "seconds": 0.1 + images.ravel(),
                **changed,
            }
            quantities = {
                "signed_confidence": signed,
                "confidence": np.abs(signed),
                "misclassified": (signed < 0).astype(float),
            }
            parts += [
                Results.from_columns({**common, "quantity": name, "value": values.ravel()})
                for name, values in quantities.items()
            ]
    return Results.joined(parts)


def constant(*by_share: float, images: int = 5) -> np.ndarray:
    return np.tile(by_share, (images, 1))


def slow_percentiles_of_means(values: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(values), size=(resamples, len(values)))
    return np.sort([values[draw].mean() for draw in draws])


@pytest.mark.parametrize("n", [2, 9, 40])
def test_interval_is_scipys_bca(n: int) -> None:
    values = np.random.default_rng(n).integers(0, 100, size=n) ** 2 / 64  # sums without rounding: ties are ties
    expected = scipy_stats.bootstrap((values,), np.mean, n_resamples=999, rng=np.random.default_rng(7))
    found = bootstrap_interval(values, seed=7, resamples=999)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    np.testing.assert_allclose(found[1:], expected.confidence_interval, atol=1e-12)


def test_symmetric_values_give_the_plain_percentiles() -> None:
    # Without bias and skew, BCa is the percentile bootstrap.
    half = np.random.default_rng(0).normal(size=50)
    values = np.concatenate([half, -half])
    means = slow_percentiles_of_means(values, seed=0, resamples=2000)
    bias = np.mean(means < values.mean())
    assert bias == pytest.approx(0.5, abs=0.05)
    level = scipy_stats.norm.cdf(2 * scipy_stats.norm.ppf(bias) + scipy_stats.norm.ppf([0.025, 0.975]))
    np.testing.assert_allclose(bootstrap_interval(values)[1:], np.quantile(means, level), atol=1e-9)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_interval_moves_and_stretches_with_its_values(n: int) -> None:
    # A third of all resamples of so few values tie with their mean, which rounding must not decide.
    whole = np.random.default_rng(n).integers(0, 100, size=n).astype(float)
    np.testing.assert_allclose(bootstrap_interval(whole * 0.1 + 0.7), np.multiply(bootstrap_interval(whole), 0.1) + 0.7)


def test_large_samples_give_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(3, 2, size=2000)
    error = values.std(ddof=1) / np.sqrt(len(values))
    _, low, high = bootstrap_interval(values, resamples=4000)
    np.testing.assert_allclose([low, high], values.mean() + np.array([-1.96, 1.96]) * error, atol=0.15 * error)


def test_skewed_values_push_the_interval_to_their_tail() -> None:
    mean, low, high = bootstrap_interval(np.random.default_rng(2).exponential(size=30) ** 2)
    assert high - mean > mean - low > 0


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    draws = np.random.default_rng(3).normal(1, 1, size=(100, 800))
    _, low, high = bootstrap_intervals(draws, level=0.9)
    assert np.mean((low <= 1) & (high >= 1)) == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("values", [[0.1], [0.1] * 7, [1e300, 1e300]])
def test_no_spread_gives_no_width(values: list[float]) -> None:
    assert bootstrap_interval(values) == Interval(values[0], values[0], values[0])


def test_columns_are_what_they_are_alone() -> None:
    values = np.random.default_rng(4).normal(size=(25, 3)) ** 3
    together = bootstrap_intervals(values, seed=5)
    for column in range(3):
        np.testing.assert_allclose(together[:, column], bootstrap_interval(values[:, column], seed=5), atol=1e-12)


def test_resampling_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(6).normal(size=50)
    whole = bootstrap_interval(values)
    monkeypatch.setattr("xaicompare.stats.intervals._MOST_DRAWS", 333)
    np.testing.assert_allclose(bootstrap_interval(values), whole, atol=1e-12)


def test_seed_and_level_matter_and_repeat() -> None:
    values = np.random.default_rng(8).normal(size=20)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)
    wide, narrow = bootstrap_interval(values, level=0.99), bootstrap_interval(values, level=0.5)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("resamples", [1, 2])
def test_few_resamples_stay_defined(resamples: int) -> None:
    assert np.isfinite(bootstrap_interval([0.0, 1.0, 5.0], resamples=resamples)).all()


def test_bad_values_are_refused() -> None:
    for values in ([], [[1.0]], [1.0, np.nan], [np.inf]):
        with pytest.raises(InputError):
            bootstrap_interval(values)
    with pytest.raises(SettingError, match="level=95"):
        bootstrap_interval([1.0, 2.0], level=95)
    with pytest.raises(SettingError, match="resamples"):
        bootstrap_interval([1.0, 2.0], resamples=0)


def test_paired_difference_sees_what_unpaired_spread_hides() -> None:
    a = np.random.default_rng(9).normal(0, 10, size=40)
    b = a - 0.1 + np.random.default_rng(10).normal(0, 0.01, size=40)
    assert bootstrap_interval(a).low < 0 < bootstrap_interval(a).high
    difference = paired_difference(a, b)
    assert 0.09 < difference.low < difference.mean < difference.high < 0.11
    assert paired_difference(b, a).mean == pytest.approx(-difference.mean)
    with pytest.raises(InputError, match="same images"):
        paired_difference(a, b[:-1])


def test_leaderboard_by_hand() -> None:
    good = {"most": constant(0.9, 0.3, -0.5), "least": constant(0.9, 0.8, 0.6), "random": constant(0.9, 0.5, -0.2)}
    chance = {"most": constant(0.9, 0.5, 0.1), "least": constant(0.9, 0.5, 0.1)}
    first, second = leaderboard(made({"random": chance, "lrp": good})).to_dict("records")
    assert first == pytest.approx(
        {
            "model": "mlp",
            "dataset": "digits",
            "method": "lrp",
            "gain": (0.8 + 0.6) / 2 - (0.3 - 0.5) / 2,
            "gain_low": 0.8,
            "gain_high": 0.8,
            "beats_random": "yes",
            "confidence_most": 0.4,
            "confidence_least": 0.7,
            "misclassified_most": 1.0,
            "strongest_correct": 0.8,
            "strongest_correct_low": 0.8,
            "strongest_correct_high": 0.8,
            "strongest_incorrect": 0.5,
            "strongest_incorrect_low": 0.5,
            "strongest_incorrect_high": 0.5,
            "seconds": 2.1,
            "images": 5,
        }
    )
    assert (second["method"], second["gain"], second["beats_random"]) == ("random", 0, "-")
    assert np.isnan(second["strongest_incorrect"])


def noisy(gain: float, seed: int, images: int = 30) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(seed).normal(0, 0.1, size=(images, len(SHARES)))
    return {"most": noise + 0.5 - gain / 2, "least": noise + 0.5 + gain / 2 + 0.01 * noise[::-1]}


def test_beats_random_needs_a_clear_difference() -> None:
    curves = {"random": noisy(0, 0), "lrp": noisy(0.3, 1), "lime": noisy(0, 2), "cam": noisy(-0.3, 3)}
    curves |= {"edges": noisy(0.5, 4), "center": noisy(0.1, 5)}
    board = leaderboard(made(curves)).set_index("method")
    assert list(board.index[:2]) == ["edges", "lrp"]
    assert board.index[-1] == "cam"
    assert board["beats_random"].to_dict() == {
        "edges": "-",
        "lrp": "yes",
        "center": "-",
        "lime": "no",
        "random": "-",
        "cam": "no",
    }
    assert ((board["gain_low"] < board["gain"]) & (board["gain"] < board["gain_high"])).all()


def test_another_control_and_none() -> None:
    results = made({"edges": noisy(0.5, 0), "lrp": noisy(0.3, 1)})
    assert leaderboard(results, control="edges").set_index("method")["beats_edges"]["lrp"] == "no"
    assert leaderboard(results).set_index("method")["beats_random"]["lrp"] == "-"


def test_methods_are_paired_on_the_images_both_have() -> None:
    # The control's other images would turn the answer.
    random = {order: np.concatenate([signed, signed + hard]) for order, signed, hard in _with_hard_images()}
    results = made({"lrp": noisy(0.2, 1), "random": random})
    board = leaderboard(results).set_index("method")
    assert board["gain"]["random"] > board["gain"]["lrp"]
    assert board["beats_random"]["lrp"] == "yes"
    assert board["images"].to_dict() == {"lrp": 30, "random": 60}


def _with_hard_images() -> list[tuple[str, np.ndarray, float]]:
    easy = noisy(0, 0)
    return [("most", easy["most"], -0.5), ("least", easy["least"], 0.5)]


def test_models_and_data_sets_stay_apart() -> None:
    mlp = made({"lrp": noisy(0.1, 0), "random": noisy(0, 1)})
    cnn = made({"lrp": noisy(0.4, 2), "random": noisy(0, 3)}, model="cnn")
    board = leaderboard(Results.joined([mlp, cnn]))
    assert list(board["model"]) == ["cnn", "cnn", "mlp", "mlp"]
    assert board.iloc[:2]["gain"].tolist() == leaderboard(cnn)["gain"].tolist()


def test_leaderboard_says_what_is_missing() -> None:
    whole = made({"lrp": noisy(0.1, 0)})
    with pytest.raises(DataError, match="lack the quantities misclassified"):
        leaderboard(Results(whole.table[whole.table["quantity"] != "misclassified"]))
    with pytest.raises(DataError, match="lack the order 'least'"):
        leaderboard(whole.where(order="most"))
    with pytest.raises(DataError, match="recorded twice"):
        leaderboard(Results.joined([whole, whole]))
    with pytest.raises(DataError, match="missing or NaN"):
        leaderboard(Results(whole.table.iloc[:-1]))
    with pytest.raises(UnknownNameError, match="metric"):
        leaderboard(whole, metric="infidelity")


def test_removal_bands_are_the_intervals_over_images() -> None:
    curves = noisy(0.2, 0)
    bands = removal_bands(made({"lrp": curves}), "signed_confidence")
    assert list(bands["share"]) == [*SHARES, *SHARES]
    for order, signed in curves.items():
        found = bands[bands["order"] == order][["mean", "low", "high"]].to_numpy()
        np.testing.assert_allclose(found, [bootstrap_interval(column) for column in signed.T], atol=1e-12)


def test_untouched_images_start_every_order() -> None:
    whole = made({"lrp": noisy(0.2, 0)})
    table = whole.table[(whole.table["share"] > 0) | (whole.table["order"] == "most")].copy()
    table.loc[table["share"] == 0, "order"] = None
    bands = removal_bands(Results(table), "signed_confidence")
    starts = bands[bands["share"] == 0]
    assert list(starts["order"]) == ["most", "least"]
    assert starts["mean"].nunique() == 1


def test_removal_bands_want_one_model() -> None:
    both = Results.joined([made({"lrp": noisy(0, 0)}), made({"lrp": noisy(0, 0)}, model="cnn")])
    with pytest.raises(DataError, match="models mlp, cnn"):
        removal_bands(both, "confidence")
    assert len(removal_bands(both.where(model="cnn"), "confidence")) == 2 * len(SHARES)


@pytest.mark.parametrize("label", ["random", "edges", "center", "random(seed=3)", "center(width=0.5)"])
def test_controls_are_known_by_their_names(label: str) -> None:
    assert is_control(label)
    assert not is_control(f"lrp_{label}")
