"""Training: one loop, networks that are trained once and kept, and ways to train, all registered as arms."""

from xaicompare.training.lfp import LFP
from xaicompare.training.pruning import Pruned, prune
from xaicompare.training.right_reasons import RightReasons
from xaicompare.training.sampling import Sampled
from xaicompare.training.scaled import RelevanceScaled, Scaled
from xaicompare.training.weighting import Longer, Weighted

__all__ = ["LFP", "Longer", "Pruned", "RelevanceScaled", "RightReasons", "Sampled", "Scaled", "Weighted", "prune"]
