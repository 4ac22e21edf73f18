"""The metrics that judge attributions, one file per family; importing this package registers them.

The order here is the order in which tables list them.
"""

# isort: off
from xaicompare.metrics.confidence import confidence, signed_confidence
from xaicompare.metrics.removal import RemovalCurve
from xaicompare.metrics.curves import ConfidenceRemoval, Deletion, Insertion, PixelFlipping, ROAD
from xaicompare.metrics.curves import AOPC, Selectivity, IROF, Sufficiency
# isort: on

__all__ = [
    "AOPC",
    "IROF",
    "ROAD",
    "ConfidenceRemoval",
    "Deletion",
    "Insertion",
    "PixelFlipping",
    "RemovalCurve",
    "Selectivity",
    "Sufficiency",
    "confidence",
    "signed_confidence",
]
