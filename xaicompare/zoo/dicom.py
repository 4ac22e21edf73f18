"""DICOM, the files of hospitals, as pictures: what a radiologist's screen shows by the file's own window."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from xaicompare.errors import DataError


def dicom_image(path: Path) -> Image.Image:
    """The one picture of a DICOM file with 8 bits: "L", or "RGB" where it is in colour.

    Stored values become those of the modality (rescale slope and intercept, or its table), then those of the screen
    (the file's table, or its first window). Without either the least value is black and the greatest white.
    MONOCHROME1, in which the least value is white, is turned round. Colours are those of RGB, also where the file has
    them as luminance and chroma or by a palette; 16 bits of them count as far as the file says.

    Source: DICOM PS3.3, C.11.1 (modality LUT), C.11.2 (VOI LUT), C.7.6.3.1.2 (photometric interpretation),
    C.7.9 (palette).

    Raises:
        DataError: pydicom is not installed; the file can't be read, or holds several pictures or none.
    """
    try:
        from pydicom import dcmread
        from pydicom.pixels import apply_color_lut, apply_modality_lut
    except ImportError as error:
        raise DataError(
            f"{path} is DICOM; expected JPEG, PNG or alike, or the package that reads it. "
            "pip install 'xaicompare-torch[dicom]', or convert it to a PNG of 16 bits."
        ) from error
    try:
        file = dcmread(path)
        pixels, kind = file.pixel_array, str(file.PhotometricInterpretation)
        if pixels.ndim == 3 and pixels.shape[-1] == 3 and file.get("SamplesPerPixel") == 3:
            return _in_colour(pixels, 2 ** int(file.BitsStored) - 1)  # RGB: pydicom has converted what was YBR
        if pixels.ndim == 2 and kind == "PALETTE COLOR":
            colours = apply_color_lut(pixels, file)
            return _in_colour(colours[..., :3], int(np.iinfo(colours.dtype).max))
        if pixels.ndim == 2:
            shown = _on_screen(apply_modality_lut(pixels, file), file)
            return Image.fromarray(np.round(255 * (1 - shown if kind == "MONOCHROME1" else shown)).astype(np.uint8))
    except Exception as error:  # whatever pydicom or a codec finds wrong with it
        raise DataError(f"{path} can't be read as DICOM ({error}); expected a picture. Convert it to a PNG.") from error
    raise DataError(
        f"{path} holds pictures of shape {pixels.shape}; expected one, (high, wide). Save the one that is meant as PNG."
    )


def _in_colour(values: np.ndarray, white: int) -> Image.Image:
    """Colours (high, wide, 3) from 0 to `white`, with 8 bits."""
    return Image.fromarray(np.round(values.astype(np.float64) * (255 / white)).astype(np.uint8))


def _on_screen(values: np.ndarray, file: Any) -> np.ndarray:
    """Brightness from 0 to 1 of modality values (high, wide)."""
    if file.get("VOILUTSequence"):
        from pydicom.pixels import apply_voi

        return np.asarray(apply_voi(values, file) / (2 ** int(file.VOILUTSequence[0].LUTDescriptor[2]) - 1))
    values = values.astype(np.float64)
    if "WindowCenter" in file and "WindowWidth" in file:
        return _windowed(values, _first(file.WindowCenter), _first(file.WindowWidth), file)
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _first(given: Any) -> float:
    return float(given if isinstance(given, (int, float, str)) else given[0])


def _windowed(values: np.ndarray, centre: float, width: float, file: Any) -> np.ndarray:
    """The window's function (C.11.2.1.2 and C.11.2.1.3), by default the linear one."""
    function = file.get("VOILUTFunction", "LINEAR")
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-4 * (values - centre) / width)))
    if function == "LINEAR_EXACT":
        return ((values - centre) / width + 0.5).clip(0, 1)
    return ((values - (centre - 0.5)) / max(width - 1, 1e-9) + 0.5).clip(0, 1)
