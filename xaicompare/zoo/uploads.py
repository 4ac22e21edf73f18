"""Bytes that a stranger handed in as a square of pixels: limited, decoded by few decoders, never written anywhere."""

import io
from typing import NamedTuple

from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from xaicompare.errors import DataError
from xaicompare.zoo.decoding import eight_bits
from xaicompare.zoo.opening import Fit, square_of

MOST_BYTES = 20 * 2**20
"""Of one file; cameras make up to half of it."""
MOST_PIXELS = 50_000_000
"""Of one image, decoded; beyond it a small file may ask for gigabytes."""
MOST_OBLONG = 16
"""The longer side over the shorter one, which is enlarged to what the network takes, and the longer one with it."""

# The formats of cameras, phones and the web. Others Pillow knows run other programs (EPS) or are hardly ever tried.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_NAMES = "JPEG, PNG, WebP, GIF, BMP, TIFF or PPM"


class Upload(NamedTuple):
    """What became of the bytes."""

    pixels: Tensor  # (c, size, size) uint8
    notes: tuple[str, ...]  # what was done to them that a viewer should know


def uploaded(data: bytes, *, size: int, mode: str, fit: Fit = "crop") -> Upload:
    """An image file's bytes as the pixels of a square, upright; of several frames the first.

    Args:
        size: the side of the square, in pixels.
        mode: "L" or "RGB".
        fit: how it becomes a square; "pad" is refused, since its bars are no pixels.

    Raises:
        DataError: too many bytes or pixels, too oblong, no image of a known format, or one that breaks off.
    """
    if fit == "pad":
        raise DataError("fit='pad' for an uploaded image; expected 'crop' or 'stretch'.")
    if len(data) > MOST_BYTES:
        raise DataError(
            f"the file has {len(data) / 2**20:.0f} MiB; expected at most {MOST_BYTES / 2**20:.0f}. Make it smaller."
        )
    with _opened(data, _FORMATS) as file:
        _check_sides(*file.size)
        notes = ("It has several frames; the first is shown.",) if getattr(file, "is_animated", False) else ()
        try:
            file.seek(0)
            upright = eight_bits(file, mode, "the file")
        except DataError:
            raise
        except Exception as error:  # decoders raise whatever they like on a stranger's bytes
            raise DataError(
                f"the image breaks off or is damaged ({_first_line(error)}); expected a whole one. Save it anew."
            ) from error
        return Upload(pil_to_tensor(square_of(upright, size, fit)), notes)


def exact(data: bytes, *, size: int, mode: str) -> Tensor:
    """The pixels of a PNG that has that side and mode already, (c, size, size) uint8.

    Raises:
        DataError: it is none, or another.
    """
    with _opened(data, ("PNG",)) as file:
        if file.size != (size, size) or file.mode != mode:
            raise DataError(f"a square of {file.size} in mode {file.mode}; expected {(size, size)} in {mode}.")
        try:
            return pil_to_tensor(file.copy())
        except Exception as error:  # as above
            raise DataError(f"the square is damaged ({_first_line(error)}); expected a whole PNG.") from error


def _opened(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    """The file with its header read, and no more."""
    Image.init()
    known = [each for each in formats if each in Image.OPEN]  # Pillow may have been built without one
    try:
        return Image.open(io.BytesIO(data), formats=known)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"the image has more than {MOST_PIXELS:,} pixels; expected fewer. Make it smaller.") from error
    except Exception as error:  # whatever a header makes of a decoder
        raise DataError(f"the file is no image that can be read; expected {_NAMES}.") from error


def _check_sides(wide: int, high: int) -> None:
    if wide * high > MOST_PIXELS:
        raise DataError(
            f"the image has {wide} x {high} pixels; expected at most {MOST_PIXELS:,} in all. Make it smaller."
        )
    if max(wide, high) > MOST_OBLONG * min(wide, high):
        raise DataError(
            f"the image has {wide} x {high} pixels; expected a side at most {MOST_OBLONG} times the other. Crop it."
        )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
