"""Tests between methods: against scipy called directly, a published example, and cases done by hand."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats as scipy_stats

import xaicompare as xc
from xaicompare.errors import DataError, UnknownNameError
from xaicompare.results import Results
from xaicompare.stats import comparison, leads
from xaicompare.stats.ranking import ranking
from xaicompare.stats.training import holm


def recorded(values: dict[str, np.ndarray], metric: str = "road", better: str = "high", **changed: str) -> Results:
    """Results of one metric: an array (images,) by method."""
    parts = []
    for method, of_images in values.items():
        columns = {"model": "mlp", "dataset": "digits", "method": method, "image": np.arange(len(of_images))}
        columns |= {"target": 0, "label": 0, "predicted": 0, "metric": metric, "quantity": "value", "order": None}
        columns |= {"share": np.nan, "value": of_images, "seconds": 0.1, "family": "removal", "better": better}
        parts.append(Results.from_columns({**columns, **changed}))
    return Results.joined(parts)


def noisy(mean: float, seed: int, images: int = 40) -> np.ndarray:
    return mean + np.random.default_rng(seed).normal(0, 0.1, images)


FOUR = {"lrp": noisy(0.5, 0), "lime": noisy(0.45, 1), "random": noisy(0.1, 2), "constant": noisy(0.1, 3)}


def test_pairs_are_scipys_wilcoxon_tests_with_holms_correction() -> None:
    table = xc.paired_tests(recorded(FOUR))
    assert [(row.method, row.other) for row in table.itertuples()] == list(combinations(FOUR, 2))
    expected = [scipy_stats.wilcoxon(FOUR[a], FOUR[b]).pvalue for a, b in combinations(FOUR, 2)]
    np.testing.assert_allclose(table["p"], expected)
    np.testing.assert_allclose(table["p_holm"], holm(expected))
    expected = [(FOUR[a] - FOUR[b]).mean() for a, b in combinations(FOUR, 2)]
    np.testing.assert_allclose(table["difference"], expected, atol=1e-6)  # values are rounded to a millionth
    assert ((table["low"] < table["difference"]) & (table["difference"] < table["high"])).all()
    assert set(table["winner"]) == {"lrp", "lime", ""}


def test_the_better_one_wins_also_where_low_is_good() -> None:
    low = xc.paired_tests(recorded(FOUR, better="low"))
    assert set(low[low["method"].eq("lrp") & low["other"].eq("random")]["winner"]) == {"random"}


def test_friedman_and_ranks_are_scipys() -> None:
    found = xc.ranks(recorded(FOUR), "road")
    assert found.p == pytest.approx(scipy_stats.friedmanchisquare(*FOUR.values()).pvalue)
    expected = scipy_stats.rankdata(-np.stack(list(FOUR.values())), axis=0).mean(1)
    np.testing.assert_allclose(found.table.loc[list(FOUR), "rank"], expected)
    upside_down = xc.ranks(recorded(FOUR, better="low"), "road")
    np.testing.assert_allclose(upside_down.table["rank"], 5 - found.table["rank"])


def test_critical_difference_is_the_published_one() -> None:
    """Demsar 2006, section 3.2.2: four classifiers on 14 data sets have a critical difference of 1.25."""
    values = recorded({name: noisy(0, seed, 14) for seed, name in enumerate("abcd")})
    found = xc.ranks(values, "road")
    assert found.critical == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    gap = found.nemenyi.copy()
    for a, b in combinations("abcd", 2):  # p is below 0.05 just where ranks lie farther apart than that
        apart = abs(found.table["rank"][a] - found.table["rank"][b])
        assert (gap.loc[a, b] < 0.05) == (apart > found.critical)


def test_resampled_places_by_hand() -> None:
    images, rng = 12, np.random.default_rng(5)
    values = {"a": rng.normal(0.0, 1, images), "b": rng.normal(0.1, 1, images), "c": np.full(images, -9.0)}
    found = xc.ranks(recorded(values), "road")
    draws = np.random.default_rng(0).integers(images, size=(2000, images))
    means = np.stack([[values[name][draw].mean() for name in "abc"] for draw in draws])
    places = scipy_stats.rankdata(-means, axis=1)
    np.testing.assert_allclose(found.table["first"], (places == 1).mean(0))
    assert found.table.loc["c", ["rank_low", "rank_high"]].tolist() == [3, 3]
    usual = np.argsort([values[name].mean() for name in "abc"])
    taus = [scipy_stats.kendalltau(usual.argsort(), mean.argsort().argsort()).statistic for mean in means]
    assert found.tau == pytest.approx(np.mean(taus))


def test_standings_rank_and_mark() -> None:
    values = {**FOUR, "cam": noisy(0.12, 7), "saliency": noisy(0.1, 8)}
    table = xc.standings(recorded(values)).set_index("method")
    assert list(table.index[:2]) == ["lrp", "lime"]
    assert table["beats"].to_dict() == {
        **{"lrp": "yes", "lime": "yes", "cam": "no", "saliency": "no"},
        **{"random": "-", "constant": "-"},
    }
    assert table["unbeaten"]["saliency"] == "random, constant"
    assert ((table["low"] < table["mean"]) & (table["mean"] < table["high"])).all()


def test_a_winner_is_ahead_in_rank_and_in_mean() -> None:
    """Worse on nearly all images, and much better on two: the rank test is clear, its direction is not the mean's."""
    values = {"lrp": np.array([-0.1 - 0.001 * k for k in range(28)] + [10.0, 10.0]), "random": np.zeros(30)}
    (row,) = xc.paired_tests(recorded(values)).to_dict("records")
    assert row["p_holm"] < 0.001
    assert row["difference"] > 0
    assert row["winner"] == ""
    assert xc.standings(recorded(values)).set_index("method")["beats"]["lrp"] == "no"


