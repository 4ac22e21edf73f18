"""Means with their uncertainty."""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtrit

from xaicompare.errors import InputError, SettingError

Array: TypeAlias = NDArray[np.float64]

_MOST_DRAWS = 4_000_000  # bounds the memory of the resampling, 8 bytes each
_ENOUGH = 20  # values for a bootstrap interval that covers what it says


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


def few_sample_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """The mean of (n,) values and its confidence interval, for as few as they are.

    From 20 values up the BCa bootstrap interval, below Student's t interval: of four equal arms the bootstrap's 95 %
    interval excludes 0 in a fifth of all experiments. One value has no interval: NaN.

    Raises:
        InputError: no values, more than one dimension, or NaN or inf.

    >>> few_sample_interval([1.0, 3.0])
    Interval(mean=2.0, low=-10.706204736174694, high=14.706204736174694)
    """
    given = np.asarray(values, dtype=np.float64)
    if len(given) >= _ENOUGH:
        return bootstrap_interval(given, level)
    _check(given[:, None], level, 1)
    mean = float(given.mean())
    if len(given) == 1:
        return Interval(mean, np.nan, np.nan)
    half = float(stdtrit(len(given) - 1, (1 + level) / 2) * given.std(ddof=1) / np.sqrt(len(given)))
    return Interval(mean, mean - half, mean + half)


def bootstrap_intervals(values: ArrayLike, level: float = 0.95, seed: int = 0, resamples: int = 2000) -> Array:
    """`bootstrap_interval` of every column of (n, k) values at once: (3, k), mean, low and high.

    All columns share their resamples, so k columns cost one matrix product; the rows stay paired.
    """
    given = np.asarray(values, dtype=np.float64)
    _check(given, level, resamples)
    # Relative to the first row, so that equal values stay exactly equal in every resample.
    shifted = given - given[0]  # (n, k)
    mean = shifted.mean(axis=0)  # (k,)
    means = np.sort(resampled_means(shifted, seed, resamples), axis=0)  # (resamples, k)
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


def _check(values: Array, level: float, resamples: int) -> None:
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"values have shape {values.shape}; expected at least one value.")
    if not np.isfinite(values).all():
        raise InputError("values hold NaN or inf; expected finite numbers.")
    if not 0 < level < 1:
        raise SettingError(f"level={level!r}; expected a share between 0 and 1, such as 0.95.")
    if resamples < 1:
        raise SettingError(f"resamples={resamples!r}; expected at least 1.")


def resampled_means(values: Array, seed: int, resamples: int) -> Array:
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
