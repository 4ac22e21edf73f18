"""The metrics that judge attributions; importing this package registers them."""

from xaicompare.metrics.confidence import confidence, signed_confidence
from xaicompare.metrics.removal import ConfidenceRemoval, RemovalCurve

__all__ = ["ConfidenceRemoval", "RemovalCurve", "confidence", "signed_confidence"]