@pytest.mark.parametrize("images", [1, 6, 13, 14, 60])
def test_wilcoxons_p_is_scipys_with_ties_and_zeros(images: int) -> None:
    values = np.random.default_rng(images).integers(0, 5, (2, images)).astype(float)
    (found,) = xc.paired_tests(recorded({"a": values[0], "b": values[1]}))["p"]
    gap = values[0] - values[1]
    with np.errstate(invalid="ignore"):  # scipy's z of one value
        expected = scipy_stats.wilcoxon(gap).pvalue if gap.any() else 1.0
    assert found == pytest.approx(expected, abs=1e-9)


def test_sign_flips_by_scipy() -> None:
    for images in (5, 40):  # all flips, and random ones
        gap = FOUR["lrp"][:images] - FOUR["lime"][:images]
        values = {"lrp": FOUR["lrp"][:images], "lime": FOUR["lime"][:images]}
        test = scipy_stats.permutation_test(
            (gap,), np.mean, permutation_type="samples", n_resamples=9999, rng=np.random.default_rng(1)
        )
        (found,) = xc.paired_tests(recorded(values))["p_mean"]
        assert found == pytest.approx(test.pvalue, abs=0.01)


def test_packed_signs_are_what_the_seed_draws() -> None:
    drawn = np.random.default_rng(0).integers(2, size=(9999, 701))
    assert np.array_equal(comparison._signed(comparison._signs(701), 701), 1.0 - 2.0 * drawn)
    assert len({tuple(row) for row in comparison._signed(comparison._signs(5), 5)}) == 32


def test_hits_beat_a_small_chance_of_hitting() -> None:
    """A quarter of the images right, beside a control with 3.5 % of each: the mean is clearly better."""
    hits = (np.arange(100) % 4 == 0).astype(float)
    results = recorded({"lrp": hits, "constant": np.full(100, 0.035)}, "pointing_game", family="localisation")
    assert xc.standings(results).set_index("method")["beats"]["lrp"] == "yes"


def test_few_images_can_show_nothing() -> None:
    values = {"lrp": 5 + noisy(0, 0, 5), "random": noisy(0, 1, 5), "center": noisy(0, 2, 5)}
    assert xc.standings(recorded(values)).set_index("method")["beats"]["lrp"] == "few"
    more = {"lrp": 5 + noisy(0, 0, 9), "random": noisy(0, 1, 9), "center": noisy(0, 2, 9)}
    assert xc.standings(recorded(more)).set_index("method")["beats"]["lrp"] == "yes"


