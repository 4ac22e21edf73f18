"""A tiny course for arms: three classes of noise, each brighter in another quarter."""

import torch
from torch import nn

from xaicompare.training.course import Course
from xaicompare.training.fit import Recipe
from xaicompare.zoo import Dataset, ImageArray, Scale, build_model

SCALE = Scale(mean=(0.5,), std=(0.25,))


def quarters(n: int = 60, seed: int = 0, bright: int = 40) -> ImageArray:
    """Noise of 8 x 8 pixels, brighter in the quarter that the label numbers: upper left, upper right, lower left."""
    draws = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 200, (n, 1, 8, 8), dtype=torch.uint8, generator=draws)
    labels = torch.arange(n) % 3
    for image, label in zip(pixels, labels.tolist(), strict=True):
        image[0, 4 * (label // 2) :, 4 * (label % 2) :][:4, :4] += bright
    return ImageArray(pixels, labels, SCALE)


def network() -> nn.Module:
    return build_model("mlp", classes=3, in_channels=1, in_features=64, hidden=(16,)).train()


def course(train: ImageArray | None = None, test: ImageArray | None = None, **recipe: object) -> Course:
    dataset = Dataset(
        "quarters",
        ("0", "1", "2"),
        SCALE,
        quarters() if train is None else train,
        quarters(seed=1) if test is None else test,
    )
    return Course(dataset, Recipe(**({"epochs": 2, "batch_size": 16} | recipe)), network)
