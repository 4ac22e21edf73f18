"""Pictures of attributions and of results, made without a display [only home of matplotlib and seaborn]."""

from matplotlib.figure import Figure

from xaicompare.figures.comparison import cost_quality, critical_difference, metric_agreement, scoreboard
from xaicompare.figures.curves import removal_curves
from xaicompare.figures.maps import grid
from xaicompare.figures.relevance import channel_relevance, class_relevance, relevance_flow
from xaicompare.figures.removed import removed
from xaicompare.figures.training import multiplier_courses, size_accuracy, training_curves

__all__ = [
    "Figure",
    "channel_relevance",
    "class_relevance",
    "cost_quality",
    "critical_difference",
    "grid",
    "metric_agreement",
    "multiplier_courses",
    "relevance_flow",
    "removal_curves",
    "removed",
    "scoreboard",
    "size_accuracy",
    "training_curves",
]
