"""Data sets, networks and weights: what a name in a study file stands for [only home of torchvision, safetensors]."""

import xaicompare._torchvision  # noqa: F401 (before the first import of torchvision, for every module in here)
from xaicompare.zoo.datasets import load_dataset
from xaicompare.zoo.folders import IMAGENET, imagenet_classes, open_images
from xaicompare.zoo.images import Dataset, ImageArray, Images, Scale
from xaicompare.zoo.models import build_model
from xaicompare.zoo.places import cache_root, data_root
from xaicompare.zoo.weights import load_weights, save_weights

__all__ = [
    "IMAGENET",
    "Dataset",
    "ImageArray",
    "Images",
    "Scale",
    "build_model",
    "cache_root",
    "data_root",
    "imagenet_classes",
    "load_dataset",
    "load_weights",
    "open_images",
    "save_weights",
]
