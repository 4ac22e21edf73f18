"""Image files of any depth against their twins of eight bits."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import convert_color_space
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from xaicompare.errors import DataError
from xaicompare.zoo import open_images
from xaicompare.zoo.dicom import dicom_image

RAMP = np.tile(np.arange(256, dtype=np.uint8), (256, 1))


def seen(path: Path, channels: int = 1) -> torch.Tensor:
    return open_images([path], size=256, mean=(0.0,) * channels, std=(1.0,) * channels)


@pytest.fixture
def twin(tmp_path: Path) -> torch.Tensor:
    Image.fromarray(RAMP).save(tmp_path / "twin.png")
    return seen(tmp_path / "twin.png")


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_16_bits_are_their_8_bit_twin(ending: str, tmp_path: Path, twin: torch.Tensor) -> None:
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / f"deep.{ending}")
    made = seen(tmp_path / f"deep.{ending}")
    torch.testing.assert_close(made, twin)
    assert float(made.mean()) == pytest.approx(0.5, abs=0.01)
    torch.testing.assert_close(seen(tmp_path / f"deep.{ending}", 3), twin.expand(1, 3, -1, -1))


def test_big_endian_16_bits(tmp_path: Path, twin: torch.Tensor) -> None:
    Image.fromarray((RAMP.astype(np.uint16) * 257).astype(">u2")).save(tmp_path / "deep.tif")
    torch.testing.assert_close(seen(tmp_path / "deep.tif"), twin)


def test_floating_point(tmp_path: Path, twin: torch.Tensor) -> None:
    Image.fromarray((RAMP / 255).astype(np.float32)).save(tmp_path / "float.tif")
    torch.testing.assert_close(seen(tmp_path / "float.tif"), twin)


@pytest.mark.parametrize("values", [RAMP.astype(np.float32), RAMP.astype(np.float32) / 255 - 0.5])
def test_floating_point_of_another_range_is_told(values: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(values).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match=r"expected 0 to 1\. Scale them"):
        seen(tmp_path / "float.tif")


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "CMYK"])
def test_other_modes_are_their_twin(mode: str, tmp_path: Path, twin: torch.Tensor) -> None:
    given = Image.fromarray(RAMP)
    given = given.convert("RGB").convert("CMYK") if mode == "CMYK" else given.convert(mode)
    path = tmp_path / ("other.tif" if mode == "CMYK" else "other.png")
    given.save(path)
    torch.testing.assert_close(seen(path), twin, atol=1.01 / 255, rtol=0)
    torch.testing.assert_close(seen(path, 3), twin.expand(1, 3, -1, -1), atol=1.01 / 255, rtol=0)


def dicom(path: Path, pixels: np.ndarray, **tags: object) -> Path:
    """A DICOM file of one picture, grey unless tags and a third axis say otherwise."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    made = Dataset()
    made.file_meta = meta
    made.Rows, made.Columns = pixels.shape[:2] if pixels.shape[-1] == 3 else pixels.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
    for name, value in tags.items():
        setattr(made, name, value)
    made.PixelData = pixels.astype(np.uint16 if made.BitsAllocated == 16 else np.uint8).tobytes()
    made.save_as(path, enforce_file_format=True)
    return path


def test_dicom_is_seen_as_on_a_screen(tmp_path: Path, twin: torch.Tensor) -> None:
    deep = RAMP.astype(np.uint16)
    torch.testing.assert_close(seen(dicom(tmp_path / "a.dcm", deep * 16)), twin)  # of 12 bits, without a window
    turned = dicom(tmp_path / "b.dcm", (255 - deep) * 16, PhotometricInterpretation="MONOCHROME1")
    torch.testing.assert_close(seen(turned), twin)
    torch.testing.assert_close(seen(tmp_path / "a.dcm", 3), twin.expand(1, 3, -1, -1))


def test_dicom_by_its_window(tmp_path: Path) -> None:
    pixels = RAMP[:, ::-1] // 2  # 127 down to 0: values from 27 to -100 after the rescaling
    tags = {"RescaleSlope": "1", "RescaleIntercept": "-100", "WindowCenter": ["0", "40"], "WindowWidth": ["201", "80"]}
    row = seen(dicom(tmp_path / "ct.dcm", pixels, **tags))[0, 0, 0]
    values = torch.tensor(pixels[0].astype(float)) - 100
    torch.testing.assert_close(row.double(), (values + 0.5) / 200 + 0.5, atol=1 / 255, rtol=0)  # no value reaches white
    assert float(row.max()) < 0.65
    exact = seen(dicom(tmp_path / "exact.dcm", pixels, **tags, VOILUTFunction="LINEAR_EXACT"))[0, 0, 0]
    torch.testing.assert_close(exact.double(), values / 201 + 0.5, atol=1 / 255, rtol=0)
    sigmoid = seen(dicom(tmp_path / "sigmoid.dcm", pixels, **tags, VOILUTFunction="SIGMOID"))[0, 0, 0]
    torch.testing.assert_close(sigmoid.double(), torch.sigmoid(4 * values / 201), atol=1 / 255, rtol=0)


TWO_COLOURS = np.tile(np.array([[[200, 30, 60], [10, 180, 90]]], np.uint8), (128, 128, 1))  # (128, 256, 3)
COLOUR = {"SamplesPerPixel": 3, "PlanarConfiguration": 0}


@pytest.mark.parametrize(("kind", "bits"), [("RGB", 8), ("RGB", 12), ("RGB", 16), ("YBR_FULL", 8)])
def test_dicom_in_colour(kind: str, bits: int, tmp_path: Path) -> None:
    stored = TWO_COLOURS if kind == "RGB" else convert_color_space(TWO_COLOURS, "RGB", kind)
    deep = np.round(stored * ((2**bits - 1) / 255))
    allocated = 8 if bits == 8 else 16
    tags = {"BitsAllocated": allocated, "BitsStored": bits, "HighBit": bits - 1, "PhotometricInterpretation": kind}
    path = dicom(tmp_path / "a.dcm", deep, **COLOUR, **tags)
    found = np.asarray(dicom_image(path)).astype(int)
    assert np.abs(found - TWO_COLOURS).max() <= (0 if kind == "RGB" else 2)  # luminance and chroma are rounded


def test_dicom_by_a_palette(tmp_path: Path) -> None:
    colours = [("Red", (0, 65535)), ("Green", (0, 0)), ("Blue", (65535, 0))]
    tags: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, table in colours:
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
        tags[f"{name}PaletteColorLookupTableData"] = np.array(table, np.uint16).tobytes()
    found = np.asarray(dicom_image(dicom(tmp_path / "a.dcm", RAMP % 2, **tags)))
    assert found[0, :2].tolist() == [[0, 0, 255], [255, 0, 0]]


def test_dicom_that_is_not_one_picture(tmp_path: Path) -> None:
    path = dicom(tmp_path / "many.dcm", np.stack([RAMP, RAMP]), NumberOfFrames="2")
    with pytest.raises(DataError, match=r"holds pictures of shape \(2, 256, 256\); expected one"):
        seen(path)
    (tmp_path / "scan.dcm").write_bytes(b"no dicom")
    with pytest.raises(DataError, match="can't be read as DICOM"):
        seen(tmp_path / "scan.dcm")


def test_dicom_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r"pip install 'xaicompare-torch\[dicom\]', or convert it to a PNG of 16 bits"):
        seen(tmp_path / "scan.dcm")
