"""One image file as a square of pixels, and where the object is in it, by the same way."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, floor
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

from xaicompare.errors import DataError
from xaicompare.zoo.decoding import above_zero, eight_bits
from xaicompare.zoo.dicom import dicom_image

DICOM = ".dcm"

Fit = Literal["crop", "pad", "stretch"]
"""How an image becomes a square of a side. "crop": the shorter side is resized to 8/7 of it and the middle is cut out
(256 and 224, as torchvision does), so that the rim is not seen; "pad": all of it is seen, with bars of the mean colour;
"stretch": all of it, its sides pulled to one length. A file that is such a square already is taken as it is."""


class Box(NamedTuple):
    """A rectangle in the pixels of the upright image, from its upper left corner; x1 and y1 lie outside it.

    Of a box with fractions, the pixels that it covers in part are the object's, too.
    """

    x0: float
    y0: float
    x1: float
    y1: float

    def __call__(self, size: tuple[int, int]) -> Image.Image:
        """The mask of an image of that size.

        Raises:
            DataError: a box without an area, or beyond the image.
        """
        wide, high = size
        if not (0 <= self.x0 < self.x1 <= wide and 0 <= self.y0 < self.y1 <= high):
            raise DataError(f"the box is {tuple(self)}; expected x0 < x1 <= {wide} and y0 < y1 <= {high}, from 0 up.")
        mask = np.zeros((high, wide), np.uint8)
        mask[floor(self.y0) : ceil(self.y1), floor(self.x0) : ceil(self.x1)] = 255
        return Image.fromarray(mask)


class MaskFile(NamedTuple):
    """An image file that is above 0 where the object is."""

    path: Path

    def __call__(self, size: tuple[int, int]) -> Image.Image:
        """The mask, if it has that size.

        Raises:
            DataError: the file can't be read, or has another size.
        """
        mask = _mask(self.path)
        if mask.size != size:
            raise DataError(f"mask {self.path} has {mask.size} pixels; expected {size}, as its image. Save it anew.")
        return mask


Place = Box | MaskFile
"""Where the object is: called with the size (wide, high) of the upright image, it gives the mask, in mode "L"."""


def opened(path: Path, mode: str) -> Image.Image:
    """An image file upright, with 8 bits for each pixel, in mode "L" or "RGB".

    Raises:
        DataError: it can't be read, or is no image.
    """
    if path.suffix.lower() == DICOM:
        return dicom_image(path).convert(mode)
    with _file(path) as file:
        return eight_bits(file, mode, str(path))


def _mask(path: Path) -> Image.Image:
    if path.suffix.lower() == DICOM:
        return above_zero(dicom_image(path))
    with _file(path) as file:
        return above_zero(file)


@contextmanager
def _file(path: Path) -> Iterator[Image.Image]:
    """An image file while it is open; what Pillow finds wrong with it, in our words."""
    try:
        with Image.open(path) as file:
            yield file
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is no image that can be read; expected JPEG, PNG or alike.") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} can't be opened ({error}); expected an image file. Correct the path or the file."
        ) from error


def fitted(path: Path, size: int, mode: str, fit: Fit) -> Tensor:
    """The pixels of an image file, (c, size, size) uint8; with "pad" less on one side, see `squared`."""
    return pil_to_tensor(square_of(opened(path, mode), size, fit))


def squared(values: Tensor, size: int) -> Tensor:
    """Values (..., h, w) in the middle of a square of that size, with bars of 0: (..., size, size)."""
    height, width = values.shape[-2:]
    top, left = (size - height) // 2, (size - width) // 2
    return pad(values, (left, size - width - left, top, size - height - top))


def is_cut(path: Path, size: int) -> bool:
    """Whether "crop" takes anything away from the image in a file.

    Raises:
        DataError: it can't be read.
    """
    wide, high = _upright_size(path)
    return (wide, high) != (size, size) and (wide != high or _shorter(size) > size)


def square_mask(path: Path, place: Place, size: int, fit: Fit) -> Tensor:
    """Where the object is in what `square` gives, (size, size) bool.

    Raises:
        DataError: no position of it is left, or all of them are.
    """
    try:
        mask = place(_upright_size(path))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    found = squared(pil_to_tensor(square_of(mask, size, fit, InterpolationMode.NEAREST))[0], size) > 0
    if bool(found.all()) or not bool(found.any()):
        what = "everywhere" if bool(found.any()) else "nowhere"
        cut = " The rim is cut off: use fit = 'pad'." if fit == "crop" else ""
        raise DataError(f"{path}: the object is {what} in what the network sees; expected a part of it.{cut}")
    return found


def _upright_size(path: Path) -> tuple[int, int]:
    if path.suffix.lower() == DICOM:
        return dicom_image(path).size
    with _file(path) as file:
        turned = file.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # a quarter to either side
        wide, high = file.size
        return (high, wide) if turned else (wide, high)


def square_of(
    image: Image.Image, size: int, fit: Fit, how: InterpolationMode = InterpolationMode.BILINEAR
) -> Image.Image:
    """An upright image brought to that side, see `Fit`; with "pad" less on one side, see `squared`."""
    if image.size == (size, size):
        return image
    if fit == "crop":
        return center_crop(resize(image, _shorter(size), how), size)
    if fit == "stretch":
        return resize(image, [size, size], how)
    wide, high = image.size
    scale = size / max(wide, high)
    return resize(image, [max(1, round(high * scale)), max(1, round(wide * scale))], how)


def _shorter(size: int) -> int:
    """What the shorter side is resized to before the middle is cut out."""
    return round(size * 8 / 7)
