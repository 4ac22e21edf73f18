"""Curves of a study's results, with bands for what the images leave uncertain."""

from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from xaicompare.errors import DataError
from xaicompare.figures._common import COLOURS, GREY, LARGE, SMALL, STYLE, plain
from xaicompare.results import Results, Table
from xaicompare.stats import is_control, removal_bands

_ORDERS = {
    "most": "Most important removed first",
    "least": "Least important removed first",
    "random": "As many removed at random",
}
_DIRECTION = {"confidence": 1, "signed_confidence": 1, "score": 1, "misclassified": -1}
_BETTER = {("most", 1): "lower", ("least", 1): "higher", ("most", -1): "higher", ("least", -1): "lower"}

_LINES: list[tuple[Any, str]] = [
    ("-", "o"),
    ((0, (5, 1, 1, 1)), "s"),
    ((0, (1, 0.8)), "^"),
    ((0, (6, 1, 1, 1, 1, 1)), "D"),
]
_CONTROLS: list[tuple[str, Any]] = [("black", (0, (4, 2))), ("0.45", (0, (4, 2))), ("0.65", (0, (2, 1.5)))]


def removal_curves(
    results: Results, quantity: str = "signed_confidence", *, metric: str = "confidence_removal"
) -> Figure:
    """What is left of a quantity as features are removed: a panel per order, a line per method.

    Lines are means over images, bands their 95 % bootstrap intervals; controls are dashed in black and grey. The
    legend starts with the method whose curves for the least and the most important first lie farthest apart.

    Raises:
        UnknownNameError: nothing was recorded of that metric or quantity.
        DataError: results of more than one model or data set; choose one with `results.where`. Or nothing was removed.
    """
    bands = removal_bands(results, quantity, metric=metric)
    orders = [order for order in _ORDERS if order in set(bands["order"])]
    if not orders:
        raise DataError(f"results hold no removals of {quantity}; expected the orders {', '.join(_ORDERS)}.")
    looks = _looks(dict.fromkeys(bands["method"]))
    with mpl.rc_context(STYLE):
        height = max(3.2, 0.17 * len(looks) + 0.4)  # inches, so that the legend fits
        figure = Figure(figsize=(2.6 * len(orders) + 1.6, height), layout="constrained")
        lines: dict[str, Any] = {}
        panels = figure.subplots(1, len(orders), sharey=True, squeeze=False)[0]
        for panel, order in zip(panels, orders, strict=True):
            shown = bands[bands["order"] == order]
            lines |= _draw_curves(panel, _told_apart(shown) if order == "random" else shown, looks)
            _title(panel, order, _BETTER.get((order, _DIRECTION.get(quantity, 0))))
        panels[0].set_ylabel(quantity.replace("_", " "))
        gains = _gains(bands, quantity)
        ranked = sorted(lines, key=lambda method: -gains.get(method, 0))
        title = "best first" if gains else None
        figure.legend(
            [lines[name] for name in ranked],
            [plain(name) for name in ranked],
            title=title,
            loc="outside right center",
            frameon=False,
        )
        figure.supxlabel(_source(results.where(metric=metric)), size=SMALL, color=GREY)
    return figure


def _looks(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour, line style and marker of each method, by its place among the others; controls apart."""
    looks: dict[str, dict[str, Any]] = {}
    controls = methods = 0
    for label in labels:
        if is_control(label):
            colour, style = _CONTROLS[controls % len(_CONTROLS)]
            looks[label] = {"color": colour, "linestyle": style, "linewidth": 1.2, "zorder": 2.5}
            controls += 1
        else:
            lap, place = divmod(methods, len(COLOURS))
            style, marker = _LINES[lap % len(_LINES)]
            looks[label] = {"color": COLOURS[place], "linestyle": style, "marker": marker, "linewidth": 1.0}
            methods += 1
    return looks


def _draw_curves(panel: Axes, bands: Table, looks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Draws the band and the line of every method into one panel; gives the lines by method."""
    lines: dict[str, Any] = {}
    for method, look in looks.items():
        curve = bands[bands["method"] == method].sort_values("share")
        if curve.empty:
            continue
        panel.fill_between(curve["share"], curve["low"], curve["high"], color=look["color"], alpha=0.1, linewidth=0)
        (lines[method],) = panel.plot(curve["share"], curve["mean"], markersize=2.5, markeredgewidth=0, **look)
    return lines


def _told_apart(bands: Table) -> Table:
    """One method of all that have the same curve: features that go at random go alike for each, and bands add up."""
    curves = {
        tuple(curve.sort_values("share")["mean"]): method for method, curve in bands.groupby("method", sort=False)
    }
    return bands[bands["method"].isin(curves.values())]


def _title(panel: Axes, order: str, better: str | None) -> None:
    hint = "what any order has to beat" if order == "random" else better and f"{better} is better"
    panel.set_title(_ORDERS[order], loc="left", size=LARGE, weight="bold", pad=14)
    above: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    panel.annotate(hint or "", (0, 1), (0, 5), color=GREY, size=SMALL, **above)
    panel.set_xlabel("features removed")
    panel.set_xlim(left=0)
    panel.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    panel.axhline(0, color="0.8", linewidth=0.6, zorder=0)
    panel.grid(axis="y", color="0.93", linewidth=0.6)
    sns.despine(ax=panel)


def _gains(bands: Table, quantity: str) -> dict[str, float]:
    """How far each method's curves for least and most important first lie apart; nothing where that says nothing."""
    means = {str(order): part.groupby("method")["mean"].mean() for order, part in bands.groupby("order")}
    if quantity not in _DIRECTION or not {"most", "least"} <= set(means):
        return {}
    gains = _DIRECTION[quantity] * (means["least"] - means["most"])
    return {str(method): float(gain) for method, gain in gains.dropna().items()}


def _source(results: Results) -> str:
    """What was measured: how many images, of which data set and model."""
    images = results.table["image"].nunique()
    of = f"{', '.join(results.names('dataset'))}, {', '.join(results.names('model'))}"
    return f"Means over {images} images ({of}); bands: 95 % bootstrap intervals."
