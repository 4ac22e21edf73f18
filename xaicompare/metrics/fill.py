"""What stands where a feature was removed."""

from typing import Literal

from torch import Tensor

from xaicompare.boundary import baseline_like
from xaicompare.settings import Array

Fill = float | Array | Literal["mean"]
"""A number, a value per channel, a whole sample, or each image's own channel means."""


def filled(inputs: Tensor, fill: Fill) -> Tensor:
    """The replacement of every value of the inputs, broadcastable to their shape."""
    if isinstance(fill, str):
        return inputs.mean((2, 3), keepdim=True) if inputs.ndim == 4 else inputs.mean(1, keepdim=True)
    return baseline_like(fill, inputs)
