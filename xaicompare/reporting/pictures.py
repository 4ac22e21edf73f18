"""Images and maps as small PNG files within the page."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Bytes = NDArray[np.uint8]

# The scale of `xaicompare.grid`, from against the explained class to for it.
STOPS = ("#0b4a9e", "#4a90d0", "#b8d6ee", "#ffffff", "#fbc4ae", "#e35d44", "#a8081f")
"""Colours of -1, 0 and 1 and between them, evenly spaced."""

PERCENTILE = 99.0
"""Of each map's |value|: what the map is divided by before it is coloured; what lies above is clipped."""

_LEVELS = 61  # ten from stop to stop: no eye tells more apart, and noise takes a quarter fewer bytes


def picture(pixels: Tensor) -> str:
    """An image (1 or 3, h, w) uint8 as a data URI."""
    given = pixels.numpy()
    return _uri(Image.fromarray(given[0] if len(given) == 1 else np.moveaxis(given, 0, 2)))


def coloured(values: Tensor) -> str:
    """A map (h, w) from -1 to 1 as a data URI, coloured."""
    known = values.float().numpy()
    size = np.abs(known)
    common = float(np.percentile(size, PERCENTILE)) or float(size.max()) or 1.0
    scaled = np.clip(known / common, -1, 1)
    levels = np.rint((scaled + 1) / 2 * (_LEVELS - 1)).astype(np.uint8)
    image = Image.frombytes("P", (levels.shape[1], levels.shape[0]), levels.tobytes())
    image.putpalette(_palette().tobytes())
    return _uri(image)


def _palette() -> Bytes:
    """The colour of every level, (levels, 3)."""
    stops = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in STOPS])  # (stops, 3)
    where = np.linspace(0, 1, _LEVELS)
    known = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(where, known, channel) for channel in stops.T], axis=1).round().astype(np.uint8)


def _uri(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")
