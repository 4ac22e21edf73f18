"""Image files of any depth against their twins of eight bits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xaicompare.errors import DataError
from xaicompare.zoo import open_images

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


def test_dicom_says_how_to_convert(tmp_path: Path) -> None:
    (tmp_path / "scan.dcm").write_bytes(b"\0" * 128 + b"DICM")
    with pytest.raises(DataError, match="Convert it to a PNG of 16 bits"):
        seen(tmp_path / "scan.dcm")
