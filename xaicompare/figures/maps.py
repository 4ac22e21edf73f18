"""Attribution maps side by side, and how their values become colours."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from xaicompare.core import Attribution
from xaicompare.errors import InputError, SettingError, XaiCompareError, unknown
from xaicompare.figures._common import BLUE_WHITE_RED, GREY, LARGE, LINE, SMALL, STYLE, TINY, fitted
from xaicompare.figures._sheet import CELL, GAP, LEFT, canvas
from xaicompare.titles import titles

Array = NDArray[np.float64]
Column: TypeAlias = Attribution | XaiCompareError
"""What fills a column of a grid: an attribution, or the error that was raised in place of one."""

_SMALLEST_SQUARE = 8  # a side; fewer features are clearer as bars
_OVER = {"map": (2,), "row": (0, 2), "column": (1, 2)}  # of (columns, n, positions)
_WHOSE = {
    "map": "Each map is divided by its own",
    "row": "The maps of a row are divided by their common",
    "column": "The maps of a column are divided by their common",
}


class _Margin(NamedTuple):
    """What stands left of a row."""

    name: str  # of the explained class
    lines: list[str]  # its score; the predicted and the true class


def grid(
    many: Mapping[str, Column] | Attribution | Sequence[Attribution],
    *,
    classes: Sequence[str] | None = None,
    labels: Sequence[int] | Tensor | None = None,
    predicted: Sequence[int] | Tensor | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    normalisation: Literal["map", "row", "column"] = "map",
    percentile: float = 99.0,
    colormap: str | Colormap = BLUE_WHITE_RED,
    overlay: bool = False,
    outlines: float = 0.3,
    wrap: int | None = None,
    probabilities: Sequence[float] | Tensor | None = None,
) -> Figure:
    """Attributions side by side: a row per sample, a column per method, the inputs first.

    All maps share one scale, from -1 (against the explained class) to 1 (for it), and the figure says how their
    values were brought to it. An error in place of an attribution fills its column with the reason.

    Args:
        many: attributions of the same inputs and target, by the titles of their columns.
        classes: the names of all classes; without them their numbers are shown.
        labels: (n,) true classes, to show beside the explained ones.
        predicted: (n,) predicted classes, likewise.
        mean: what was subtracted from each channel of the inputs, to show them as they were; without it each is
            stretched to its own minimum and maximum.
        std: what each channel was then divided by; comes with `mean`.
        normalisation: which maps are divided by a common number.
        percentile: that number is this percentile of their |value|; what lies above is clipped. Below 100, lest a
            few extreme positions leave the rest blank.
        colormap: a diverging one of matplotlib.
        overlay: lay the maps over the inputs in grey, in place of outlines on white.
        outlines: how dark the outlines of the inputs are drawn into the maps, from 0 to 1.
        wrap: at most so many methods beside each other; more go below, beside the inputs again.
        probabilities: (n,) of the explained classes, to show beside their scores.

    Raises:
        InputError: no attribution, attributions of different inputs or targets, or classes or channels that
            don't fit them.
        SettingError: a setting out of range.
        UnknownNameError: no such normalisation or colour map.
    """
    _check(normalisation, percentile, outlines, colormap, wrap)
    columns = _columns(many)
    shown = _shared(columns)
    pictures = _pictures(shown.inputs, mean, std)
    edges = 0 * _outlines(pictures) if overlay else outlines * _outlines(pictures)
    under = _faded(pictures) if overlay else None
    maps = _scaled(columns, normalisation, percentile, pictures.shape[1:3])
    margins = _margins(shown, classes, {"predicted": predicted, "label": labels}, probabilities)
    note = _note(normalisation, percentile, stretched=mean is None, outlined=bool(edges.any()))
    labels_of = list(columns)
    groups = [
        labels_of[start : start + (wrap or len(columns))] for start in range(0, len(columns), wrap or len(columns))
    ]
    heads = _titles(columns)
    with mpl.rc_context(STYLE):
        scale = ScalarMappable(Normalize(-1, 1), colormap)
        blocks = [["input", *(heads[label] for label in group)] for group in groups]
        figure, made = canvas(blocks, pictures.shape, note, scale)
        for cells, group in zip(made, groups, strict=True):
            for row, margin in enumerate(margins):
                _draw_input(cells[row, 0], pictures[row], margin)
                for cell, label in zip(cells[row, 1:], group, strict=True):
                    if label in maps:
                        _draw_map(cell, maps[label][row], edges[row], None if under is None else under[row], scale)
                    else:
                        _draw_reason(cell, str(columns[label]))
    return figure


def _titles(columns: Mapping[str, Column]) -> dict[str, str]:
    """The columns' titles, as people write them."""
    return {label: label for label in columns} | titles(
        {label: made.method.name for label, made in _made(columns).items()}
    )


def _faded(pictures: Array) -> Array | None:
    """The inputs in light grey (n, h, w), to lay maps over; None for bars."""
    if pictures.ndim == 2:
        return None
    grey = pictures if pictures.ndim == 3 else pictures.mean(axis=3)
    return 0.45 + 0.55 * grey


