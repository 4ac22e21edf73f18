"""How many images a comparison needs: before it is made, and from the differences that were seen."""

from math import ceil, comb, log2, pi

from scipy.special import ndtri

from xaicompare.errors import InputError
from xaicompare.stats.intervals import Array
from xaicompare.stats.ranking import ALPHA

POWER = 0.8
"""The chance, with so many images, that the test tells a difference as large as the one that is thought of."""
_HALF = 0.5  # of the differences' standard deviation: a medium effect (Cohen 1988, Statistical power analysis, 2.2.3)
_EFFICIENCY = 3 / pi  # of Wilcoxon's test beside Student's, for normal differences
_MOST = 1_000_000  # more images than anybody has


def least_images(pairs: int) -> int:
    """Below so many images no paired test can tell any of the pairs apart, whatever the values are.

    The least p of n signs or signed ranks is 2^(1 - n); Holm's first factor is the number of pairs.

    >>> least_images(66)  # 12 methods
    12

    Raises:
        InputError: no pairs.
    """
    if pairs < 1:
        raise InputError(f"pairs={pairs}; expected one or more.")
    return int(log2(pairs / ALPHA)) + 2


def images_for(effect: float, pairs: int) -> int | None:
    """How many images tell a pair apart with a chance of `POWER`, by Wilcoxon's test among so many pairs.

    Args:
        effect: the mean of the paired differences in units of their standard deviation.

    None: more than a million, or no difference at all.

    Source: the paired z-test's sample size at level ALPHA over the number of pairs (the first step of Holm's method),
    divided by the efficiency of Wilcoxon's test, 3 / pi (Hodges and Lehmann 1956, doi:10.1214/aoms/1177728261), and
    half the squared quantile more, for a spread that is estimated (Guenther 1981, doi:10.2307/2683047).

    >>> images_for(0.5, pairs=1)
    35
    """
    if not effect:
        return None
    level = float(ndtri(1 - ALPHA / (2 * pairs)))
    needed = float((level + ndtri(POWER)) / effect) ** 2 / _EFFICIENCY + level**2 / 2
    return None if needed > _MOST else max(least_images(pairs), ceil(needed))


def images_needed(gap: Array, pairs: int) -> int | None:
    """How many images would tell a pair apart, if its differences (n,) stay as they are; None where nobody can say.

    A difference that is not there yet, or that happens to be large on few images, makes this a rough guess.
    """
    spread = float(gap.std(ddof=1)) if len(gap) > 1 else 0.0
    return images_for(float(gap.mean()) / spread, pairs) if spread else None


def too_small(images: int, methods: int) -> str:
    """What to say of a study of so many methods, controls among them, that can't tell any apart; else nothing."""
    pairs = comb(methods, 2)
    if methods < 2 or images >= least_images(pairs):
        return ""
    return (
        f"{images} image{'' if images == 1 else 's'} can't separate {methods} methods: no test of {pairs} pairs could "
        f"find a difference. At least {least_images(pairs)} are needed; about {images_for(_HALF, pairs)} show a "
        "difference of half its spread over the images."
    )
