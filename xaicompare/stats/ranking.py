"""The order of methods by one metric: mean ranks, Friedman's and Nemenyi's tests, and how stable it is."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import scikit_posthocs
from scipy.stats import binomtest, friedmanchisquare, rankdata, studentized_range

from xaicompare.errors import DataError, unknown
from xaicompare.results import Results, Table
from xaicompare.stats.intervals import Array, resampled_means
from xaicompare.stats.scores import measures, oriented, scores, state

ALPHA = 0.05
"""The level of every test."""

_LEAST = 0.1
"""A method with a smaller share of the images than this has no rank: it would leave all others only as few."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """The order of k methods by one metric on n images, and how much of it is chance.

    By method, `table` has rank, the mean over images of its rank, 1 the best, ties sharing theirs; rank_low and
    rank_high, between which 95 % of resamples of the images place its mean; and first, the share of resamples in which
    its mean is the best, shared among equals. NaN for methods that few images were judged of.

    Source: Demsar 2006, Statistical comparisons of classifiers over multiple data sets, JMLR 7, sections 3.2.2, 3.2.3.
    """

    table: Table
    images: int
    p: float  # Friedman's test that all are alike; of two the sign test; 1 where nothing differs
    critical: float  # Nemenyi's critical difference of mean ranks, level 0.05
    nemenyi: Table  # (k, k) p-values
    tau: float  # Kendall's tau-a between the order of the means and that of resampled images, the mean

    def __repr__(self) -> str:
        first = self.table["rank"].idxmin()
        return f"Ranking({len(self.nemenyi)} methods on {self.images} images, first {first}, Friedman p={self.p:.2g})"


def ranks(results: Results, metric: str) -> Ranking:
    """The methods' order by one metric, on the images that all of them have.

    Raises:
        UnknownNameError: nothing was recorded of that metric.
        DataError: results of more than one model or data set, or no image that all have.
    """
    found = _ranks(results, state(results), metric)
    return replace(found, table=found.table.copy(), nemenyi=found.nemenyi.copy())


@lru_cache(maxsize=64)  # tables, pictures and pages ask for the same, whose resampling takes seconds
def _ranks(results: Results, _: float, metric: str) -> Ranking:
    values = scores(results)
    known = measures(values).index
    if metric not in known:
        raise unknown("metric in results", metric, known)
    return ranking(oriented(values, metric), metric)


def ranking(values: Table, metric: str = "values") -> Ranking:
    """The same, of values (images, methods) of which higher ones are better."""
    counts = values.count()
    whole = values.loc[:, counts >= _LEAST * counts.max()].dropna()
    if whole.empty:
        raise DataError(f"{metric}: no image has values of all methods; expected the same images explained by all.")
    given = whole.to_numpy()  # (n, k)
    n, k = given.shape
    means = rankdata(-given, axis=1).mean(axis=0)
    places, first, tau = _resampled(given)
    low, high = np.percentile(places, [2.5, 97.5], axis=0, method="nearest")
    columns = {"rank": means, "rank_low": low, "rank_high": high, "first": first}
    table = Table(columns, index=whole.columns).reindex(values.columns)
    critical = studentized_range.ppf(1 - ALPHA, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n)) if k > 1 else 0
    nemenyi = scikit_posthocs.posthoc_nemenyi_friedman(whole) if k > 1 else Table([[1.0]], whole.columns, whole.columns)
    return Ranking(table, n, _friedman(given, means), float(critical), nemenyi, tau)


def _friedman(values: Array, mean_ranks: Array) -> float:
    """The p-value of (n, k) values; of two columns Friedman's test is the sign test."""
    n, k = values.shape
    if k == 2:
        wins = int((values[:, 0] > values[:, 1]).sum())
        losses = int((values[:, 0] < values[:, 1]).sum())
        return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    alike = k < 2 or n < 2 or np.allclose(mean_ranks, mean_ranks[0])
    return 1.0 if alike else float(friedmanchisquare(*values.T).pvalue)


def _resampled(values: Array, resamples: int = 2000) -> tuple[Array, Array, float]:
    """Of (n, k) values the place of each mean in resamples, (resamples, k); how often it is first, (k,); and tau."""
    means = resampled_means(values - values[0], 0, resamples) + values[0]
    places = rankdata(-means, axis=1, method="min")
    leading = places == 1
    first = (leading / leading.sum(axis=1, keepdims=True)).mean(axis=0)
    usual = np.sign(pair_gaps(values.mean(axis=0)))
    agree = np.sign(pair_gaps(means)) * usual if usual.size else np.ones((1, 1))
    return places, first, float(agree.mean())


def pair_gaps(values: Array) -> Array:
    """The differences of all pairs along the last axis, (..., k) -> (..., pairs)."""
    first, second = np.triu_indices(values.shape[-1], 1)
    return values[..., first] - values[..., second]