def test_rounding_is_no_difference() -> None:
    values = noisy(0.5, 0)
    (row,) = xc.paired_tests(recorded({"a": values, "b": values - 1e-9})).to_dict("records")
    assert (row["p"], row["winner"]) == (1, "")


def test_two_methods_have_a_sign_test() -> None:
    values = {"lrp": noisy(0.5, 0), "random": noisy(0.1, 1)}
    wins = int((values["lrp"] > values["random"]).sum())
    assert xc.ranks(recorded(values), "road").p == pytest.approx(scipy_stats.binomtest(wins, 40).pvalue)


def test_equals_share_the_first_place() -> None:
    same = {name: np.ones(5) for name in ("lrp", "random", "center")}
    assert xc.standings(recorded(same))["first"].tolist() == pytest.approx([1 / 3] * 3)


def test_a_method_of_very_few_images_leaves_the_others_their_ranks() -> None:
    results = recorded({**FOUR, "lime": FOUR["lime"][:3]})
    found = xc.ranks(results, "road")
    assert found.images == 40
    assert np.isnan(found.table["rank"]["lime"])
    assert list(found.nemenyi.index) == ["lrp", "random", "constant"]
    assert xc.standings(results).set_index("method")["mean"]["lime"] == pytest.approx(FOUR["lime"][:3].mean(), abs=1e-6)


def test_a_table_changed_in_place_is_seen() -> None:
    results = recorded(FOUR)
    before = xc.standings(results)["mean"].iloc[0]
    results.table["value"] *= 2
    assert xc.standings(results)["mean"].iloc[0] == pytest.approx(2 * before, rel=1e-5)


def test_a_method_must_beat_every_control() -> None:
    values = {"lrp": noisy(0.3, 0), "random": noisy(0.1, 1), "center": noisy(0.5, 2)}
    table = xc.standings(recorded(values)).set_index("method")
    assert (table["beats"]["lrp"], table["unbeaten"]["lrp"]) == ("no", "center")


def test_no_marks_where_controls_can_be_perfect() -> None:
    table = xc.standings(recorded(FOUR, family="robustness"))
    assert set(table["beats"]) == {"-"}


def test_equal_methods_are_rarely_told_apart() -> None:
    """Holm keeps the chance of any false winner among 15 pairs of equal methods below 5 %."""
    wrong = sum(
        bool((xc.paired_tests(recorded({str(k): noisy(0, 100 * run + k, 25) for k in range(6)}))["winner"] != "").any())
        for run in range(40)
    )
    assert wrong <= 6  # of 40 at 5 %, seven or more have a chance of 0.3 %


def test_methods_that_saw_fewer_images_are_compared_on_those() -> None:
    values = {"lrp": noisy(0.5, 0), "random": noisy(0.1, 1), "lime": noisy(0.4, 2)[:10]}
    results = recorded(values)
    table = xc.standings(results).set_index("method")
    assert table["images"].to_dict() == {"lrp": 40, "random": 40, "lime": 10}
    assert xc.ranks(results, "road").images == 10
    pairs = xc.paired_tests(results).set_index(["method", "other"])
    assert pairs["images"].tolist() == [40, 10, 10]
    assert pairs["difference"]["lrp", "lime"] == pytest.approx((values["lrp"][:10] - values["lime"]).mean())


def test_agreement_is_kendalls_tau_of_the_means() -> None:
    up = {name: noisy(mean, 0) for name, mean in zip("abcd", (0.1, 0.2, 0.3, 0.4), strict=True)}
    swapped = {name: noisy(mean, 0) for name, mean in zip("abcd", (0.2, 0.1, 0.3, 0.4), strict=True)}
    down = {name: -values for name, values in up.items()}
    parts = [recorded(up), recorded(swapped, "deletion"), recorded(down, "aopc"), recorded(down, "irof", "low")]
    table = xc.agreement(Results.joined(parts))
    assert table["road"].to_dict() == {"road": 1, "deletion": pytest.approx(4 / 6), "aopc": -1, "irof": 1}


