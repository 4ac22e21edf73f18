"""Training: one loop, networks that are trained once and kept, and ways to train."""

from xaicompare.training.lfp import LFP
from xaicompare.training.right_reasons import RightReasons
from xaicompare.training.scaled import RelevanceScaled, Scaled

__all__ = ["LFP", "RelevanceScaled", "RightReasons", "Scaled"]