def _check(normalisation: str, percentile: float, outlines: float, colormap: str | Colormap, wrap: int | None) -> None:
    if normalisation not in _OVER:
        raise unknown("normalisation", normalisation, _OVER)
    if not 0 < percentile <= 100:
        raise SettingError(f"percentile={percentile!r}; expected above 0 and at most 100, such as 99.")
    if not 0 <= outlines <= 1:
        raise SettingError(f"outlines={outlines!r}; expected from 0 (none) to 1 (black ones).")
    if wrap is not None and wrap < 1:
        raise SettingError(f"wrap={wrap!r}; expected a number of methods beside each other, from 1 up.")
    if isinstance(colormap, str) and colormap not in mpl.colormaps:
        raise unknown("colormap", colormap, mpl.colormaps)


def _columns(many: Mapping[str, Column] | Attribution | Sequence[Attribution]) -> dict[str, Column]:
    """Columns by title; those of a list are titled by their methods, with settings where names come twice."""
    if isinstance(many, Mapping):
        return dict(many)
    made = [many] if isinstance(many, Attribution) else list(many)
    names = [attribution.method.name for attribution in made]
    titles = [a.method.label() if names.count(a.method.name) > 1 else a.method.name for a in made]
    if len(set(titles)) < len(titles):
        raise InputError(f"attributions by {', '.join(titles)}; expected different ones, or a dict with titles.")
    return dict(zip(titles, made, strict=True))


def _shared(columns: Mapping[str, Column]) -> Attribution:
    """The first attribution, once all are known to explain the same outputs for the same inputs."""
    made = _made(columns)
    if not made:
        reasons = "".join(f" {label}: {reason}" for label, reason in columns.items())
        raise InputError(f"there is no attribution to draw; expected at least one.{reasons}")
    (label, first), *others = made.items()
    for other, attribution in others:
        for noun in ("inputs", "target"):
            if not np.array_equal(_array(getattr(attribution, noun)), _array(getattr(first, noun))):
                raise InputError(f"{other!r} has other {noun} than {label!r}; expected the same in all columns.")
    return first


def _made(columns: Mapping[str, Column]) -> dict[str, Attribution]:
    return {label: column for label, column in columns.items() if isinstance(column, Attribution)}


def _array(tensor: Tensor) -> Array:
    return np.asarray(tensor.detach().double().cpu().numpy())


def _pictures(inputs: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None) -> Array:
    """Inputs to look at: (n, h, w, 3) or grey (n, h, w) from 0 to 1, or (n, features) to draw as bars."""
    given = _array(inputs)
    channels = given.shape[1] if given.ndim == 4 else 1
    flat = given.reshape(len(given), channels, -1)  # (n, c, positions)
    if mean is not None and std is not None and len(mean) == len(std) == channels:
        flat = np.clip(flat * np.reshape(std, (-1, 1)) + np.reshape(mean, (-1, 1)), 0, 1)
    elif mean is None and std is None:
        low, high = flat.min(axis=(1, 2), keepdims=True), flat.max(axis=(1, 2), keepdims=True)
        flat = (flat - low) / np.where(high > low, high - low, 1)
    else:
        raise InputError(f"mean={mean!r}, std={std!r}; expected both, {channels} numbers each, or neither.")
    spatial = _spatial(given.shape)
    if channels == 3:
        return np.moveaxis(flat, 1, 2).reshape(-1, *spatial, 3)
    return flat.mean(axis=1).reshape(-1, *spatial)


def _spatial(shape: tuple[int, ...]) -> tuple[int, ...]:
    """How the positions of inputs (n, c, h, w) or (n, features) lie; a square number of features makes a square."""
    if len(shape) == 4:
        return shape[2:]
    side = math.isqrt(shape[1])
    return (side, side) if side**2 == shape[1] and side >= _SMALLEST_SQUARE else shape[1:]


def _outlines(pictures: Array) -> Array:
    """How much the pictures change at each position, (n, h, w) from 0 to 1; nothing for bars."""
    if pictures.ndim == 2:
        return np.zeros_like(pictures)
    grey = pictures if pictures.ndim == 3 else pictures.mean(axis=3)
    across, down = np.diff(grey, axis=2, prepend=grey[:, :, :1]), np.diff(grey, axis=1, prepend=grey[:, :1])
    change = np.hypot(across, down)
    strong = np.percentile(change, 98, axis=(1, 2), keepdims=True)
    return np.clip(change / np.where(strong > 0, strong, 1), 0, 1)


def _scaled(
    columns: Mapping[str, Column], normalisation: str, percentile: float, spatial: tuple[int, ...]
) -> dict[str, Array]:
    """The maps by label, each (n, *spatial), divided by their common number and clipped to -1 and 1."""
    made = _made(columns)
    maps = np.stack([_array(attribution.map).reshape(len(attribution), -1) for attribution in made.values()])
    size, over = np.abs(maps), _OVER[normalisation]  # (columns, n, positions)
    largest = size.max(axis=over, keepdims=True)
    common = np.percentile(size, percentile, axis=over, keepdims=True)
    common = np.where(common > 0, common, np.where(largest > 0, largest, 1))  # where nearly all values are 0
    scaled = np.clip(maps / common, -1, 1).reshape(*maps.shape[:2], *spatial)
    return dict(zip(made, scaled, strict=True))


