"""The answers of a training experiment: paired differences, and what is saved at equal accuracy."""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression
from scipy.stats import wilcoxon

from xaicompare.errors import DataError, unknown
from xaicompare.results import Table
from xaicompare.runs import Runs
from xaicompare.stats.intervals import Array, bootstrap_interval, few_sample_interval

_RESAMPLES = 2000
_OVERALL = np.nan
"""The share of the row that is the mean over all shares."""


def arm_means(runs: Runs, baseline: str) -> Table:
    """A row per arm and share: mean accuracy with its 95 % interval over repeats, seconds, collapsed runs.

    A run has collapsed if it broke off, or lost more than half of what the baseline's median is above chance.

    Raises:
        UnknownNameError: no runs of the baseline.
    """
    table = _checked(runs, baseline)
    usual = table[table["arm"] == baseline].groupby("share")["accuracy"].median().to_dict()
    lines = []
    for (arm, share), part in table.groupby(["arm", "share"], sort=False):
        least = (part["chance"] + usual[share]) / 2
        collapsed = (part["accuracy"] < least) | (part["complaint"] != "")
        mean, *ends = few_sample_interval(part["accuracy"])
        low, high = np.clip(ends, 0, 1)  # a t interval does not know that there are no other accuracies
        lines.append((arm, share, len(part), mean, low, high, part["seconds"].median(), collapsed.mean()))
    columns = ["arm", "share", "repeats", "accuracy", "accuracy_low", "accuracy_high", "seconds", "collapsed"]
    return Table(lines, columns=columns)


def differences(runs: Runs, baseline: str) -> Table:
    """A row per arm (but the baseline) and share, and one with share NaN for their mean.

    - difference, _low, _high: mean over repeats of the accuracy less the baseline's in the same repeat, with its 95 %
      interval (see `few_sample_interval`), in points of accuracy from -1 to 1; bootstrap_low, bootstrap_high: the BCa
      bootstrap's. In the last row each repeat's mean over shares is one value: cells of one repeat share a seed, so
      that they are not independent. Intervals cover seeds, not other test images.
    - p: two-sided Wilcoxon signed-rank test of the same differences. Of 4 repeats it can't be below 0.125, of 5 0.0625.
    - p_holm: the same with Holm's correction for as many arms as there are at that share.
    - saved, _low, _high: the share of the training images that the arm needs less than the baseline for the same
      accuracy: 1 - n / n', where the baseline reaches the arm's accuracy with n' images, interpolated in log n on its
      monotone mean curve. Negative: it needs more. Only for shares between the least and the greatest, since at the
      ends one side alone could show; NaN where the curve doesn't reach so far. The last row has the geometric mean.
    - saved_time, _low, _high: the same with seconds of training for images.
    - time: the arm's seconds over the baseline's. NaN, as saved_time, unless all ran one at a time on one device.

    Raises:
        UnknownNameError: no runs of the baseline.
    """
    return _differences(runs, baseline).copy()


def sizes(runs: Runs, baseline: str) -> Table:
    """A row per arm and share, if networks differ in size, else none: how large and how fast what was trained is.

    - parameters: median over repeats; parameters_ratio: over the baseline's in the same repeat, median.
    - test_time: seconds of the passes over the test images over the baseline's in the same repeat, median. NaN, as
      `time` in `differences`, unless all ran one at a time on one device.

    Raises:
        UnknownNameError: no runs of the baseline.
    """
    columns = ["arm", "share", "parameters", "parameters_ratio", "test_time"]
    table = _checked(runs, baseline)
    if table["parameters"].nunique() < 2:
        return Table(columns=columns)
    usual = table[table["arm"] == baseline].set_index(["share", "repeat"])[["parameters", "test_seconds"]]
    lines = []
    for (arm, share), part in table.groupby(["arm", "share"], sort=False):
        own = part.set_index(["share", "repeat"])[["parameters", "test_seconds"]]
        smaller, time = (own / usual.reindex(own.index)).median()
        lines.append((arm, share, own["parameters"].median(), smaller, time if _timed_alike(table) else np.nan))
    return Table(lines, columns=columns)


def _timed_alike(table: Table) -> bool:
    """Whether seconds of these trainings compare."""
    return len(set(table["jobs"]) | {1}) == 1 and table["device"].nunique() == 1


@lru_cache(maxsize=4)  # report, figure, file and terminal ask for the same, whose resampling takes seconds
def _differences(runs: Runs, baseline: str) -> Table:
    table = _checked(runs, baseline)
    lines = [line for arm in table["arm"].unique() if arm != baseline for line in _arm(table, arm, baseline)]
    found = Table(lines, columns=list(lines[0]) if lines else ["arm", "share"])
    if lines:
        found["p_holm"] = found.groupby("share", dropna=False)["p"].transform(holm)
    return found


