"""Images and maps as small PNG files within the page."""

import base64
import io

import numpy as np
from PIL import Image
from torch import Tensor

from xaicompare.colours import Bytes, levels, palette


def picture(pixels: Tensor) -> str:
    """An image (1 or 3, h, w) uint8 as a data URI."""
    return _uri(_image(pixels))


def png(pixels: Tensor) -> bytes:
    """An image (1 or 3, h, w) uint8 as the bytes of a PNG file."""
    return _bytes(_image(pixels))


def _image(pixels: Tensor) -> Image.Image:
    given = pixels.numpy()
    return Image.fromarray(given[0] if len(given) == 1 else np.moveaxis(given, 0, 2))


def coloured(values: Tensor) -> str:
    """A map (h, w) from -1 to 1 as a data URI, coloured: nothing is clear, so that it can lie over the photograph.

    Over white it has the colours of the scale.
    """
    return coloured_alike(values[None])[0]


def coloured_alike(values: Tensor) -> list[str]:
    """Maps (k, h, w) coloured by one scale, so that a weak one looks weak beside a strong one; see `coloured`."""
    return [_inked(found) for found in levels(values.float().cpu().numpy())]


def _inked(found: Bytes) -> str:
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
    return "data:image/png;base64," + base64.b64encode(_bytes(image, **settings)).decode("ascii")


def _bytes(image: Image.Image, **settings: bytes) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True, **settings)
    return content.getvalue()