def _margins(
    shown: Attribution,
    classes: Sequence[str] | None,
    others: Mapping[str, Sequence[int] | Tensor | None],
    probabilities: Sequence[float] | Tensor | None,
) -> list[_Margin]:
    given = {noun: [int(each) for each in numbers] for noun, numbers in others.items() if numbers is not None}
    chances = [] if probabilities is None else [float(each) for each in probabilities]
    counts = {f"{noun} classes": len(numbers) for noun, numbers in given.items()}
    counts |= {} if probabilities is None else {"probabilities": len(chances)}
    for what, count in counts.items():
        if count != len(shown):
            raise InputError(f"there are {count} {what}; expected {len(shown)}, one for each sample.")
    margins = []
    for row, explained in enumerate(int(number) for number in shown.target):
        lines = [f"score {float(shown.score[row]):.3g}"]
        lines += [f"probability {chances[row]:.1%}"] if chances else []
        for noun, numbers in given.items():
            same = numbers[row] == explained
            lines.append(f"{noun} ✓" if same else f"{noun} {_class_name(classes, numbers[row])}")
        margins.append(_Margin(_class_name(classes, explained), lines))
    return margins


def _class_name(classes: Sequence[str] | None, number: int) -> str:
    if classes is None:
        return f"class {number}"
    if not 0 <= number < len(classes):
        raise InputError(f"class {number} has no name among the {len(classes)} given; expected all names.")
    return str(classes[number])


def _note(normalisation: str, percentile: float, *, stretched: bool, outlined: bool) -> str:
    """How values became colours, in words."""
    top = "largest |value|" if percentile == 100 else f"{percentile:g} % quantile of |value| and clipped"
    inputs = "Each input is stretched to its own range." if stretched else "Inputs are as before their normalisation."
    outlines = " Grey outlines are the input's." if outlined else ""
    return f"{_WHOSE[normalisation]} {top}. {inputs}{outlines}"


def _draw_input(cell: Axes, picture: Array, margin: _Margin) -> None:
    if picture.ndim == 1:
        _draw_bars(cell, picture, ["0.5"])
    else:
        cell.imshow(picture, cmap="gray", vmin=0, vmax=1)
    name = fitted(margin.name, LEFT - 3 * GAP, LARGE, "bold")
    lines = [part for line in margin.lines for part in fitted(line, LEFT - 3 * GAP, SMALL)]
    beside: dict[str, Any] = {
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "ha": "right",
        "parse_math": False,
    }
    cell.annotate("\n".join(name), (0, 0.5), (-5, 1), weight="bold", size=LARGE, va="bottom", **beside)
    cell.annotate("\n".join(lines), (0, 0.5), (-5, -1), color=GREY, size=SMALL, va="top", **beside)


def _draw_map(cell: Axes, values: Array, outline: Array, under: Array | None, scale: ScalarMappable) -> None:
    colours = scale.to_rgba(values)[..., :3]  # (h, w, 3) or (features, 3)
    if values.ndim == 1:
        _draw_bars(cell, values, colours.tolist())
        cell.set_ylim(-1.05, 1.05)
    elif under is not None:
        strength = np.abs(values)[..., None] ** 0.7  # the weak half of the values would hardly be seen
        strong = scale.to_rgba(np.sign(values) * (0.5 + np.abs(values) / 2))[..., :3]
        cell.imshow(under[..., None] * (1 - strength) + strong * strength)
    else:
        # Outlines fade under strong values: darker, these would lose their colour.
        cell.imshow(colours * (1 - outline * (1 - np.abs(values)))[..., None])


def _draw_bars(cell: Axes, values: Array, colours: list[Any]) -> None:
    thick = 0.75 * 72 * CELL / len(values)  # points
    cell.vlines(np.arange(len(values)), 0, values, colors=colours, linewidth=thick)
    cell.axhline(0, color="0.6", linewidth=0.5)
    cell.set_xlim(-1, len(values))


def _draw_reason(cell: Axes, reason: str) -> None:
    """The reason why there is no map, as much of it as the cell holds."""
    lines = fitted(reason, CELL - 2 * GAP, TINY)
    holds = int(cell.bbox.height / cell.figure.dpi / (LINE * TINY))
    if len(lines) > holds:
        lines = [*lines[: holds - 1], lines[holds - 1].rpartition(" ")[0] + " …"]
    centre: dict[str, Any] = {"ha": "center", "va": "center", "transform": cell.transAxes, "parse_math": False}
    cell.set_facecolor("0.97")
    cell.text(0.5, 0.5, "\n".join(lines), size=TINY, color=GREY, **centre)
