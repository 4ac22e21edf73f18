"""Are methods different? Paired tests between all of them, and ranks with their uncertainty."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import TypeVar

import numpy as np
import scikit_posthocs
from scipy.stats import friedmanchisquare, rankdata, studentized_range, wilcoxon

from xaicompare.errors import DataError, unknown
from xaicompare.results import Results, Table
from xaicompare.stats.intervals import Array, Interval, bootstrap_intervals, resampled_means
from xaicompare.stats.scores import CLAIMS, by_method, measures, rivals, scores
from xaicompare.stats.training import holm

K = TypeVar("K")

ALPHA = 0.05
"""The level of every test."""


def standings(results: Results) -> Table:
    """A row per metric and method, the best of each metric first.

    - metric, family, better, method, images
    - mean, low, high: over images, with the 95 % BCa bootstrap interval
    - rank: the mean over images of the method's rank among all methods, 1 the best; ties share theirs
    - rank_low, rank_high, first: how stable the order of the means is: 95 % of resamples of the images give the method
      a place between these, and so large a share of them the first one
    - beats: "yes" where the method is better than every control by a paired Wilcoxon test (level 0.05, Holm's
      correction over all pairs of a method and a control), "no" where not; "-" for controls, where there are none, and
      for families that don't claim to (see `CLAIMS`). unbeaten: the controls it isn't better than

    Ranks are over the images that all methods have.

    Raises:
        DataError: results of more than one model or data set, or no values.
    """
    return _standings(results).copy()


@lru_cache(maxsize=4)  # tables, pictures and pages ask for the same, whose resampling takes seconds
def _standings(results: Results) -> Table:
    values = scores(results)
    lines = []
    for metric, family, better in measures(values).itertuples():
        wide = by_method(values, metric)
        oriented = wide if better == "high" else -wide
        places = ranking(oriented).table
        unbeaten = _unbeaten(oriented) if family in CLAIMS else {}
        intervals = _intervals({method: wide[method].dropna().to_numpy() for method in wide.columns})
        known = {"metric": metric, "family": family, "better": better}
        lines += [
            {
                **known,
                "method": method,
                "images": int(wide[method].count()),
                **intervals[method]._asdict(),
                **places.loc[method].to_dict(),
                "beats": "-" if method not in unbeaten else "no" if unbeaten[method] else "yes",
                "unbeaten": ", ".join(unbeaten.get(method, [])),
            }
            for method in oriented.mean().sort_values(ascending=False, kind="stable").index
        ]
    return Table(lines)


def paired_tests(results: Results) -> Table:
    """A row per metric and pair of methods: whether they differ on the images that both have.

    - metric, method, other, images
    - difference, low, high: mean of the method's values less the other's, with its 95 % BCa bootstrap interval
    - p: two-sided Wilcoxon signed-rank test; p_holm: with Holm's correction over all pairs of that metric
    - winner: the better one where p_holm is below 0.05, else ""

    Raises:
        DataError: results of more than one model or data set, or no values.
    """
    values = scores(results)
    parts = []
    for metric, _, better in measures(values).itertuples():
        table = _pairs(by_method(values, metric))
        table.insert(0, "metric", metric)
        ahead = table["difference"] > 0 if better == "high" else table["difference"] < 0
        clear = table["p_holm"] < ALPHA
        table["winner"] = np.where(clear, np.where(ahead, table["method"], table["other"]), "")
        parts.append(table)
    lines = [line for part in parts for line in part.to_dict("records")]
    return Table(lines, columns=list(parts[0].columns))


@dataclass(frozen=True, eq=False)
class Ranking:
    """The order of k methods by one metric on n images, and how much of it is chance.

    Source: Demsar 2006, Statistical comparisons of classifiers over multiple data sets, JMLR 7, sections 3.2.2, 3.2.3.
    """

    table: Table  # by method: rank (mean over images, 1 the best), rank_low, rank_high, first
    images: int
    p: float  # Friedman's test that all methods are alike; 1 where it is not defined
    critical: float  # Nemenyi's critical difference of mean ranks, level 0.05
    nemenyi: Table  # (k, k) p-values
    tau: float  # Kendall's tau-a between the order of the means and that of resampled images, the mean

    def __repr__(self) -> str:
        first = self.table["rank"].idxmin()
        return f"Ranking({len(self.table)} methods on {self.images} images, first {first}, Friedman p={self.p:.2g})"


def ranks(results: Results, metric: str) -> Ranking:
    """The methods' order by one metric, on the images that all of them have.

    Raises:
        UnknownNameError: nothing was recorded of that metric.
        DataError: results of more than one model or data set.
    """
    values = scores(results)
    known = measures(values)
    if metric not in known.index:
        raise unknown("metric in results", metric, known.index)
    sign = 1.0 if known["better"][metric] == "high" else -1.0
    return ranking(sign * by_method(values, metric))


def ranking(values: Table) -> Ranking:
    """The same, of values (images, methods) of which higher ones are better."""
    whole = values.dropna()
    if whole.empty:
        raise DataError("no image has values of all methods; expected some. Explain the same images by all.")
    given = whole.to_numpy()  # (n, k)
    n, k = given.shape
    mean_ranks = rankdata(-given, axis=1).mean(axis=0)
    places, tau = _resampled_places(given)
    low, high = np.percentile(places, [2.5, 97.5], axis=0, method="nearest")
    table = Table(
        {"rank": mean_ranks, "rank_low": low, "rank_high": high, "first": (places == 1).mean(axis=0)},
        index=whole.columns,
    )
    differing = k > 2 and n > 1 and not np.allclose(mean_ranks, mean_ranks[0])
    p = float(friedmanchisquare(*given.T).pvalue) if differing else 1.0
    critical = studentized_range.ppf(1 - ALPHA, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n)) if k > 1 else 0
    nemenyi = scikit_posthocs.posthoc_nemenyi_friedman(whole) if k > 1 else Table([[1.0]], whole.columns, whole.columns)
    return Ranking(table, n, p, float(critical), nemenyi, tau)


def agreement(results: Results) -> Table:
    """Kendall's tau-b between the orders in which any two metrics put the methods, (metrics, metrics), from -1 to 1.

    Metrics of one name with other settings are rows of their own: how much an order hangs on the settings. A metric
    that gives all methods the same mean agrees with none: 0.

    Raises:
        DataError: results of more than one model or data set, or no values.
    """
    values = scores(results)
    known = measures(values)
    means = values.groupby(["metric", "method"], sort=False)["value"].mean().unstack("metric")[list(known.index)]
    means = means.dropna()
    signs = np.where(known["better"] == "high", 1.0, -1.0)
    orders = np.sign(_gaps((means.to_numpy() * signs).T))  # (metrics, pairs)
    decided = np.abs(orders).sum(axis=1).clip(min=1)  # pairs that are no tie
    return Table(orders @ orders.T / np.sqrt(np.outer(decided, decided)), index=known.index, columns=known.index)


def _unbeaten(values: Table) -> dict[str, list[str]]:
    """The controls that each method is not better than; values (images, methods), higher ones better.

    Nothing where there are no controls.
    """
    methods, controls = rivals(list(values.columns))
    if not controls or not methods:
        return {}
    pairs = [(method, control) for method in methods for control in controls]
    gaps = [(values[method] - values[control]).dropna() for method, control in pairs]
    clear = holm([_wilcoxon(gap.to_numpy()) for gap in gaps]) < ALPHA
    better = dict(zip(pairs, clear & np.array([gap.mean() > 0 for gap in gaps]), strict=True))
    return {method: [control for control in controls if not better[method, control]] for method in methods}


def _pairs(values: Table) -> Table:
    """All pairs of columns of values (images, methods)."""
    gaps = {
        (method, other): (values[method] - values[other]).dropna().to_numpy()
        for method, other in combinations(values.columns, 2)
    }
    for (method, other), gap in gaps.items():
        if len(gap) == 0:
            raise DataError(f"{method} and {other} have no image in common; expected some.")
    intervals = _intervals(gaps)
    lines = [(*pair, len(gap), *intervals[pair], _wilcoxon(gap)) for pair, gap in gaps.items()]
    table = Table(lines, columns=["method", "other", "images", "difference", "low", "high", "p"])
    table["p_holm"] = holm(table["p"])
    return table


def _intervals(values: dict[K, Array]) -> dict[K, Interval]:
    """The mean and its interval of each; those with equally many values are resampled together, which is fast."""
    found: dict[K, Interval] = {}
    for size in {len(of) for of in values.values()}:
        names = [name for name, of in values.items() if len(of) == size]
        ends = bootstrap_intervals(np.stack([values[name] for name in names], axis=1))
        found |= {name: Interval(*map(float, column)) for name, column in zip(names, ends.T, strict=True)}
    return found


def _wilcoxon(gap: Array) -> float:
    """Two-sided p of the signed-rank test; 1 where nothing differs."""
    return float(wilcoxon(gap).pvalue) if np.any(gap) else 1.0


def _resampled_places(values: Array, resamples: int = 2000) -> tuple[Array, float]:
    """The place of each mean of (n, k) values under resampling, (resamples, k), and how far these orders agree."""
    shifted = values - values[0]
    means = resampled_means(shifted, 0, resamples) + values[0]
    places = rankdata(-means, axis=1, method="min")
    usual = np.sign(_gaps(values.mean(axis=0)))
    agree = np.sign(_gaps(means)) * usual if usual.size else np.ones((1, 1))
    return places, float(agree.mean())


def _gaps(values: Array) -> Array:
    """The differences of all pairs along the last axis, (..., k) -> (..., pairs)."""
    first, second = np.triu_indices(values.shape[-1], 1)
    return values[..., first] - values[..., second]
