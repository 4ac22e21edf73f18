"""How the nouns look in a notebook: small tables and pictures as HTML, in which every word of a user is escaped."""

import base64
import html
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from xaicompare.colours import Bytes, levels, palette

ROWS = 8
"""What is shown of a table, at most."""

_SIDE = 64  # pixels of a picture, at most: eight noisy ones stay below 50 kB
_LONGEST = 400  # letters of a word


class Picture(NamedTuple):
    """A cell that is a picture."""

    uri: str
    words: str  # for those who don't see it


Cell = str | Picture


def table(title: str, notes: Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A titled table."""
    heads = "".join(f'<th scope="col" style="text-align:left">{_plain(column)}</th>' for column in columns)
    lines = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
    said = "".join(f"<div><small>{_plain(note)}</small></div>" for note in notes)
    body = f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>" if lines else ""
    return f"<div><div><b>{_plain(title)}</b></div>{said}{body}</div>"


def relevance_picture(values: Tensor, words: str) -> Picture | None:
    """A map (h, w), or (features,) as a strip, in blue, white and red; None where it has more dimensions."""
    if values.ndim not in (1, 2) or not values.numel():
        return None
    shown = values.detach().float().cpu().reshape(-1, values.shape[-1])  # (h, w)
    height, width = (min(_SIDE, side) for side in shown.shape)
    small = adaptive_avg_pool2d(shown[None, None], (height, width))[0, 0]
    return Picture(_png(levels(small.numpy()), palette()), words)


def _png(indices: Bytes, colours: Bytes) -> str:
    """Indices (h, w) into colours (n, 3) as a data URI; PNG, ISO/IEC 15948, with no filter before deflate."""
    height, width = indices.shape
    lines = b"".join(b"\0" + row.tobytes() for row in indices)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),  # 8 bits, a palette
        (b"PLTE", colours.tobytes()),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def _cell(cell: Cell) -> str:
    if isinstance(cell, Picture):
        words = html.escape(cell.words, quote=True)
        style = "image-rendering:pixelated;height:64px;min-width:64px"
        return f'<img src="{cell.uri}" alt="{words}" style="{style}">'
    return _plain(cell)


def _plain(text: str) -> str:
    return html.escape(text if len(text) <= _LONGEST else text[:_LONGEST] + " …")
