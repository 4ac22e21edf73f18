"""The native engine of layer-wise relevance propagation: rules, composites, and the sweep through a network."""

from xaicompare.lrp.composite import NAMED, Composite, Numbers, Place, composite, rule_from
from xaicompare.lrp.feedback import FeedbackPropagation
from xaicompare.lrp.forward import evaluated
from xaicompare.lrp.graph import above_attention, network
from xaicompare.lrp.guidance import RelevanceGuidance
from xaicompare.lrp.plan import planned
from xaicompare.lrp.recorded import any_network
from xaicompare.lrp.relevance import LayerRelevance, relevance
from xaicompare.lrp.rules import RULES, Rule
from xaicompare.lrp.sweep import swept

__all__ = [
    "NAMED",
    "RULES",
    "Composite",
    "FeedbackPropagation",
    "LayerRelevance",
    "Numbers",
    "Place",
    "RelevanceGuidance",
    "Rule",
    "above_attention",
    "any_network",
    "composite",
    "evaluated",
    "network",
    "planned",
    "relevance",
    "rule_from",
    "swept",
]
