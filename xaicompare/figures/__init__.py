"""Pictures of attributions and of results, made without a display [only home of matplotlib and seaborn]."""

from xaicompare.figures.curves import removal_curves
from xaicompare.figures.maps import grid

__all__ = ["grid", "removal_curves"]
