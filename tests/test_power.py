"""How many images a comparison needs, against simulated studies and the tests themselves."""

import numpy as np
import pytest
from scipy.stats import wilcoxon

from xaicompare.errors import InputError
from xaicompare.stats.comparison import _flip_tests, _wilcoxon_tests
from xaicompare.stats.power import ALPHA, images_for, images_needed, least_images, too_small
from xaicompare.stats.training import holm


@pytest.mark.parametrize("pairs", [1, 3, 6, 66, 300])
def test_below_the_least_number_no_test_can_find_anything(pairs: int) -> None:
    n = least_images(pairs)
    for size, found in ((n - 1, False), (n, True)):
        perfect = np.linspace(1.0, 2.0, size)  # all of one sign: the least p there is
        for test in (_wilcoxon_tests, _flip_tests):
            p = [test({"a": perfect})["a"], *[1.0] * (pairs - 1)]
            if size <= 13:  # beyond, p are of normal approximations and of random flips
                assert (holm(p)[0] < ALPHA) is np.bool_(found)


def test_pairs_must_be_there() -> None:
    with pytest.raises(InputError, match="pairs=0"):
        least_images(0)


@pytest.mark.parametrize(("effect", "pairs"), [(0.5, 1), (0.3, 10), (0.8, 66)])
def test_the_number_has_the_power_that_it_promises(effect: float, pairs: int) -> None:
    n = images_for(effect, pairs)
    gaps = np.random.default_rng(0).normal(effect, 1.0, (n, 600))
    share = np.mean(wilcoxon(gaps, axis=0).pvalue < ALPHA / pairs)
    assert 0.74 < share < 0.86


def test_from_differences_seen() -> None:
    gap = np.random.default_rng(1).normal(0.3, 1.0, 4000)
    assert images_needed(gap, 10) == pytest.approx(images_for(0.3, 10), rel=0.15)
    assert images_needed(-gap, 10) == images_needed(gap, 10)
    assert images_needed(np.zeros(8), 1) is None
    assert images_needed(np.array([1.0]), 1) is None
    assert images_for(1e-6, 1) is None


def test_a_small_study_is_told_with_numbers() -> None:
    told = too_small(8, 12)
    assert told.startswith("8 images can't separate 12 methods: no test of 66 pairs")
    assert "At least 12 are needed; about" in told
    assert too_small(12, 12) == ""
    assert too_small(1, 1) == ""
