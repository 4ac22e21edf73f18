"""A drawn digit as a network knows digits."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from xaicompare.errors import InputError

Hand = Literal["digits", "mnist"]
"""Whose handwriting a drawing is brought to before it is read: the data set that the network learnt from."""

Points = NDArray[np.float64]

_MOST_POINTS = 4000
_SIDE = 32  # pixels, of both data sets as they are loaded
_FINE = 4  # of these to a pixel while ink is laid


def read_strokes(given: object, hand: Hand | None) -> Tensor:
    """Strokes as the network would have seen them in its data, (1, 32, 32) uint8, white on black.

    MNIST: the digit fits a box of 20 x 20 pixels and its centre of mass is in the middle (LeCun, Bottou, Bengio,
    Haffner 1998, doi:10.1109/5.726791, section III.A). The digits of scikit-learn: it fits 32 x 32 pixels, of which
    4 x 4 are counted for each of 8 x 8 values (Alpaydin, Kaynak 1998, Optical Recognition of Handwritten Digits).

    Args:
        given: lists of points [x, y]; one list for each stroke, in any unit, y down.
        hand: the data set that it is brought to.

    Raises:
        InputError: no strokes, too many points, no numbers; or a network that reads no digits.
    """
    if hand is None:
        raise InputError("a drawing for a network that reads no digits; expected an image. Upload one.")
    strokes = _checked(given)
    box, pen = (20.0, 2.6) if hand == "mnist" else (29.0, 4.4)  # pixels; as thick as the data's own strokes
    placed = _fitting(strokes, box - pen)
    ink = _ink(placed, pen)  # (32, 32) from 0 to 1
    if hand == "mnist":
        rows, columns = np.indices(ink.shape)
        centre = np.array([(ink * columns).sum(), (ink * rows).sum()]) / ink.sum() + 0.5
        ink = _ink([stroke + _SIDE / 2 - centre for stroke in placed], pen)
        return torch.from_numpy(ink * 255).round().to(torch.uint8)[None]
    small = avg_pool2d(torch.from_numpy(ink)[None, None], 4).mul(16).round()  # (1, 1, 8, 8), from 0 to 16
    pixels = interpolate(small * (255 / 16), size=(_SIDE, _SIDE), mode="bilinear").round().to(torch.uint8)
    return pixels[0]


def _checked(given: object) -> list[Points]:
    expected = "expected strokes, each a list of points [x, y]. Draw something."
    if not isinstance(given, list) or not given or not all(isinstance(stroke, list) and stroke for stroke in given):
        raise InputError(f"nothing is drawn; {expected}")
    if sum(map(len, given)) > _MOST_POINTS:
        raise InputError(f"{sum(map(len, given))} points; expected at most {_MOST_POINTS}. Draw less.")
    try:
        strokes = [np.asarray(stroke, dtype=np.float64) for stroke in given]
    except (TypeError, ValueError) as error:
        raise InputError(f"strokes that are no numbers; {expected}") from error
    if not all(stroke.ndim == 2 and stroke.shape[1] == 2 and (np.abs(stroke) < 1e6).all() for stroke in strokes):
        raise InputError(f"strokes that are no points; {expected}")
    return strokes


def _fitting(strokes: list[Points], side: float) -> list[Points]:
    """The strokes in the middle of the square, the longer side of their box as long as that."""
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    longest = float((high - low).max())
    scale = side / longest if longest > 0 else 1.0
    return [(stroke - (low + high) / 2) * scale + _SIDE / 2 for stroke in strokes]


def _ink(strokes: list[Points], pen: float) -> NDArray[np.float64]:
    """How much of each pixel a round pen of that width covers, (32, 32)."""
    places = (np.arange(_SIDE * _FINE) + 0.5) / _FINE
    x, y = np.meshgrid(places, places)
    nearest = np.full(x.shape, np.inf)
    for start, end in _segments(strokes):
        along = end - start
        length = float(along @ along)
        part = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length, 0, 1) if length else 0.0
        np.minimum(nearest, np.hypot(x - start[0] - part * along[0], y - start[1] - part * along[1]), out=nearest)
    covered: NDArray[np.float64] = (nearest <= pen / 2).astype(np.float64)
    return covered.reshape(_SIDE, _FINE, _SIDE, _FINE).mean((1, 3))


def _segments(strokes: list[Points]) -> Iterator[tuple[Points, Points]]:
    """From point to point; points nearer than a quarter of a pixel to the last one are left out."""
    for stroke in strokes:
        last = stroke[0]
        yield last, last
        for point in stroke[1:]:
            if np.hypot(*(point - last)) >= 1 / _FINE:
                yield last, point
                last = point
