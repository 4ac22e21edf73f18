"""Images and maps as small PNG files within the page."""

import base64
import io

import numpy as np
from PIL import Image
from torch import Tensor

from xaicompare.colours import levels, palette


def picture(pixels: Tensor) -> str:
    """An image (1 or 3, h, w) uint8 as a data URI."""
    given = pixels.numpy()
    return _uri(Image.fromarray(given[0] if len(given) == 1 else np.moveaxis(given, 0, 2)))


def coloured(values: Tensor) -> str:
    """A map (h, w) from -1 to 1 as a data URI, coloured."""
    known = values.float().numpy()
    found = levels(known)
    image = Image.frombytes("P", (found.shape[1], found.shape[0]), found.tobytes())
    image.putpalette(palette().tobytes())
    return _uri(image)


def _uri(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")
