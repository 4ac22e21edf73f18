"""The colours of maps: what every picture of relevance shares, wherever it is drawn."""

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

STOPS = ("#0b4a9e", "#4a90d0", "#b8d6ee", "#ffffff", "#fbc4ae", "#e35d44", "#a8081f")
"""Colours of -1, 0 and 1 and between them, evenly spaced: blue against the explained class, red for it."""

PERCENTILE = 99.0
"""Of each map's |value|: what the map is divided by before it is coloured; what lies above is clipped."""

LEVELS = 61  # ten from stop to stop: no eye tells more apart, and noise takes a quarter fewer bytes


def levels(values: NDArray[np.floating]) -> Bytes:
    """A map (h, w), or several by one scale, as numbers of colours, 0 to `LEVELS` - 1; the middle one is nothing."""
    size = np.abs(values)
    common = float(np.percentile(size, PERCENTILE)) or float(size.max()) or 1.0
    scaled = np.clip(values / common, -1, 1)
    return np.rint((scaled + 1) / 2 * (LEVELS - 1)).astype(np.uint8)


def palette() -> Bytes:
    """The colour of every level, (levels, 3)."""
    stops = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in STOPS])  # (stops, 3)
    where = np.linspace(0, 1, LEVELS)
    known = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(where, known, channel) for channel in stops.T], axis=1).round().astype(np.uint8)
