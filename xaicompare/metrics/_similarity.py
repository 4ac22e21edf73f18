"""How alike two maps are, whatever their scale: the same map has 1."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xaicompare.core import Attribution
from xaicompare.errors import InputError
from xaicompare.metrics.removal import Sign

Similarity = Literal["ssim", "spearman", "pearson"]
"""Structural similarity (of images only), or the correlation of the values or of their ranks; each from -1 to 1."""

_WINDOW = 7  # of the structural similarity, as wide as the image where that is narrower
_ROUNDING = 1e-6
_LUMINANCE, _CONTRAST = 0.01, 0.03  # what keeps its quotients finite, as shares of the range


def alike(first: Attribution, second: Attribution, how: Similarity, sign: Sign) -> Tensor:
    """The similarity of the maps of the same inputs, (n,); two maps without any contrast are alike.

    Raises:
        InputError: "ssim" on vectors, or on images narrower than 3 pixels.
    """
    a, b = (_scaled(made.map.abs() if sign == "absolute" else made.map) for made in (first, second))
    if how == "ssim":
        # From 0 up, as luminance is: below 0, two opposite signs would make a likeness.
        bright = (a, b) if sign == "absolute" else ((a + 1) / 2, (b + 1) / 2)
        return ssim(*bright).to(first.values.dtype)
    a, b = a.flatten(1), b.flatten(1)
    found = spearman(a, b) if how == "spearman" else pearson(a, b)
    return torch.where(_flat(a) & _flat(b), 1, found).to(first.values.dtype)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """The mean structural similarity (n,) of a and b (n, h, w), whose values lie between 0 and 1.

    Source: Wang, Bovik, Sheikh, Simoncelli 2004, doi:10.1109/TIP.2003.819861, eq. 13.
    Differs: all pixels of a window weigh the same.
    """
    if a.ndim != 3 or min(a.shape[1:]) < 3:
        raise InputError(
            f"similarity='ssim' on maps {tuple(a.shape)}; expected images of 3 x 3 pixels or more. Use 'spearman'."
        )
    side = min(_WINDOW, *a.shape[1:])
    side -= 1 - side % 2  # odd: it has a middle
    mean = lambda values: F.avg_pool2d(values[:, None], side, stride=1)[:, 0]  # noqa: E731
    unbiased = side**2 / (side**2 - 1)
    at_a, at_b = mean(a), mean(b)
    of_a, of_b, of_both = (
        unbiased * (mean(x * y) - at_x * at_y)
        for x, y, at_x, at_y in ((a, a, at_a, at_a), (b, b, at_b, at_b), (a, b, at_a, at_b))
    )
    c1, c2 = _LUMINANCE**2, _CONTRAST**2
    luminance = (2 * at_a * at_b + c1) / (at_a**2 + at_b**2 + c1)
    return (luminance * (2 * of_both + c2) / (of_a + of_b + c2)).mean((1, 2))


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """The correlation of the ranks along the last dimension, (n,) of (n, values); 0 where one side is flat."""
    return pearson(mean_ranks(a), mean_ranks(b))


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """The correlation along the last dimension, (...) of (..., values); 0 where one side is flat."""
    none = _flat(a) | _flat(b)
    a, b = (values - values.mean(-1, keepdim=True) for values in (a, b))
    size = (a.square().sum(-1) * b.square().sum(-1)).sqrt()
    return torch.where(none, 0, (a * b).sum(-1) / torch.where(none, 1, size))


def mean_ranks(values: Tensor) -> Tensor:
    """0 for the least value; equal values have the mean of their ranks, (n, positions)."""
    ordered = values.sort(1).values
    first = torch.searchsorted(ordered, values, right=False)
    after = torch.searchsorted(ordered, values, right=True)
    return (first + after - 1).to(values) / 2


def _scaled(values: Tensor) -> Tensor:
    """Each map in units of its greatest absolute value, in double precision; zeros stay."""
    values = values.double()
    greatest = values.abs().amax(tuple(range(1, values.ndim)), keepdim=True)
    return values / torch.where(greatest > 0, greatest, 1)


def _flat(values: Tensor) -> Tensor:
    """Where values along the last dimension are the same, but for the rounding of float32."""
    return values.amax(-1) - values.amin(-1) <= _ROUNDING * values.abs().amax(-1)
