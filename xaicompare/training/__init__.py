"""Training: one loop, networks that are trained once and kept, and ways to train."""

from xaicompare.training.scaled import RelevanceScaled

__all__ = ["RelevanceScaled"]
