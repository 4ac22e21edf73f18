"""What all figures share: one style, and text that is broken to fit before it is drawn."""

import re
from functools import lru_cache

import seaborn as sns
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from xaicompare.colours import STOPS

GREY = "0.4"
LARGE, SMALL, TINY = 7.5, 6.5, 4.5  # points
LINE = 1.3 / 72  # inches from line to line, per point of the text's size

# Bright at both ends, unlike matplotlib's own: of single pixels, dark red and dark blue look the same.
BLUE_WHITE_RED = LinearSegmentedColormap.from_list("blue_white_red", STOPS)
"""Blue speaks against the explained class, red for it."""

# Without pink, grey and yellow: too pale for thin lines on white, or the controls' own.
COLOURS = [colour for number, colour in enumerate(sns.color_palette("colorblind")) if number not in (6, 7, 8)]

# Matplotlib's own font, by name: text is measured in it here and drawn later, when the style no longer holds.
_FONT = "DejaVu Sans"
STYLE = {
    **sns.axes_style("ticks"),
    "font.family": _FONT,
    "font.size": SMALL,
    "axes.titlesize": LARGE,
    "axes.labelsize": SMALL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "axes.edgecolor": "0.6",
    "axes.linewidth": 0.6,
    "xtick.color": "0.6",
    "ytick.color": "0.6",
    "xtick.labelcolor": GREY,
    "ytick.labelcolor": GREY,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.dpi": 200,
}
"""The settings of matplotlib in which every figure is made; those of the user stay what they are."""


def plain(label: str, most: int = 36) -> str:
    """A label as it is, in at most so many characters: dollars would set it as a formula.

    >>> plain("$5"), plain("abcdefgh", most=4)
    ('\\\\$5', 'abc…')
    """
    short = label if len(label) <= most else label[: most - 1] + "…"
    return short.replace("$", r"\$")


def fitted(text: str, room: float, size: float, weight: str = "normal") -> list[str]:
    """The lines of a text that is `size` points large and has `room` inches across.

    Breaks after spaces and the signs that names are made of; within a word only where it is too long for a line.

    >>> fitted("integrated_gradients", 0.8, 7.5)
    ['integrated_', 'gradients']
    """
    lines = [""]
    for word in re.findall(r"[^\s_,;:=/(-]*[\s_,;:=/(-]*", " ".join(text.split())):
        for piece in [word] if _inches(word.rstrip(), size, weight) <= room else word:
            if lines[-1] and _inches((lines[-1] + piece).rstrip(), size, weight) > room:
                lines.append("")
            lines[-1] += piece
    return [line.rstrip() for line in lines]


@lru_cache(maxsize=4096)
def _inches(text: str, size: float, weight: str) -> float:
    font = FontProperties(family=_FONT, size=size, weight=weight)
    return float(TextToPath().get_text_width_height_descent(text, font, ismath=False)[0]) / 72
