"""The attribution methods, one file per family [only home of Captum, Zennit].

Importing this package registers them; the order here is the order in which tables list them.
"""

# isort: off
from xaicompare.methods.gradient import Saliency, InputXGradient, SmoothGrad, IntegratedGradients
from xaicompare.methods.gradient import DeconvNet, GuidedBackprop
from xaicompare.methods.cam import CAM, GradCAM, GuidedGradCAM
from xaicompare.methods.weighted_maps import GradCAMPlusPlus, LayerCAM, HiResCAM, XGradCAM, EigenCAM
from xaicompare.methods.weighted_maps import ScoreCAM, AblationCAM, FullGrad
from xaicompare.methods.reference import DeepLIFT, DeepSHAP, GradientSHAP
from xaicompare.methods.perturbation import LIME, KernelSHAP, Occlusion
from xaicompare.methods.relevance import LRP
from xaicompare.methods.attended import AttentionMap, ExtendedLRP, AttentionRefinedLRP
from xaicompare.methods.transformer import AttentionRollout, GradientRollout
from xaicompare.methods.control import Random, Edges, Center, Constant
# isort: on

__all__ = [
    "CAM",
    "LIME",
    "LRP",
    "AblationCAM",
    "AttentionMap",
    "AttentionRefinedLRP",
    "AttentionRollout",
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
    "LayerCAM",
    "Occlusion",
    "Random",
    "Saliency",
    "ScoreCAM",
    "SmoothGrad",
    "XGradCAM",
]