def test_agreement_with_ties_is_scipys() -> None:
    means = {"road": (0.1, 0.2, 0.2, 0.4), "aopc": (0.3, 0.1, 0.1, 0.1), "irof": (0.1, 0.2, 0.3, 0.4)}
    flat = {name: dict(zip("abcd", map(np.atleast_1d, values), strict=True)) for name, values in means.items()}
    table = xc.agreement(Results.joined(recorded(values, name) for name, values in flat.items()))
    for a, b in combinations(means, 2):
        assert table.loc[a, b] == pytest.approx(scipy_stats.kendalltau(means[a], means[b]).statistic)
    assert np.diag(table).tolist() == pytest.approx([1, 1, 1])
    constant = xc.agreement(recorded(dict.fromkeys("ab", np.ones(3))))
    assert constant.loc["road", "road"] == 0
    short = {name: values for name, values in flat["aopc"].items() if name != "d"}  # a method that one metric lacks
    table = xc.agreement(Results.joined([recorded(flat["road"]), recorded(short, "aopc")]))
    assert table.loc["road", "aopc"] == pytest.approx(
        scipy_stats.kendalltau(means["road"][:3], means["aopc"][:3]).statistic
    )
    assert table.loc["road", "road"] == 1


@pytest.mark.parametrize("images", [1, 2])
def test_few_images_and_ties_are_defined(images: int) -> None:
    same = {name: np.ones(images) for name in ("lrp", "random", "center")}
    results = recorded(same)
    assert xc.standings(results)[["mean", "low", "high", "rank", "first"]].notna().all(axis=None)
    assert set(xc.standings(results)["beats"]) == {"few", "-"}
    assert (xc.paired_tests(results)["p_holm"] == 1).all()
    assert xc.ranks(results, "road").p == 1
    assert xc.ranks(recorded({"lrp": np.ones(images)}), "road").table["rank"].tolist() == [1]


def test_what_is_missing_is_said() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'road'"):
        xc.ranks(recorded(FOUR), "raod")
    with pytest.raises(DataError, match="models mlp, cnn"):
        xc.standings(Results.joined([recorded(FOUR), recorded(FOUR, model="cnn")]))
    with pytest.raises(DataError, match="no values of a metric"):
        xc.standings(Results(recorded(FOUR).table.assign(better=None)))
    with pytest.raises(DataError, match="road has the directions \\['up'\\]"):
        xc.standings(recorded(FOUR, better="up"))
    with pytest.raises(DataError, match="road of lrp, image 0, is inf"):
        xc.standings(recorded({**FOUR, "lrp": np.full(40, np.inf)}))
    with pytest.raises(DataError, match="recorded twice"):
        xc.standings(Results.joined([recorded(FOUR), recorded(FOUR)]))
    apart = recorded(FOUR).table
    apart.loc[apart["method"].eq("lrp"), "image"] += 1000
    with pytest.raises(DataError, match="no image has values of all methods"):
        xc.standings(Results(apart))


def test_one_value_ranks() -> None:
    import pandas as pd

    assert ranking(pd.DataFrame({"a": [1.0], "b": [2.0]})).table["rank"].tolist() == [2, 1]


def test_who_leads_is_the_best_mean_beside_the_next_and_controls_are_no_rivals() -> None:
    near = {"lime": noisy(0.47, 1), "lrp": noisy(0.5, 0), "gradcam": noisy(0.1, 4), "random": noisy(0.9, 2)}
    results = Results.joined([recorded(near), recorded({"lrp": near["lrp"]}, metric="deletion")])
    tests = xc.paired_tests(results)
    (row,) = leads(results).to_dict("records")
    pair = tests[tests["method"].eq("lime") & tests["other"].eq("lrp")].iloc[0]
    assert (row["metric"], row["method"], row["other"], row["sure"]) == ("road", "lrp", "lime", False)
    assert (row["difference"], row["low"], row["high"]) == (-pair["difference"], -pair["high"], -pair["low"])
    assert row["images_needed"] == pair["images_needed"] > row["images"] == 40
    low = leads(recorded(near, better="low")).iloc[0]
    assert (low["method"], low["other"], low["sure"]) == ("gradcam", "lime", True)
