"""Images and maps as small PNG files within the page."""

import base64
import io

import numpy as np
from PIL import Image
from torch import Tensor

from xaicompare.colours import Bytes, levels, palette


def picture(pixels: Tensor) -> str:
    """An image (1 or 3, h, w) uint8 as a data URI."""
    given = pixels.numpy()
    return _uri(Image.fromarray(given[0] if len(given) == 1 else np.moveaxis(given, 0, 2)))


def coloured(values: Tensor) -> str:
    """A map (h, w) from -1 to 1 as a data URI, coloured: nothing is clear, so that it can lie over the photograph.

    Over white it has the colours of the scale.
    """
    known = values.float().numpy()
    found = levels(known)
    image = Image.frombytes("P", (found.shape[1], found.shape[0]), found.tobytes())
    inks, opacity = _clear(palette())
    image.putpalette(inks.tobytes())
    return _uri(image, transparency=opacity.tobytes())


def _clear(colours: Bytes) -> tuple[Bytes, Bytes]:
    """Colours (k, 3) as the most transparent inks that look like them over white, and these inks' opacity, (k,)."""
    given = colours.astype(float)
    opacity = 255 - given.min(1)
    inks = 255 - 255 * (255 - given) / np.maximum(opacity, 1)[:, None]
    return inks.round().astype(np.uint8), opacity.astype(np.uint8)


def _uri(image: Image.Image, **settings: bytes) -> str:
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True, **settings)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")
