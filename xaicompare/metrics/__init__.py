"""The metrics that judge attributions, one file per family; importing this package registers them.

The order here is the order in which tables list them.
"""

# isort: off
from xaicompare.metrics._similarity import alike
from xaicompare.metrics.confidence import confidence, signed_confidence
from xaicompare.metrics.removal import RemovalCurve
from xaicompare.metrics.curves import ConfidenceRemoval, Deletion, Insertion, PixelFlipping, ROAD
from xaicompare.metrics.curves import AOPC, Selectivity, IROF, Sufficiency
from xaicompare.metrics.single import AverageDrop, AverageIncrease, Monotonicity
from xaicompare.metrics.subsets import FaithfulnessCorrelation, Infidelity, SensitivityN
from xaicompare.metrics.robustness import AvgSensitivity, LocalLipschitz, MaxSensitivity
from xaicompare.metrics.complexity import Complexity, EffectiveComplexity, Sparseness
from xaicompare.metrics.localisation import (
    AttributionAUC,
    PointingGame,
    RelevanceMass,
    RelevanceRank,
    TopKIntersection,
)
from xaicompare.metrics.randomisation import ModelRandomisation, RandomLogit
from xaicompare.metrics.axioms import Completeness, InputInvariance, NonSensitivity
from xaicompare.metrics.peer import QuantusMetric
# isort: on

__all__ = [
    "AOPC",
    "IROF",
    "ROAD",
    "AttributionAUC",
    "AverageDrop",
    "AverageIncrease",
    "AvgSensitivity",
    "Completeness",
    "Complexity",
    "ConfidenceRemoval",
    "Deletion",
    "EffectiveComplexity",
    "FaithfulnessCorrelation",
    "Infidelity",
    "InputInvariance",
    "Insertion",
    "LocalLipschitz",
    "MaxSensitivity",
    "ModelRandomisation",
    "Monotonicity",
    "NonSensitivity",
    "PixelFlipping",
    "PointingGame",
    "QuantusMetric",
    "RandomLogit",
    "RelevanceMass",
    "RelevanceRank",
    "RemovalCurve",
    "Selectivity",
    "SensitivityN",
    "Sparseness",
    "Sufficiency",
    "TopKIntersection",
    "alike",
    "confidence",
    "signed_confidence",
]
