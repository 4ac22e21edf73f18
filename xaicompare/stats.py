"""Means with their uncertainty, and the leaderboard of a study [only home of scipy]."""

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from xaicompare.errors import DataError, InputError, SettingError
from xaicompare.results import Column, Results, Table

Array = NDArray[np.float64]

CONTROLS = ("random", "edges", "center")
"""What every method has to beat: maps that know nothing of the model."""

_GROUP = ["model", "dataset"]
_IMAGE = ["model", "dataset", "method", "image"]
_POINT = [*_IMAGE, "order", "share"]
_QUANTITIES = ("confidence", "signed_confidence", "misclassified")
_MOST_DRAWS = 4_000_000  # bounds the memory of the resampling, 8 bytes each


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap_interval(values: ArrayLike, level: float = 0.95, seed: int = 0, resamples: int = 2000) -> Interval:
    """The mean of (n,) values and its bias-corrected and accelerated (BCa) bootstrap interval.

    One value, or equal ones, give an interval of no width: they say nothing of the uncertainty. Below about
    ten values every bootstrap interval is too narrow.

    Raises:
        InputError: no values, more than one dimension, or NaN or inf.
        SettingError: a level outside (0, 1), or no resamples.

    Source: Efron 1987, Better bootstrap confidence intervals, eqs 2.3 and 6.6, doi:10.2307/2289144.

    >>> bootstrap_interval([3.0, 3.0, 3.0])
    Interval(mean=3.0, low=3.0, high=3.0)
    """
    given = np.asarray(values, dtype=np.float64)
    if given.ndim != 1:
        raise InputError(f"values have shape {given.shape}; expected (n,), one value per image.")
    mean, low, high = bootstrap_intervals(given[:, None], level, seed, resamples)[:, 0]
    return Interval(float(mean), float(low), float(high))


def bootstrap_intervals(values: ArrayLike, level: float = 0.95, seed: int = 0, resamples: int = 2000) -> Array:
    """`bootstrap_interval` of every column of (n, k) values at once: (3, k), mean, low and high.

    All columns share their resamples, so k columns cost one matrix product; the rows stay paired.
    """
    given = np.asarray(values, dtype=np.float64)
    _check(given, level, resamples)
    # Relative to the first row, so that equal values stay exactly equal in every resample.
    shifted = given - given[0]  # (n, k)
    mean = shifted.mean(axis=0)  # (k,)
    means = np.sort(_resampled_means(shifted, seed, resamples), axis=0)  # (resamples, k)
    ends = _bca_levels(shifted - mean, mean, means, level)  # (2, k)
    low, high = (_quantile(means, end) for end in ends)
    return given[0] + np.stack([mean, low, high])


