"""The answers of an experiment: paired differences, savings at equal accuracy, and words that follow from them."""

import numpy as np
import pytest
import scipy.stats

from xaicompare.errors import DataError, UnknownNameError
from xaicompare.figures import multiplier_courses, size_accuracy, training_curves
from xaicompare.runs import Multipliers, Run, Runs
from xaicompare.stats import arm_means, differences, paired_difference, sizes
from xaicompare.stats.training import holm
from xaicompare.study.experiment import Experiment
from xaicompare.study.verdict import answers, report

SHARES = (0.1, 0.2, 0.4, 0.8)
REPEATS = 8


def accuracy(images: float) -> float:
    """A learning curve: 10 points for every doubling."""
    return 0.3 + 0.1 * np.log2(images / 100)


def runs(gain: float, *, noise: float = 0.01, time: float = 1.0, broken: int = 0, jobs: int = 1) -> Runs:
    """The arm "new" learns as if it had `gain` times the images of "plain"; `broken` of its runs collapse."""
    rng = np.random.default_rng(0)
    easy = rng.normal(0, 0.02, REPEATS)  # seeds that pairs share
    rows = []
    for share in SHARES:
        for repeat in range(REPEATS):
            for arm, more, slower in (("plain", 1.0, 1.0), ("new", gain, time)):
                score = accuracy(1000 * share * more) + easy[repeat] + rng.normal(0, noise)
                fallen = arm == "new" and share == 0.8 and repeat < broken
                rows.append(
                    Run(
                        *("key", arm, share, repeat, repeat, int(1000 * share), 0.1 if fallen else score),
                        *(float("nan"), 10, 1000 * share * slower, 0.1, 0.1),
                        *("relevance is inf" if fallen else "", "cpu", jobs, 10, 0.1),
                    )
                )
    told = [
        Multipliers("new", 0.8, 0, batch, layer, 0.1, 0.9, 1.0, 1.1, 0.5, 1.5) for batch in (0, 50) for layer in "ab"
    ]
    return Runs.of(rows, told)


def row(table, share: float):
    chosen = table[table["share"].isna()] if np.isnan(share) else table[table["share"] == share]
    return chosen.iloc[0]


def test_differences_are_paired() -> None:
    made = runs(1.2)
    table = made.table.pivot(index=["share", "repeat"], columns="arm", values="accuracy")
    found = differences(made, "plain")
    for share in SHARES:
        here = table.loc[share]
        line = row(found, share)
        gap = here["new"] - here["plain"]
        low, high = scipy.stats.ttest_1samp(gap, 0).confidence_interval(0.95)
        assert tuple(line[["difference", "difference_low", "difference_high"]]) == pytest.approx(
            (gap.mean(), low, high)
        )
        expected = paired_difference(here["new"], here["plain"])
        assert (line["bootstrap_low"], line["bootstrap_high"]) == pytest.approx(expected[1:])
        assert line["p"] == pytest.approx(scipy.stats.wilcoxon(here["new"], here["plain"]).pvalue)
    by_seed = (table["new"] - table["plain"]).groupby("repeat").mean()
    overall = row(found, np.nan)
    assert overall["difference"] == pytest.approx(by_seed.mean())
    assert overall["repeats"] == REPEATS


def test_images_saved_at_equal_accuracy_in_closed_form() -> None:
    """Whoever learns as if from twice the images saves half of them, and at twice the time per image no time."""
    found = differences(runs(2.0, noise=0.0, time=2.0), "plain")
    for share in SHARES[1:-1]:
        assert row(found, share)["saved"] == pytest.approx(0.5, abs=1e-6)
        assert row(found, share)["saved_time"] == pytest.approx(0.0, abs=1e-6)
    for share in (SHARES[0], SHARES[-1]):  # where one side alone could show
        assert np.isnan(row(found, share)["saved"])
    assert row(found, np.nan)["saved"] == pytest.approx(0.5, abs=1e-6)
    assert row(found, np.nan)["time"] == pytest.approx(2.0)


def test_equal_arms_save_nothing_on_average() -> None:
    made = [row(differences(runs(1.0, noise=0.02 + 0.001 * seed), "plain"), np.nan)["saved"] for seed in range(8)]
    assert abs(np.mean(made)) < 0.05


def test_times_of_several_jobs_are_not_compared() -> None:
    line = row(differences(runs(2.0, jobs=2), "plain"), np.nan)
    assert np.isnan(line["time"])
    assert np.isnan(line["saved_time"])
    (verdict,) = answers(EXPERIMENT, runs(2.0, jobs=2))
    assert "of the time" not in verdict
    assert "times as long" not in verdict


def test_savings_have_intervals() -> None:
    line = row(differences(runs(1.5), "plain"), 0.2)
    assert line["saved_low"] < 1 / 3 < line["saved_high"]
    assert 0 < line["saved_low"] < line["saved"] < line["saved_high"] < 0.6


def test_equal_arms_have_p_one_and_no_gain() -> None:
    made = runs(1.0, noise=0.0)
    assert set(differences(made, "plain")["p"]) == {1.0}


def test_collapsed_runs_count() -> None:
    means = arm_means(runs(1.0, broken=2), "plain")
    by_cell = means.set_index(["arm", "share"])["collapsed"]
    assert by_cell["new", 0.8] == pytest.approx(2 / REPEATS)
    assert by_cell.drop(("new", 0.8)).eq(0).all()


