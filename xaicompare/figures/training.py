"""What a training experiment found: accuracy by share of the data, differences, time, and multipliers."""

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator, PercentFormatter

from xaicompare.errors import DataError
from xaicompare.figures._common import COLOURS, GREY, SMALL, STYLE
from xaicompare.results import Table
from xaicompare.runs import Runs
from xaicompare.stats import arm_means, differences, sizes

_MARKS = "osD^vP*X"


def training_curves(runs: Runs, baseline: str) -> Figure:
    """Accuracy, difference from the baseline, and training time, against the share of the training images.

    Bands and bars are 95 % intervals over repeats (see `few_sample_interval`); differences are paired.

    Raises:
        UnknownNameError: no runs of the baseline.
        DataError: an arm lacks runs that the baseline has.
    """
    means, gaps = arm_means(runs, baseline), differences(runs, baseline)
    arms = [baseline, *(arm for arm in dict.fromkeys(means["arm"]) if arm != baseline)]
    with mpl.rc_context(STYLE):
        height = max(2.8, 0.17 * len(arms) + 0.9)  # inches, so that the legend fits
        figure = Figure(figsize=(9.2, height), layout="constrained")
        accuracy, gap, time = figure.subplots(1, 3)
        lines = [_draw_arm(accuracy, time, means[means["arm"] == arm], look) for arm, look in _looks(arms)]
        for arm, look in list(_looks(arms))[1:]:
            _draw_gaps(gap, gaps[(gaps["arm"] == arm) & gaps["share"].notna()], arms.index(arm), len(arms), look)
        gap.axhline(0, color="black", linewidth=0.8)
        shares = sorted(set(means["share"]))
        for panel in (accuracy, gap, time):
            _share_axis(panel, shares)
        accuracy.set_ylabel("test accuracy")
        accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
        gap.set_ylabel(f"accuracy less that of {baseline}, points")
        time.set_ylabel("seconds of training, median")
        time.set_yscale("log")
        time.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        time.yaxis.set_minor_locator(NullLocator())
        time.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
        figure.legend(lines, arms, loc="outside right center", frameon=False)
        repeats = int(means["repeats"].max())
        figure.text(0.0, -0.02, f"{repeats} repeats; 95 % intervals", fontsize=SMALL, color=GREY, va="top")
    return figure


def size_accuracy(runs: Runs, baseline: str) -> Figure:
    """Accuracy against the number of parameters, an arm for each mark, a panel for each share of the images.

    Bars are 95 % intervals over repeats (see `few_sample_interval`).

    Raises:
        UnknownNameError: no runs of the baseline.
        DataError: all networks are of one size.
    """
    sized, means = sizes(runs, baseline), arm_means(runs, baseline)
    if sized.empty:
        raise DataError("all networks are of one size; expected arms that differ in it, such as pruned.")
    table = sized.merge(means, on=["arm", "share"])
    arms = [baseline, *(arm for arm in dict.fromkeys(table["arm"]) if arm != baseline)]
    shares = sorted(set(table["share"]))
    with mpl.rc_context(STYLE):
        height = max(2.8, 0.17 * len(arms) + 0.9)  # inches, so that the legend fits
        figure = Figure(figsize=(2.2 + 2.8 * len(shares), height), layout="constrained")
        panels = figure.subplots(1, len(shares), squeeze=False, sharey=True)[0]
        for panel, share in zip(panels, shares, strict=True):
            lines = _draw_sizes(panel, table[table["share"] == share], arms)
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.xaxis.set_major_formatter(EngFormatter(sep=""))
            panel.set_xlabel("parameters")
            panel.spines[["top", "right"]].set_visible(False)
            if len(shares) > 1:
                panel.set_title(f"{100 * share:g} % of the training images")
        panels[0].set_ylabel("test accuracy")
        panels[0].yaxis.set_major_formatter(PercentFormatter(1.0))
        figure.legend(lines, arms, loc="outside right center", frameon=False)
    return figure


