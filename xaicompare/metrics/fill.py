"""What stands where a feature was removed."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xaicompare.boundary import baseline_like
from xaicompare.draws import sample_draws
from xaicompare.errors import InputError
from xaicompare.metrics._imputation import imputed
from xaicompare.settings import Array

Fill = float | Array | Literal["mean", "blur", "noise", "linear"]
"""What replaces a removed value.

- a number, a value per channel, or a whole sample
- "mean": the image's own channel means
- "blur": the image itself, blurred by a Gaussian of a sixteenth of its shorter side
- "noise": uniform between the least and the greatest value of the image's channel
- "linear": noisy linear imputation (Rong et al. 2022, arXiv:2202.00449, section 4): the weighted mean of the eight
  neighbours, which may be removed themselves, plus noise of 1 % of the channel's standard deviation
"""

Blank = float | Array | Literal["mean", "blur", "noise"]
"""What replaces a whole image: the same but "linear", which needs neighbours that stay."""

Replace = Callable[[Tensor, Tensor], Tensor]
"""The numbers of images (b,) and what is removed of each (b, *spatial) bool -> what is left, (b, c, *spatial)."""

_BLUR = 1 / 16  # of the shorter side
_NOISE = 0.01  # of the standard deviation


def replacing(fill: Fill, inputs: Tensor, seed: int) -> Replace:
    """How features of these inputs are replaced; draws depend on the seed and the sample, not on its batch."""
    if isinstance(fill, str) and fill == "linear":
        return _imputing(inputs, seed)
    replacement = filled(inputs, fill, seed).expand_as(inputs)

    def replace(image: Tensor, gone: Tensor) -> Tensor:
        return torch.where(gone[:, None] if inputs.ndim == 4 else gone, replacement[image], inputs[image])

    return replace


def filled(inputs: Tensor, fill: Fill, seed: int = 0) -> Tensor:
    """The replacement of every value of the inputs, broadcastable to their shape; all fills but "linear"."""
    if not isinstance(fill, str):
        return baseline_like(fill, inputs)
    if fill == "mean":
        return inputs.mean((2, 3), keepdim=True) if inputs.ndim == 4 else inputs.mean(1, keepdim=True)
    return _blurred(inputs) if fill == "blur" else uniform_noise(inputs, seed)


def _imputing(inputs: Tensor, seed: int) -> Replace:
    _check_images(inputs, "linear")
    spread = inputs.flatten(2).std(2)[:, :, None, None]
    noise = _NOISE * spread * sample_draws(inputs, seed, torch.randn)

    def replace(image: Tensor, gone: Tensor) -> Tensor:
        return imputed(inputs[image], gone) + noise[image] * gone[:, None]

    return replace


def _blurred(inputs: Tensor) -> Tensor:
    _check_images(inputs, "blur")
    width = _BLUR * min(inputs.shape[2:])
    reach = max(1, round(3 * width))
    places = torch.arange(-reach, reach + 1).to(inputs)
    weights = torch.exp(-0.5 * (places / width) ** 2)
    weights = weights / weights.sum()
    grey = inputs.flatten(0, 1)[:, None]  # (n * c, 1, h, w): every channel by itself
    padded = F.pad(grey, (reach, reach, reach, reach), mode="replicate")
    across = F.conv2d(padded, weights.view(1, 1, 1, -1))
    return F.conv2d(across, weights.view(1, 1, -1, 1)).view_as(inputs)


def uniform_noise(inputs: Tensor, seed: int, *many: int) -> Tensor:
    """Uniform between the least and the greatest value of each image's channel, (n, *many, ...)."""
    dims = (2, 3) if inputs.ndim == 4 else (1,)
    low, high = inputs.amin(dims, keepdim=True), inputs.amax(dims, keepdim=True)
    for _ in many:
        low, high = low[:, None], high[:, None]
    return low + (high - low) * sample_draws(inputs, seed, torch.rand, *many)


def _check_images(inputs: Tensor, fill: str) -> None:
    if inputs.ndim != 4:
        raise InputError(f"fill={fill!r} on inputs {tuple(inputs.shape)}; expected images (n, c, h, w).")
