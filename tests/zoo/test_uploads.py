"""Bytes of strangers: limits, and the same pixels as from a file."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from xaicompare.errors import DataError
from xaicompare.zoo import Scale, open_images
from xaicompare.zoo.uploads import MOST_BYTES, MOST_OBLONG, exact, uploaded


def photo(size: tuple[int, int] = (90, 60), mode: str = "RGB") -> Image.Image:
    across, down = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    colours = np.stack([across, down, 255 - across], -1).astype(np.uint8)
    return Image.fromarray(colours).convert(mode)


def saved(image: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **settings)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_pixels_are_those_of_the_same_file(tmp_path, kind: str, fit: str) -> None:
    data = saved(photo(), kind)
    path = tmp_path / f"photo.{kind.lower()}"
    path.write_bytes(data)
    made = uploaded(data, size=32, mode="RGB", fit=fit)
    scale = Scale((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    inputs = open_images([path], size=32, mean=scale.mean, std=scale.std, fit=fit)
    assert torch.equal(scale.normalised(made.pixels[None]), inputs)
    assert made.notes == ()


def test_what_cameras_and_printers_make_is_read_right() -> None:
    plain = uploaded(saved(photo()), size=32, mode="RGB").pixels.float()
    turned = photo().rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held a quarter to the left
    upright = uploaded(saved(turned, "JPEG", exif=exif, quality=98), size=32, mode="RGB").pixels.float()
    assert (upright - plain).abs().mean() < 3
    printed = uploaded(saved(photo(mode="CMYK"), "JPEG", quality=98), size=32, mode="RGB").pixels.float()
    assert (printed - plain).abs().mean() < 6
    deep = Image.fromarray(np.asarray(photo(mode="L")).astype(np.uint16) * 257)
    grey = uploaded(saved(photo(mode="L")), size=32, mode="L").pixels.float()
    assert (uploaded(saved(deep), size=32, mode="L").pixels.float() - grey).abs().max() <= 1
    clear = photo(mode="RGBA")
    clear.putalpha(128)
    assert (uploaded(saved(clear), size=32, mode="RGB").pixels.float() - plain).abs().max() <= 1


def test_of_a_moving_picture_the_first_frame_is_taken_and_told() -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "blue")]
    made = uploaded(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), size=16, mode="RGB")
    assert made.pixels[:, 8, 8].tolist() == [255, 0, 0]
    assert "first" in made.notes[0]


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def bomb(wide: int, high: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "no image"),  # would start another program
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 60, "no image"),
        (b"\xff\xd8\xff" + bytes(range(256)) * 4, "image"),
        (bomb(8000, 8000), "pixels"),
        (bomb(30_000, 30_000), "pixels"),
        (bomb(100, 100), "breaks off"),
        (b"\0" * (MOST_BYTES + 1), "MiB"),
        (saved(Image.new("L", (MOST_OBLONG * 10 + 1, 10))), "times the other"),
        (half(saved(photo((400, 300)), "JPEG")), "breaks off"),
        (half(saved(photo((400, 300)))), "breaks off"),
        (saved(Image.fromarray(np.full((20, 20), 7.0, np.float32)), "TIFF"), "expected 0 to 1"),
    ],
)
def test_what_is_no_image_is_told_in_a_sentence(data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words) as told:
        uploaded(data, size=32, mode="RGB")
    assert len(str(told.value)) < 300
    assert "Traceback" not in str(told.value)


def test_bars_are_no_pixels() -> None:
    with pytest.raises(DataError, match="pad"):
        uploaded(saved(photo()), size=32, mode="RGB", fit="pad")


def test_a_square_comes_back_as_it_was() -> None:
    pixels = uploaded(saved(photo()), size=32, mode="RGB").pixels
    square = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    assert torch.equal(exact(saved(square), size=32, mode="RGB"), pixels)
    for other in (
        saved(square.convert("L")),
        saved(square.resize((33, 32))),
        saved(square, "BMP"),
        b"",
        half(saved(square)),
    ):
        with pytest.raises(DataError):
            exact(other, size=32, mode="RGB")
