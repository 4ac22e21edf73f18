"""Pictures of attributions and of results, made without a display [only home of matplotlib and seaborn]."""

from xaicompare.figures.curves import removal_curves
from xaicompare.figures.maps import grid
from xaicompare.figures.relevance import channel_relevance, class_relevance, relevance_flow
from xaicompare.figures.training import multiplier_courses, training_curves

__all__ = [
    "channel_relevance",
    "class_relevance",
    "grid",
    "multiplier_courses",
    "relevance_flow",
    "removal_curves",
    "training_curves",
]
