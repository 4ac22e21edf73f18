"""Superpixels and patches: features that are switched on and off together [only home of scikit-image]."""

from typing import Literal

import numpy as np
import skimage.segmentation
import torch
from torch import Tensor

from xaicompare.errors import InputError

Segmentation = Literal["auto", "slic", "quickshift", "felzenszwalb", "grid"]
"""How an image is cut: "auto" is a grid below 64 pixels a side, SLIC above."""

_SMALL = 64


def segmented(how: Segmentation | Tensor, count: int, sample: Tensor) -> Tensor:
    """The segment 0, 1, ... of every position of one sample: (h, w) for (c, h, w), (features,) for (features,).

    Vectors have one segment per feature. `count` is how many superpixels are aimed at; quickshift and felzenszwalb find
    their own number.
    """
    if isinstance(how, Tensor):
        return _given(how, sample)
    if sample.ndim == 1:
        return torch.arange(len(sample), device=sample.device)
    if how == "grid" or (how == "auto" and min(sample.shape[1:]) < _SMALL):
        return _grid(count, sample)
    found = _superpixels("slic" if how == "auto" else how, count, _as_picture(sample))
    return torch.from_numpy(np.unique(found, return_inverse=True)[1].reshape(found.shape)).to(sample.device)


def _given(segments: Tensor, sample: Tensor) -> Tensor:
    expected = sample.shape if sample.ndim == 1 else sample.shape[1:]
    if segments.shape != expected or segments.is_floating_point():
        raise InputError(
            f"segments are {segments.dtype} of shape {tuple(segments.shape)}; expected whole numbers {tuple(expected)}."
        )
    return segments.unique(return_inverse=True)[1].to(sample.device)


def _grid(count: int, sample: Tensor) -> Tensor:
    """Squares, as near to `count` as equal sides allow."""
    height, width = sample.shape[1:]
    side = (height * width / count) ** 0.5
    rows, columns = max(1, min(height, round(height / side))), max(1, min(width, round(width / side)))
    row = torch.arange(height, device=sample.device) * rows // height
    column = torch.arange(width, device=sample.device) * columns // width
    return row[:, None] * columns + column


def _as_picture(sample: Tensor) -> np.ndarray:
    """(c, h, w) in any normalisation -> (h, w, 3) in [0, 1], which the colour spaces of scikit-image expect."""
    colours = sample if len(sample) == 3 else sample.mean(0, keepdim=True).expand(3, -1, -1)
    low, high = colours.min(), colours.max()
    return ((colours - low) / (high - low).clamp_min(1e-12)).permute(1, 2, 0).double().cpu().numpy()


def _superpixels(how: str, count: int, picture: np.ndarray) -> np.ndarray:
    if how == "slic":
        return skimage.segmentation.slic(picture, n_segments=count, compactness=10, start_label=0)
    if how == "quickshift":
        return skimage.segmentation.quickshift(picture, kernel_size=4, max_dist=200, ratio=0.2)
    size = max(1, picture.shape[0] * picture.shape[1] // (4 * count))
    return skimage.segmentation.felzenszwalb(picture, scale=100, sigma=0.5, min_size=size)