def holm(p: ArrayLike) -> Array:
    """p-values (k,) that hold for all k tests together.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 65-70.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p, dtype=np.float64)
    order = np.argsort(given)
    corrected = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1)).clip(max=1)
    found = np.empty_like(given)
    found[order] = corrected
    return found


def _checked(runs: Runs, baseline: str) -> Table:
    if baseline not in set(runs.table["arm"]):
        raise unknown("arm", baseline, runs.table["arm"].unique())
    return runs.table.sort_values(["share", "repeat"], kind="stable")


def _arm(table: Table, arm: str, baseline: str) -> list[dict[str, object]]:
    ours, theirs = (_wide(table, name, "accuracy") for name in (arm, baseline))
    both = ours.index.intersection(theirs.index)
    shares = [share for share in ours.columns if share in theirs.columns]
    a, b = ours.loc[both, shares].to_numpy(), theirs.loc[both, shares].to_numpy()  # (repeats, shares)
    if a.size == 0 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError(f"arm {arm!r} lacks runs that {baseline!r} has; expected the same repeats and shares of both.")
    seconds = [_wide(table, name, "seconds").loc[both, shares].median().to_numpy() for name in (arm, baseline)]
    images = table.groupby("share")["images"].first()[shares].to_numpy(dtype=float)
    saved = _saved(a, b, images, images)
    saved_time = _saved(a, b, *seconds)
    comparable = _timed_alike(table)
    if not comparable:
        saved_time = np.full_like(saved_time, np.nan)
    lines = []
    for place, share in enumerate([*shares, _OVERALL]):
        gap = (a - b)[:, place] if place < len(shares) else (a - b).mean(1)
        of = slice(place, place + 1) if place < len(shares) else slice(None)
        lines.append(
            {
                "arm": arm,
                "share": share,
                "repeats": len(gap),
                "accuracy": a[:, of].mean(),
                "baseline": b[:, of].mean(),
                **_named("difference", *few_sample_interval(gap)),
                **dict(zip(("bootstrap_low", "bootstrap_high"), bootstrap_interval(gap)[1:], strict=True)),
                "p": float(wilcoxon(gap).pvalue) if np.any(gap) else 1.0,
                **_interval("saved", saved[:, of]),
                **_interval("saved_time", saved_time[:, of]),
                "time": float(np.median(seconds[0][of] / seconds[1][of])) if comparable else np.nan,
            }
        )
    return lines


def _wide(table: Table, arm: str, values: str) -> Table:
    return table[table["arm"] == arm].pivot(index="repeat", columns="share", values=values)


def _saved(a: Array, b: Array, cost: Array, usual: Array) -> Array:
    """log(cost / what the baseline needs), (1 + resamples, shares): first from all repeats, then from resampled ones.

    a and b are accuracies (repeats, shares), `cost` and `usual` what each share costs the arm and the baseline.
    """
    draws = np.random.default_rng(0).integers(len(a), size=(_RESAMPLES, len(a)))
    rows = [np.arange(len(a)), *draws]
    found = np.stack([_saved_once(a[row].mean(0), b[row].mean(0), cost, usual) for row in rows])
    found[:, [0, -1]] = np.nan
    return found


def _saved_once(a: Array, b: Array, cost: Array, usual: Array) -> Array:
    order = np.argsort(usual)
    rising = isotonic_regression(b[order]).x + 1e-12 * np.arange(len(b))  # strictly, so that it can be inverted
    return np.log(cost) - np.interp(a, rising, np.log(usual[order]), left=np.nan, right=np.nan)


def _interval(name: str, saved: Array) -> dict[str, float]:
    """The mean over shares that are defined, and the 2.5 and 97.5 % of the resamples, if nearly all are defined."""
    defined = np.isfinite(saved)
    sums = np.where(defined, saved, 0).sum(1)
    means = np.divide(sums, defined.sum(1), out=np.full(len(saved), np.nan), where=defined.any(1))
    shares = 1 - np.exp(means)
    if np.isnan(shares).mean() > 0.05:
        return _named(name, shares[0], np.nan, np.nan)
    return _named(name, shares[0], *np.nanpercentile(shares[1:], [2.5, 97.5]))


def _named(name: str, mean: float, low: float, high: float) -> dict[str, float]:
    return {name: float(mean), f"{name}_low": float(low), f"{name}_high": float(high)}