def _draw_sizes(panel: Axes, table: Table, arms: list[str]) -> list[Any]:
    """A mark for each arm; those of one size stand side by side."""
    cells = {line["arm"]: line for line in table.to_dict("records")}
    lines = []
    for arm, look in _looks(arms):
        cell = cells[arm]
        alike = [other for other in arms if cells[other]["parameters"] == cell["parameters"]]
        beside = cell["parameters"] * 1.03 ** (alike.index(arm) - (len(alike) - 1) / 2)
        ends = np.array([[cell["accuracy"] - cell["accuracy_low"]], [cell["accuracy_high"] - cell["accuracy"]]])
        look |= {"markersize": 4, "linewidth": 0, "elinewidth": 1.0}
        lines.append(panel.errorbar([beside], [cell["accuracy"]], yerr=ends, **look))
    return lines


def multiplier_courses(runs: Runs) -> Figure:
    """The multiplier's distribution over the batches: a row per arm, a column per layer, at the largest share.

    Lines are medians, dark bands 5 to 95 %, light bands least to greatest; mean over repeats.

    Raises:
        DataError: nothing was recorded.
    """
    table = runs.multipliers
    if table.empty:
        raise DataError("runs hold no multipliers; expected a guided arm with record_every.")
    table = table[table["share"] == table["share"].max()]
    arms, layers = list(dict.fromkeys(table["arm"])), list(dict.fromkeys(table["layer"]))[::-1]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.0 + 1.7 * len(layers), 0.5 + 1.15 * len(arms)), layout="constrained")
        panels = figure.subplots(len(arms), len(layers), squeeze=False, sharex=True, sharey="row")
        for row, arm in zip(panels, arms, strict=True):
            row[0].set_ylabel(arm, rotation=0, ha="right", va="center")
            for panel, layer in zip(row, layers, strict=True):
                part = table[(table["arm"] == arm) & (table["layer"] == layer)]
                _draw_course(panel, part.drop(columns=["arm", "layer"]).groupby("batch").mean())
        for panel, layer in zip(panels[0], layers, strict=True):
            panel.set_title(layer)
        figure.supxlabel("batch", fontsize=SMALL, color=GREY)
    return figure


def _looks(arms: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The baseline is black; others have a colour and a mark each."""
    for place, arm in enumerate(arms):
        colour = "black" if place == 0 else COLOURS[(place - 1) % len(COLOURS)]
        yield arm, {"color": colour, "marker": _MARKS[place % len(_MARKS)], "markersize": 3, "linewidth": 1.0}


def _draw_arm(accuracy: Axes, time: Axes, means: Table, look: dict[str, Any]) -> Any:
    (line,) = accuracy.plot(means["share"], means["accuracy"], **look)
    accuracy.fill_between(
        means["share"], means["accuracy_low"], means["accuracy_high"], color=look["color"], alpha=0.15, linewidth=0
    )
    time.plot(means["share"], means["seconds"], **look)
    return line


def _draw_gaps(panel: Axes, gaps: Table, place: int, arms: int, look: dict[str, Any]) -> None:
    """Side by side, so that bars don't hide each other."""
    beside = gaps["share"] * 1.06 ** (place - arms / 2)
    middle = 100 * gaps["difference"]
    ends = np.abs(100 * gaps[["difference_low", "difference_high"]].to_numpy().T - middle.to_numpy())
    panel.errorbar(beside, middle, yerr=ends, **look | {"linewidth": 0, "elinewidth": 1.0})


def _share_axis(panel: Axes, shares: list[float]) -> None:
    panel.set_xscale("log")
    shown = [
        share for share in shares if share in (shares[0], shares[-1]) or share in (0.01, 0.03, 0.05, 0.1, 0.2, 0.5)
    ]
    panel.xaxis.set_major_locator(FixedLocator(shown))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    panel.set_xlim(shares[0] / 1.5, shares[-1] * 1.5)
    panel.set_xlabel("share of the training images")
    panel.spines[["top", "right"]].set_visible(False)


def _draw_course(panel: Axes, course: Table) -> None:
    colour = COLOURS[0]
    panel.fill_between(course.index, course["least"], course["greatest"], color=colour, alpha=0.15, linewidth=0)
    panel.fill_between(course.index, course["low"], course["high"], color=colour, alpha=0.4, linewidth=0)
    panel.plot(course.index, course["median"], color=colour, linewidth=1.0)
    panel.axhline(1, color="black", linewidth=0.5)
    panel.spines[["top", "right"]].set_visible(False)