def test_holm_by_hand() -> None:
    """Sorted, each p times the number of tests that are left, and never less than the one before."""
    assert holm([0.02, 0.01, 0.5, 0.04]).tolist() == pytest.approx([0.06, 0.04, 0.5, 0.08])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]


def test_few_repeats_make_no_verdict() -> None:
    made = runs(1.5)
    few = Runs(made.table[made.table["repeat"] < 4], made.multipliers)
    (verdict,) = answers(EXPERIMENT, few)
    assert "a gain over plain by its interval, which the test of 4 repeats does not bear out" in verdict


def test_an_unknown_baseline_and_missing_runs() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'plain'"):
        differences(runs(1.0), "plane")
    made = runs(1.0)
    part = Runs(made.table[(made.table["arm"] == "plain") | (made.table["share"] > 0.3)], made.multipliers)
    assert set(differences(part, "plain")["share"].dropna()) == {0.4, 0.8}
    odd = Runs(made.table.drop(index=made.table[made.table["arm"] == "new"].index[3]), made.multipliers)
    with pytest.raises(DataError, match="'new' lacks runs that 'plain' has"):
        differences(odd, "plain")


EXPERIMENT = Experiment.from_dict(
    {
        "data": "digits",
        "model": "mlp",
        "shares": list(SHARES),
        "repeats": REPEATS,
        "arms": [{"name": "plain", "label": "plain"}, {"name": "guided", "label": "new"}],
        "published": {"source": "a table", "arms": ["plain", "new"], "accuracy": {"80": [70.0, 71.5]}},
    }
)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (runs(1.5), ["a gain over plain: +6", "No run collapsed", "it saves 3"]),
        (runs(0.7), ["a loss against plain: -4.9", "It is worse at 10 %, 20 %"]),
        (runs(1.0), ["no gain over plain that these 8 repeats could show"]),
        (runs(1.5, broken=3, time=1.4), ["3 of 32 runs collapsed, at 80 %", "It took 1.40 times as long"]),
    ],
)
def test_the_verdict_follows_from_the_numbers(made: Runs, said: list[str]) -> None:
    (verdict,) = answers(EXPERIMENT, made)
    for words in said:
        assert words in verdict, verdict


def test_the_report_shows_the_published_table() -> None:
    text = report(EXPERIMENT, runs(1.5))
    ours = arm_means(runs(1.5), "plain").set_index(["arm", "share"])["accuracy"]
    assert f"| 80 % | 70.00 | 71.50 | {100 * ours['plain', 0.8]:.2f} | {100 * ours['new', 0.8]:.2f} |" in text


def smaller(jobs: int = 1) -> Runs:
    """The arm "new" ends with a quarter of the parameters, and takes half of the time on the test images."""
    made = runs(1.0, jobs=jobs)
    new = made.table["arm"] == "new"
    slower = 1 + made.table["repeat"]  # a machine that is never quiet
    table = made.table.assign(parameters=np.where(new, 250, 1000), test_seconds=np.where(new, 0.5, 1.0) * slower)
    return Runs(table, made.multipliers)


def test_sizes_are_those_of_pairs() -> None:
    table = sizes(smaller(), "plain").set_index(["arm", "share"])
    assert set(table.loc["new", "parameters"]) == {250}
    assert set(table.loc["new", "parameters_ratio"]) == {0.25}
    assert set(table.loc["new", "test_time"]) == {0.5}
    assert set(table.loc["plain", "test_time"]) == {1.0}
    assert sizes(smaller(jobs=2), "plain")["test_time"].isna().all()
    assert sizes(runs(1.0), "plain").empty


def test_the_report_shows_sizes_where_they_differ() -> None:
    text = report(EXPERIMENT, smaller())
    assert "It has 25% of the parameters." in text
    assert "| arm | share | parameters | of plain's | test | accuracy |" in text
    ours = arm_means(smaller(), "plain").set_index(["arm", "share"])["accuracy"]
    assert f"| new | 80 % | 250 | 25% | 0.50 | {100 * ours['new', 0.8]:.2f} (" in text
    assert "| new | 80 % | 250 | 25% | - |" in report(EXPERIMENT, smaller(jobs=2))
    for words in ("Size and speed", "of the parameters"):
        assert words not in report(EXPERIMENT, runs(1.0))


def test_figure_of_sizes() -> None:
    figure = size_accuracy(smaller(), "plain")
    assert [panel.get_title() for panel in figure.axes] == [f"{100 * s:g} % of the training images" for s in SHARES]
    ours = arm_means(smaller(), "plain").set_index(["arm", "share"])["accuracy"]
    drawn = [container[0].get_ydata()[0] for container in figure.axes[3].containers]
    assert drawn == pytest.approx([ours["plain", 0.8], ours["new", 0.8]])
    assert [container[0].get_xdata()[0] for container in figure.axes[3].containers] == pytest.approx([1000, 250])
    with pytest.raises(DataError, match="all networks are of one size"):
        size_accuracy(runs(1.0), "plain")


def test_figures() -> None:
    assert len(training_curves(runs(1.5), "plain").axes) == 3
    assert [panel.get_title() for panel in multiplier_courses(runs(1.5)).axes] == [
        "b",
        "a",
    ]  # recorded from the output down
    with pytest.raises(DataError, match="no multipliers"):
        multiplier_courses(Runs.of())