def paired_difference(
    a: ArrayLike, b: ArrayLike, level: float = 0.95, seed: int = 0, resamples: int = 2000
) -> Interval:
    """The mean of a - b over the same n images, and its bootstrap interval; a and b are (n,).

    >>> paired_difference([3.0, 2.0, 5.0], [2.0, 1.0, 4.0])
    Interval(mean=1.0, low=1.0, high=1.0)
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise InputError(f"a has shape {first.shape}, b {second.shape}; expected the same images in both.")
    return bootstrap_interval(first - second, level, seed, resamples)


def leaderboard(results: Results, control: str = "random", *, metric: str = "confidence_removal") -> Table:
    """A row per model, data set and method, the best method first: what its order of the features is worth.

    - gain, gain_low, gain_high: mean over images and its 95 % interval. The gain of an image is the mean
      over shares of the signed confidence after removing the least important features, less the same after
      removing the most important ones: -2 to 2, 0 for an order without meaning, higher is better. The signed
      confidence carries a minus once the predicted class is no longer the explained one.
    - beats_<control>: "yes" if the 95 % interval of the gain less the control's, over the images both have,
      lies above 0, else "no"; "-" for the controls themselves and where the control was not run.
    - confidence_most, confidence_least: mean confidence after removing the most and the least important.
    - misclassified_most: how many of the images, from 0 to 1, are misclassified at the largest share removed,
      most important first.
    - strongest_correct, strongest_incorrect, each with _low and _high: the highest confidence over all removals of an
      image where the class was still right, and where it no longer was; mean over the images that had such removals,
      and its 95 % interval; NaN if none had.
    - seconds: median over images of the attribution's seconds per image.
    - images: how many.

    Raises:
        UnknownNameError: results of another metric only.
        DataError: the same removal was recorded twice, or one that the leaderboard needs is missing.
    """
    points = _points(results.where(metric=metric))
    gains = _gains(points)
    lines = []
    for key, part in points.groupby([*_GROUP, "method"], sort=False):
        model, dataset, method = map(str, key)
        rival = None if is_control(method) else gains.get((model, dataset, control))
        line = _line(part, gains[model, dataset, method], rival)
        lines.append({"model": model, "dataset": dataset, "method": method, **line})
    table = Table(lines).rename(columns={"beats": f"beats_{control}"})
    return table.sort_values([*_GROUP, "gain"], ascending=[True, True, False], kind="stable", ignore_index=True)


def removal_bands(results: Results, quantity: str, *, metric: str = "confidence_removal") -> Table:
    """A row per order, method and share removed: the mean of a quantity over images with its 95 % interval.

    Rows of the untouched image (share 0, no order) are where the curves of every order start.

    Raises:
        UnknownNameError: nothing was recorded of that metric or quantity.
        DataError: results of more than one model or data set; choose one with `results.where`.
    """
    chosen = results.where(metric=metric, quantity=quantity)
    for noun in _GROUP:
        if len(chosen.names(noun)) > 1:
            raise DataError(f"results hold the {noun}s {', '.join(chosen.names(noun))}; expected one {noun}.")
    table = chosen.table.dropna(subset="share")
    lines = []
    for order in chosen.names("order"):
        # Rows without an order are the untouched images, from which every order starts.
        here = table[table["order"].eq(order).fillna(table["share"].eq(0)).astype(bool)]
        for method, part in here.groupby("method", sort=False):
            values = _wide(part, ["image"], "share", f"{quantity} of {method}, {order} first")
            for share, interval in zip(values.columns, bootstrap_intervals(values).T, strict=True):
                lines.append((order, method, share, *interval))
    return Table(lines, columns=["order", "method", "share", *Interval._fields])


def is_control(label: str) -> bool:
    """Whether a label names one of the controls, with or without settings behind the name.

    >>> is_control("random"), is_control("random (seed=1)"), is_control("lime")
    (True, True, False)
    """
    return re.split(r"\W", label, maxsplit=1)[0] in CONTROLS


def _check(values: Array, level: float, resamples: int) -> None:
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"values have shape {values.shape}; expected at least one value.")
    if not np.isfinite(values).all():
        raise InputError("values hold NaN or inf; expected finite numbers.")
    if not 0 < level < 1:
        raise SettingError(f"level={level!r}; expected a share between 0 and 1, such as 0.95.")
    if resamples < 1:
        raise SettingError(f"resamples={resamples!r}; expected at least 1.")


def _resampled_means(values: Array, seed: int, resamples: int) -> Array:
    """The means of `resamples` draws of n rows with replacement from (n, k): (resamples, k)."""
    n = len(values)
    rng = np.random.default_rng(seed)
    at_once = max(1, _MOST_DRAWS // n)
    sizes = [min(at_once, resamples - start) for start in range(0, resamples, at_once)]
    return np.concatenate([_draw_counts(rng, size, n) @ values for size in sizes]) / n


def _draw_counts(rng: np.random.Generator, size: int, n: int) -> Array:
    """How often each of n rows is drawn in each of `size` resamples, (size, n)."""
    drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
    return np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def _bca_levels(deviations: Array, mean: Array, means: Array, level: float) -> Array:
    """The levels (2, k) at which the resampled means (resamples, k) bound the interval.

    `deviations` (n, k) are those of the values from their mean (k,).
    """
    # Of few values many resamples have the same mean, but for rounding; a tie counts half.
    tied = np.abs(means - mean) <= 1e-12 * np.abs(deviations).max(axis=0)  # (resamples, k)
    below = np.where(tied, 0.5, means < mean).mean(axis=0)  # (k,)
    bias = ndtri(below.clip(0.5 / len(means), 1 - 0.5 / len(means)))
    spread = (deviations**2).sum(axis=0) ** 1.5
    skew = np.divide((deviations**3).sum(axis=0), 6 * spread, out=np.zeros_like(spread), where=spread > 0)
    normal = ndtri([(1 - level) / 2, (1 + level) / 2])[:, None] + bias  # (2, k)
    return ndtr(bias + normal / (1 - skew * normal))


def _quantile(ordered: Array, level: Array) -> Array:
    """The value of each sorted column (m, k) at its own level (k,), linear between neighbours."""
    place = level * (len(ordered) - 1)
    under = np.floor(place).astype(int)
    over = np.minimum(under + 1, len(ordered) - 1)
    columns = np.arange(ordered.shape[1])
    lower, upper = ordered[under, columns], ordered[over, columns]
    return lower + (place - under) * (upper - lower)


def _points(results: Results) -> Table:
    """A row per image and removal with a column per quantity, the removals indexed by `_POINT`."""
    table = results.table
    removals = table[(table["share"] > 0) & table["order"].notna()]
    missing = [name for name in _QUANTITIES if name not in set(removals["quantity"])]
    if missing:
        raise DataError(f"results lack the quantities {', '.join(missing)}; the leaderboard needs them.")
    needed = removals[removals["quantity"].isin(_QUANTITIES)]
    points = _wide(needed, _POINT, "quantity", "a quantity of a removal")
    return points.join(removals.groupby(_IMAGE)["seconds"].first(), on=_IMAGE)


def _wide(table: Table, rows: list[str], columns: str, what: str) -> Table:
    """The values with one column per name, one row per combination; each exactly once."""
    try:
        wide = table.pivot(index=rows, columns=columns, values="value")
    except ValueError as error:
        raise DataError(f"{what} was recorded twice for one image; expected once.") from error
    if wide.isna().any(axis=None):
        raise DataError(f"{what} is missing or NaN for some image; expected it for each.")
    return wide


def _gains(points: Table) -> Column:
    """The symmetric gain of every image, indexed by `_IMAGE`."""
    kept = points["signed_confidence"].groupby(level=[*_IMAGE, "order"]).mean().unstack("order")
    for order in ("most", "least"):
        if order not in kept or kept[order].isna().any():
            raise DataError(f"results lack the order {order!r} for some images; the gain needs most and least.")
    return kept["least"] - kept["most"]


def _line(points: Table, gains: Column, rival: Column | None) -> dict[str, float | str]:
    """One method's columns of the leaderboard; `gains` and `rival`, the control's, are indexed by image."""
    most, least = (points.xs(order, level="order") for order in ("most", "least"))
    last = most.index.get_level_values("share").max()
    right = points["misclassified"] == 0
    return {
        **dict(zip(("gain", "gain_low", "gain_high"), bootstrap_interval(gains), strict=True)),
        "beats": "-" if rival is None else _beats(gains, rival),
        "confidence_most": most["confidence"].mean(),
        "confidence_least": least["confidence"].mean(),
        "misclassified_most": most["misclassified"].xs(last, level="share").mean(),
        **_strongest("strongest_correct", points["confidence"][right]),
        **_strongest("strongest_incorrect", points["confidence"][~right]),
        "seconds": points["seconds"].groupby(level="image").first().median(),
        "images": len(gains),
    }


def _strongest(name: str, confidence: Column) -> dict[str, float]:
    """The mean over images of their highest confidence, with its interval."""
    highest = confidence.groupby(level="image").max()
    values = bootstrap_interval(highest) if len(highest) else (np.nan,) * 3
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _beats(gains: Column, rival: Column) -> str:
    """Whether the gains lie above the control's on the images both have."""
    both = gains.index.intersection(rival.index)
    return "yes" if len(both) and paired_difference(gains[both], rival[both]).low > 0 else "no"
