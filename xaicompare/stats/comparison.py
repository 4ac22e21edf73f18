"""Are methods different? Paired tests between all of them, and how good each is beside the controls."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, wilcoxon

from xaicompare.errors import DataError
from xaicompare.results import Results, Table
from xaicompare.stats.intervals import Array, Interval, bootstrap_intervals
from xaicompare.stats.power import images_needed
from xaicompare.stats.ranking import ALPHA, pair_gaps, ranks
from xaicompare.stats.scores import CLAIMS, by_method, measures, oriented, rivals, scores, state
from xaicompare.stats.training import holm

K = TypeVar("K")

_FLIPS = 9999
_AT_ONCE = 2_000_000  # signs as numbers, 8 bytes each
_EXACT = 13  # up to so many images all flips are gone through


def standings(results: Results) -> Table:
    """A row per metric and method, the best of each metric first.

    - metric, family, better, method, images
    - mean, low, high: over images, with the 95 % BCa bootstrap interval
    - rank, rank_low, rank_high, first: see `ranking`; over the images that all methods have
    - beats: "yes" where the mean is better than every control's by a paired test (sign flips, level 0.05, Holm's
      correction over all pairs of a method and a control), "no" where not, "few" where the images are too few for
      any answer; "-" for controls, where there are none, and for families that don't claim to (see `CLAIMS`).
      unbeaten: the controls it isn't better than

    Raises:
        DataError: results of more than one model or data set, or no values.
    """
    return _standings(results, state(results)).copy()


@lru_cache(maxsize=4)  # tables, pictures and pages ask for the same, whose resampling takes seconds
def _standings(results: Results, _: float) -> Table:
    values = scores(results)
    lines = []
    for metric, family, better in measures(values).itertuples():
        wide = by_method(values, metric)
        upward = oriented(values, metric)
        places = ranks(results, metric).table
        unbeaten, few = _unbeaten(upward) if family in CLAIMS else ({}, set())
        intervals = _intervals({method: wide[method].dropna().to_numpy() for method in wide.columns})
        known = {"metric": metric, "family": family, "better": better}
        lines += [
            {
                **known,
                "method": method,
                "images": int(wide[method].count()),
                **intervals[method]._asdict(),
                **places.loc[method].to_dict(),
                "beats": _told(method, unbeaten, few),
                "unbeaten": ", ".join(unbeaten.get(method, [])),
            }
            for method in upward.mean().sort_values(ascending=False, kind="stable").index
        ]
    return Table(lines)


def paired_tests(results: Results) -> Table:
    """A row per metric and pair of methods: whether they differ on the images that both have.

    - metric, method, other, images
    - difference, low, high: mean of the method's values less the other's, with its 95 % BCa bootstrap interval
    - p: two-sided Wilcoxon signed-rank test; p_holm: with Holm's correction over all pairs of that metric
    - p_mean, p_mean_holm: the same for the mean, by flipping signs; where few images differ much, and most a little the
      other way, the two tests see different things
    - images_needed: how many would tell the pair apart if its differences stay as they are (see `stats.power`); NaN
      where nobody can say
    - winner: the better one where p_holm is below 0.05 and both its rank sum and its mean are ahead, else ""

    Source: Wilcoxon 1945, doi:10.2307/3001968; Holm 1979; sign flips: Fisher 1935, The design of experiments, 21.

    Raises:
        DataError: results of more than one model or data set, or no values.
    """
    return _paired_tests(results, state(results)).copy()


@lru_cache(maxsize=4)
def _paired_tests(results: Results, _: float) -> Table:
    values = scores(results)
    parts = []
    for metric, _, better in measures(values).itertuples():
        table, ahead = _pairs(by_method(values, metric), metric)
        table.insert(0, "metric", metric)
        ahead = ahead if better == "high" else -ahead
        mean = np.sign(table["difference"].to_numpy()) * (1 if better == "high" else -1)
        clear = (table["p_holm"] < ALPHA).to_numpy() & (mean == ahead)
        table["winner"] = np.where(clear, np.where(ahead > 0, table["method"], table["other"]), "")
        parts.append(table)
    lines = [line for part in parts for line in part.to_dict("records")]
    return Table(lines, columns=list(parts[0].columns))


def leads(results: Results) -> Table:
    """A row per metric: which method is best by its mean so far, and how unsure that is beside the next.

    - metric, method, other: the two best means, controls left aside
    - images, difference, low, high, images_needed: of that pair, the method's values less the other's, as in
      `paired_tests`
    - sure: whether the test tells them apart

    Metrics that judged fewer than two methods are left out.

    Raises:
        DataError: results of more than one model or data set, or no values.
    """
    known = standings(results)
    tests = {(row["metric"], row["method"], row["other"]): row for row in paired_tests(results).to_dict("records")}
    lines = []
    for metric, rows in known.groupby("metric", sort=False):
        first, second = [*rivals(list(rows["method"]))[0][:2], "", ""][:2]
        if second:
            turned = (metric, first, second) not in tests
            pair = tests[(metric, second, first) if turned else (metric, first, second)]
            told = [pair["difference"], pair["low"], pair["high"]]
            ahead = [-told[0], -told[2], -told[1]] if turned else told
            lines.append(
                (metric, first, second, pair["images"], *ahead, pair["images_needed"], pair["winner"] == first)
            )
    columns = ["metric", "method", "other", "images", "difference", "low", "high", "images_needed", "sure"]
    return Table(lines, columns=columns)


def agreement(results: Results) -> Table:
    """Kendall's tau-b between the orders in which any two metrics put the methods, (metrics, metrics), from -1 to 1.

    Over the methods that both have. Metrics of one name with other settings are rows of their own: how much an order
    hangs on the settings. A metric that gives all methods the same mean agrees with none: 0.

    Raises:
        DataError: results of more than one model or data set, or no values.
    """
    values = scores(results)
    known = measures(values)
    means = {name: oriented(values, name).mean() for name in known.index}
    table = Table(0.0, index=known.index, columns=known.index)
    for a, b in ((a, b) for a in known.index for b in known.index):
        both = means[a].index.intersection(means[b].index)
        table.loc[a, b] = _tau(means[a][both].to_numpy(), means[b][both].to_numpy())
    return table


def _tau(a: Array, b: Array) -> float:
    x, y = np.sign(pair_gaps(a)), np.sign(pair_gaps(b))
    pairs = np.sqrt(np.abs(x).sum() * np.abs(y).sum())  # that are no tie
    return float(x @ y / pairs) if pairs else 0.0


def _told(method: str, unbeaten: dict[str, list[str]], few: set[str]) -> str:
    if method not in unbeaten:
        return "-"
    return "yes" if not unbeaten[method] else "few" if method in few else "no"


def _unbeaten(values: Table) -> tuple[dict[str, list[str]], set[str]]:
    """The controls that each method is not better than; values (images, methods), higher ones better.

    And the methods with so few images that no values could show it. Nothing where there are no controls.
    """
    methods, controls = rivals(list(values.columns))
    if not controls or not methods:
        return {}, set()
    pairs = [(method, control) for method in methods for control in controls]
    gaps = {(method, control): (values[method] - values[control]).dropna().to_numpy() for method, control in pairs}
    p = _flip_tests(gaps)
    clear = dict(zip(pairs, holm([p[pair] for pair in pairs]) < ALPHA, strict=True))
    unbeaten = {
        method: [name for name in controls if not (clear[method, name] and gaps[method, name].mean() > 0)]
        for method in methods
    }
    few = {method for method, control in pairs if 2.0 ** (1 - len(gaps[method, control])) * len(pairs) >= ALPHA}
    return unbeaten, few


def _pairs(values: Table, metric: str) -> tuple[Table, Array]:
    """All pairs of columns of values (images, methods); and which of both has the greater rank sum, as a sign."""
    gaps = {
        (method, other): (values[method] - values[other]).dropna().to_numpy()
        for method, other in combinations(values.columns, 2)
    }
    for (method, other), gap in gaps.items():
        if len(gap) == 0:
            raise DataError(f"{metric}: {method} and {other} have no image in common; expected some.")
    intervals, ranked, means = _intervals(gaps), _wilcoxon_tests(gaps), _flip_tests(gaps)
    lines = [
        (*pair, len(gap), *intervals[pair], ranked[pair], means[pair], images_needed(gap, len(gaps)))
        for pair, gap in gaps.items()
    ]
    columns = ["method", "other", "images", "difference", "low", "high", "p", "p_mean", "images_needed"]
    table = Table(lines, columns=columns).astype({"images_needed": float})
    table["p_holm"], table["p_mean_holm"] = holm(table["p"]), holm(table["p_mean"])
    return table, np.array([np.sign(_signed_ranks(gap).sum()) for gap in gaps.values()])


def _wilcoxon_tests(gaps: dict[K, Array]) -> dict[K, float]:
    """Two-sided p of the signed-rank test of each; 1 where nothing differs. Exact for few values, ties included."""
    found = dict.fromkeys(gaps, 1.0)
    small = {name: _signed_ranks(gap) for name, gap in gaps.items() if len(gap) <= _EXACT}
    found |= _flip_tests(small)
    for names, given in _by_size({name: gap for name, gap in gaps.items() if name not in small and np.any(gap)}):
        found |= dict(zip(names, wilcoxon(given, axis=0).pvalue.tolist(), strict=True))
    return found


def _signed_ranks(gap: Array) -> Array:
    """The rank of each absolute value among those that are not 0, with its sign, (n,); 0 for 0."""
    ranked = np.zeros_like(gap)
    ranked[gap != 0] = rankdata(np.abs(gap[gap != 0]))
    return np.sign(gap) * ranked


def _flip_tests(gaps: dict[K, Array]) -> dict[K, float]:
    """Two-sided p of each mean under random signs of its values, exact where they are few."""
    found: dict[K, float] = {}
    for names, given in _by_size(gaps):
        size = len(given)
        usual = np.abs(given.sum(axis=0)) * (1 - 1e-9)
        signs = _signs(size)
        parts = np.array_split(signs, max(16, len(signs) * size // _AT_ONCE))
        more = np.sum([(np.abs(_signed(part, size) @ given) >= usual).sum(axis=0) for part in parts], axis=0)
        drawn = size > _EXACT  # then the values themselves are one draw more
        found |= dict(zip(names, ((more + drawn) / (len(signs) + drawn)).tolist(), strict=True))
    return found


@lru_cache(maxsize=4)
def _signs(n: int) -> NDArray[np.uint8]:
    """Signs (draws, n), eight to a byte, as 20,000 images need 1.5 GiB else: all of them for few, else random ones."""
    if n <= _EXACT:
        return np.packbits(np.arange(2**n)[:, None] >> np.arange(n) & 1, axis=1)
    rng, rows = np.random.default_rng(0), max(1, _AT_ONCE // n)
    sizes = [min(rows, _FLIPS - start) for start in range(0, _FLIPS, rows)]
    return np.concatenate([np.packbits(rng.integers(2, size=(size, n)), axis=1) for size in sizes])


def _signed(packed: NDArray[np.uint8], n: int) -> Array:
    return 1.0 - 2.0 * np.unpackbits(packed, axis=1, count=n).astype(np.float64)


def _intervals(values: dict[K, Array]) -> dict[K, Interval]:
    """The mean and its interval of each; those with equally many values are resampled together, which is fast."""
    found: dict[K, Interval] = {}
    for names, given in _by_size(values):
        ends = bootstrap_intervals(given)
        found |= {name: Interval(*map(float, column)) for name, column in zip(names, ends.T, strict=True)}
    return found


def _by_size(values: dict[K, Array]) -> Iterator[tuple[list[K], Array]]:
    """Those with equally many values together: their names, and the values (n, k)."""
    for size in {len(of) for of in values.values()}:
        names = [name for name, of in values.items() if len(of) == size]
        yield names, np.stack([values[name] for name in names], axis=1)
