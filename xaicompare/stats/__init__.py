"""Means with their uncertainty, the leaderboard of a study, the answers of an experiment [only home of scipy]."""

from xaicompare.stats.intervals import Interval, bootstrap_interval, bootstrap_intervals, paired_difference
from xaicompare.stats.leaderboard import CONTROLS, is_control, leaderboard, removal_bands

__all__ = [
    "CONTROLS",
    "Interval",
    "bootstrap_interval",
    "bootstrap_intervals",
    "is_control",
    "leaderboard",
    "paired_difference",
    "removal_bands",
]
