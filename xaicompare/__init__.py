"""Which explanation of this image classifier can I believe, and what does it cost?"""

import importlib
from typing import Any

import xaicompare._torchvision  # noqa: F401 (torchvision can be imported from here on, also beside a CPU-only torch)

__version__ = "0.2.0"

_HOMES = {
    "attended": ("Attention", "attend", "attention_map"),
    "comparison": ("attribute", "compare", "curve", "score"),
    "core": ("Attribution", "Method", "Metric"),
    "diagnosis": ("Diagnosis", "Finding", "doctor"),
    "errors": (
        "DataError",
        "DivergedError",
        "IncompleteError",
        "InputError",
        "LibraryError",
        "SettingError",
        "StudyError",
        "UnknownNameError",
        "UnsupportedModelError",
        "XaiCompareError",
    ),
    "evaluation": ("Evaluation", "evaluate"),
    "explore": ("explore",),
    "figures": (
        "channel_relevance",
        "class_relevance",
        "cost_quality",
        "critical_difference",
        "grid",
        "metric_agreement",
        "relevance_flow",
        "removal_curves",
        "scoreboard",
    ),
    "methods": (
        "AblationCAM",
        "AttentionMap",
        "AttentionRefinedLRP",
        "AttentionRollout",
        "CAM",
        "Center",
        "Constant",
        "DeconvNet",
        "DeepLIFT",
        "DeepSHAP",
        "Edges",
        "EigenCAM",
        "ExtendedLRP",
        "FullGrad",
        "GradCAM",
        "GradCAMPlusPlus",
        "GradientRollout",
        "GradientSHAP",
        "GuidedBackprop",
        "GuidedGradCAM",
        "HiResCAM",
        "InputXGradient",
        "IntegratedGradients",
        "KernelSHAP",
        "LIME",
        "LRP",
        "LayerCAM",
        "Occlusion",
        "Random",
        "Saliency",
        "ScoreCAM",
        "SmoothGrad",
        "XGradCAM",
    ),
    "lrp": ("Composite", "FeedbackPropagation", "LayerRelevance", "RelevanceGuidance", "relevance"),
    "metrics": ("ConfidenceRemoval", "confidence"),
    "model_comparison": ("ModelComparison", "compare_models"),
    "reporting": ("report",),
    "results": ("Results",),
    "stats": ("agreement", "leaderboard", "paired_tests", "ranks", "scores", "standings"),
    "study": ("Study", "load_attributions", "run"),
    "training": ("RelevanceScaled", "prune"),
    "zoo": ("build_model", "load_dataset", "load_weights"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that `import xaicompare` costs nothing."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'xaicompare' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"xaicompare.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
