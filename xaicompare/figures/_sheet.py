"""The paper of a grid: cells, titles, the note below and the colour bar, placed in inches."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray

from xaicompare.figures._common import GREY, LARGE, LINE, SMALL, fitted

Cells = NDArray[np.object_]

CELL, GAP, LEFT = 1.0, 0.06, 1.15  # inches: a cell, between two cells, for the margin on the left
_BAR, _FOOT = 1.7, 0.42  # inches: the colour bar's length, the least height below the cells


class _Sheet(NamedTuple):
    """A figure whose places are given in inches from its top left corner."""

    figure: Figure
    width: float
    height: float

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        place = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(place)

    def write(self, left: float, top: float, lines: list[str], **look: Any) -> None:
        self.figure.text(left / self.width, 1 - top / self.height, "\n".join(lines), parse_math=False, **look)


def canvas(
    blocks: Sequence[Sequence[str]], shape: tuple[int, ...], note: str, scale: ScalarMappable
) -> tuple[Figure, list[Cells]]:
    """A figure for inputs (n, h, w, ...) or (n, features), with titles, note and colour bar; its empty cells.

    Args:
        blocks: the titles of the columns, block below block; in each the inputs have a row of cells.
    """
    tall = CELL * (shape[1] / shape[2] if len(shape) > 2 else 0.75)
    width = LEFT + max(map(len, blocks)) * (CELL + GAP)
    heads = [[fitted(title, CELL, LARGE, "bold") for title in titles] for titles in blocks]
    words = fitted(note, max(width - _BAR - 4 * GAP, LEFT), SMALL)
    tops = [LINE * LARGE * max(map(len, head)) + 2 * GAP for head in heads]
    floor = sum(tops) + len(blocks) * shape[0] * (tall + GAP)
    height = floor + max(_FOOT, LINE * SMALL * len(words) + 2 * GAP)
    sheet = _Sheet(Figure(figsize=(width, height)), width, height)
    made, top = [], 0.0
    for head, above in zip(heads, tops, strict=True):
        top += above
        made.append(_block(sheet, head, shape[0], top, tall))
        top += shape[0] * (tall + GAP)
    sheet.write(GAP, floor + GAP, words, size=SMALL, color=GREY, va="top", linespacing=1.2)
    bar = sheet.axes(width - _BAR - GAP, floor + 2 * GAP, _BAR, 0.08)
    _draw_scale(bar, scale)
    return sheet.figure, made


def _block(sheet: _Sheet, heads: Sequence[list[str]], rows: int, top: float, tall: float) -> Cells:
    cells = np.empty((rows, len(heads)), dtype=object)
    for row, column in np.ndindex(cells.shape):
        left = LEFT + column * (CELL + GAP)
        cells[row, column] = _bare(sheet.axes(left, top + row * (tall + GAP), CELL, tall))
    for column, lines in enumerate(heads):
        middle = LEFT + column * (CELL + GAP) + CELL / 2
        sheet.write(middle, top - GAP, lines, size=LARGE, weight="bold", ha="center", va="bottom")
    return cells


def _bare(cell: Axes) -> Axes:
    cell.set(xticks=[], yticks=[])
    cell.spines[:].set(visible=True, color="0.85", linewidth=0.5)
    return cell


def _draw_scale(bar: Axes, scale: ScalarMappable) -> None:
    bar.figure.colorbar(scale, cax=bar, orientation="horizontal", ticks=[-1, 0, 1])
    bar.set_xticks([-1, 0, 1], ["-1, against", "0", "1, for the class"])
    bar.tick_params(length=2, pad=1)
    for label, side in zip(bar.get_xticklabels(), ("left", "center", "right"), strict=True):
        label.set(horizontalalignment=side)
