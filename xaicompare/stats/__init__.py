"""Means with their uncertainty, the leaderboard of a study, the answers of an experiment [only home of scipy]."""

from xaicompare.stats.comparison import agreement, leads, paired_tests, standings
from xaicompare.stats.intervals import (
    Interval,
    bootstrap_interval,
    bootstrap_intervals,
    few_sample_interval,
    paired_difference,
)
from xaicompare.stats.leaderboard import CONTROLS, is_control, leaderboard, removal_bands
from xaicompare.stats.power import least_images, too_small
from xaicompare.stats.ranking import ALPHA, Ranking, ranks
from xaicompare.stats.scores import CLAIMS, GAINS, scores
from xaicompare.stats.training import arm_means, differences, sizes

__all__ = [
    "ALPHA",
    "CLAIMS",
    "CONTROLS",
    "GAINS",
    "Interval",
    "Ranking",
    "agreement",
    "arm_means",
    "bootstrap_interval",
    "bootstrap_intervals",
    "differences",
    "few_sample_interval",
    "is_control",
    "leaderboard",
    "leads",
    "least_images",
    "paired_difference",
    "paired_tests",
    "ranks",
    "removal_bands",
    "scores",
    "sizes",
    "standings",
    "too_small",
]
