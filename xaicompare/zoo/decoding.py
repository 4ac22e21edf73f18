"""Pixels of eight bits from image files of any depth: white in the file stays white, grey stays grey."""

import numpy as np
from PIL import Image, ImageOps

from xaicompare.errors import DataError

_DEEPEST = 2**16 - 1


def eight_bits(file: Image.Image, mode: str, name: str) -> Image.Image:
    """An opened file as "L" or "RGB", upright. Pillow itself cuts values of 16 bits off at 255, which is white.

    16 bits count from 0 to 65535, floating-point values from 0 to 1. What is transparent keeps its colour; CMYK and
    palettes are converted.

    Raises:
        DataError: floating-point values beyond 0 to 1, or whole numbers beyond 16 bits, whose range nobody can know.
    """
    # A camera notes how it was held; an explanation of a picture on its side would be of another picture.
    upright = ImageOps.exif_transpose(file)
    if upright.mode == "F":
        upright = _scaled(np.asarray(upright, dtype=np.float64), 1.0, name)
    elif upright.mode == "I" or upright.mode.startswith("I;16"):
        upright = _scaled(np.asarray(upright).astype(np.float64), _DEEPEST, name)
    elif upright.mode == "P":
        upright = upright.convert("RGBA")  # its colours, also where one of them is transparent
    return upright.convert(mode)


def above_zero(file: Image.Image) -> Image.Image:
    """Where an opened file is above 0 in any channel, however little: "L" of 0 and 255, upright.

    A palette counts by its colours, since tools put them in any order. What is transparent keeps its colour.
    """
    upright = ImageOps.exif_transpose(file)
    if upright.mode == "P":
        upright = upright.convert("RGBA")
    if upright.mode not in {"1", "L", "I", "F"} and not upright.mode.startswith("I;16"):
        upright = upright.convert("RGB")
    values = np.asarray(upright) > 0
    return Image.fromarray(np.where(values.any(-1) if values.ndim == 3 else values, 255, 0).astype(np.uint8))


def _scaled(values: np.ndarray, high: float, name: str) -> Image.Image:
    low, top = float(values.min()), float(values.max())
    if not (low >= 0 and top <= high):
        raise DataError(
            f"{name} holds values from {low:.4g} to {top:.4g}; expected 0 to {high:g}. Scale them to 0 to 65535 and "
            "save a PNG of 16 bits."
        )
    return Image.fromarray(np.round(values * (255 / high)).astype(np.uint8))
