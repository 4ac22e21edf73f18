"""Pictures of what a study's metrics say of its methods: ranks, agreement, and quality beside cost."""

from itertools import pairwise
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import scikit_posthocs
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xaicompare.errors import DataError, unknown
from xaicompare.figures._common import BLUE_WHITE_RED, COLOURS, GREY, LARGE, SMALL, STYLE, plain
from xaicompare.results import Results, Table
from xaicompare.stats import CLAIMS, agreement, is_control, ranks, standings

Cost = Literal["passes", "seconds", "mebibytes"]
"""Arithmetic in units of a forward pass, or seconds, for each image; or memory at once."""

_MARKERS = ("o", "s", "^", "D")
_COSTS = {
    "passes": "arithmetic for each image, in forward passes",
    "seconds": "seconds for each image",
    "mebibytes": "MiB held at once",
}


def critical_difference(results: Results, metric: str = "confidence_gain") -> Figure:
    """Mean ranks of the methods by one metric; bars join those that Nemenyi's test can't tell apart (level 0.05).

    Source: Demsar 2006, JMLR 7, figure 1.

    Raises:
        UnknownNameError: nothing was recorded of that metric.
        DataError: results of more than one model or data set.
    """
    found = ranks(results, metric)
    mean_ranks = found.table["rank"].dropna().rename(plain)
    nemenyi = found.nemenyi.rename(index=plain, columns=plain)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.9 + 0.115 * len(mean_ranks)), layout="constrained")
        panel = figure.subplots()
        scikit_posthocs.critical_difference_diagram(
            mean_ranks,
            nemenyi,
            ax=panel,
            color_palette={name: "0.55" if is_control(name) else COLOURS[0] for name in mean_ranks.index},
            label_fmt_left="{label}  {rank:.1f}",
            label_fmt_right="{rank:.1f}  {label}",
            label_props={"size": SMALL},
            crossbar_props={"linewidth": 1.6, "color": "black"},
            elbow_props={"linewidth": 0.7},
        )
        panel.set_title(f"Mean rank by {plain(metric)}", loc="left", size=LARGE, weight="bold", pad=16)
        told = f"{found.images} images; Friedman p = {found.p:.2g}; critical difference {found.critical:.2f}."
        figure.supxlabel(f"1 is the best. {told} Bars: not told apart. Grey: controls.", size=SMALL, color=GREY)
    return figure


def scoreboard(results: Results) -> Figure:
    """Methods by metrics: the mean of each, coloured by the method's rank; a dagger where a control isn't beaten.

    Rows go by their mean rank over the metrics that claim faithfulness or localisation.

    Raises:
        DataError: results of more than one model or data set, or no values.
    """
    table = standings(results)
    metrics = list(dict.fromkeys(table.sort_values("family", kind="stable", key=_as_claimed)["metric"]))
    rank = table.pivot(index="method", columns="metric", values="rank")[metrics]
    claimed = [name for name in metrics if (table[table["metric"] == name]["family"].isin(CLAIMS)).all()]
    order = rank[claimed or metrics].mean(axis=1).sort_values().index
    with mpl.rc_context(STYLE):
        aside, above = (0.055 * max(len(plain(name)) for name in names) for names in (order, metrics))  # inches
        size = (0.6 + aside + 0.7 * above + 0.46 * len(metrics), 0.7 + above + 0.17 * len(order))
        figure = Figure(figsize=size, layout="constrained")
        panel = figure.subplots()
        shown = rank.loc[order]
        panel.imshow(_places(shown), cmap=BLUE_WHITE_RED.reversed(), aspect="auto", vmin=0, vmax=1, alpha=0.75)
        _cells(panel, table, list(order), metrics)
        families = table.drop_duplicates("metric").set_index("metric")["family"]
        names = [f"{plain(name)} {_arrow(table, name)}" for name in metrics]
        panel.set_xticks(range(len(metrics)), names, rotation=40, ha="left", rotation_mode="anchor")
        panel.xaxis.tick_top()
        panel.set_yticks(range(len(order)), [plain(name) for name in order])
        for place, (name, after) in enumerate(pairwise(metrics)):
            if families[name] != families[after]:
                panel.axvline(place + 0.5, color="black", linewidth=0.8)
        panel.tick_params(length=0)
        sns.despine(ax=panel, left=True, bottom=True)
        told = "Means over images; red: good ranks, white without. †: does not beat every control; ?: too few images."
        figure.supxlabel(told, size=SMALL, color=GREY)
    return figure


def metric_agreement(results: Results) -> Figure:
    """Kendall's tau between the orders in which any two metrics put the methods.

    Raises:
        DataError: results of more than one model or data set, or no values.
    """
    table = agreement(results).rename(index=plain, columns=plain) + 0.0  # no -0.0
    side = 0.9 + 0.06 * max(len(name) for name in table.index) + 0.3 * len(table)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(side + 0.6, side), layout="constrained")
        panel = figure.subplots()
        sns.heatmap(
            table,
            ax=panel,
            vmin=-1,
            vmax=1,
            cmap=BLUE_WHITE_RED,
            annot=True,
            fmt=".1f",
            annot_kws={"size": SMALL - 1},
            square=True,
            cbar_kws={"shrink": 0.6, "label": "Kendall's tau between orders of methods"},
        )
        panel.set(xlabel="", ylabel="")
        panel.tick_params(axis="x", rotation=90, length=0)
        panel.tick_params(axis="y", rotation=0, length=0)
    return figure


def cost_quality(results: Results, costs: Table, metric: str = "confidence_gain", cost: Cost = "passes") -> Figure:
    """What a method finds beside what it costs; lines join budgets of one method, grey marks controls.

    Args:
        costs: a row per method: method, name, budget, passes, seconds, mebibytes (`costs.csv` of a study).

    Raises:
        UnknownNameError: nothing was recorded of that metric, or no such cost.
        DataError: results of more than one model or data set; costs without these columns, or of other methods.
    """
    points = _points(results, costs, metric, cost)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, max(3.2, 0.16 * len(points) + 0.6)), layout="constrained")
        panel = figure.subplots()
        for place, (name, part) in enumerate(points.sort_values(cost).groupby("name", sort=False)):
            colour = "0.6" if is_control(str(name)) else COLOURS[place % len(COLOURS)]
            bars = np.abs(part[["low", "high"]].to_numpy().T - part["mean"].to_numpy())
            marker = "o" if is_control(str(name)) else _MARKERS[place // len(COLOURS) % len(_MARKERS)]
            look: dict[str, Any] = {
                "color": colour,
                "marker": marker,
                "markersize": 3,
                "linewidth": 1,
                "elinewidth": 0.7,
            }
            joined = "-" if part["budget"].nunique() == len(part) > 1 else ""
            panel.errorbar(part[cost], part["mean"], yerr=bars, linestyle=joined, **look)
        panel.set_xscale("log")
        _named(panel, points, cost)
        panel.set_xlabel(_COSTS[cost])
        panel.set_ylabel(f"{plain(metric.replace('_', ' '))} ({points['better'].iloc[0]} is better)")
        panel.grid(axis="y", color="0.93", linewidth=0.6)
        sns.despine(ax=panel)
    return figure


def _points(results: Results, costs: Table, metric: str, cost: str) -> Table:
    """The standings of one metric with the costs of the same methods."""
    if cost not in _COSTS:
        raise unknown("cost", cost, _COSTS)
    missing = [name for name in ("method", "name", "budget", cost) if name not in costs.columns]
    if missing:
        raise DataError(f"costs lack the columns {', '.join(missing)}; expected those of a study's costs.csv.")
    ranks(results, metric)  # says what is missing
    table = standings(results)
    points = table[table["metric"] == metric].merge(costs)
    if points.empty:
        raise DataError(f"costs are of {', '.join(map(str, costs['method']))}; expected the methods of the results.")
    return points


def _as_claimed(families: Any) -> Any:
    """Families that claim faithfulness or localisation first, then the others as they come."""
    known = [*CLAIMS, *dict.fromkeys(families)]
    return families.map(known.index)


def _places(rank: Table) -> Any:
    """Ranks from 0, the best there is, to 1."""
    return ((rank - 1) / max(len(rank) - 1, 1)).to_numpy()


def _cells(panel: Axes, table: Table, methods: list[str], metrics: list[str]) -> None:
    for row in table.to_dict("records"):
        x, y = metrics.index(row["metric"]), methods.index(row["method"])
        mark = {"no": " †", "few": " ?"}.get(row["beats"], "")
        weak: dict[str, Any] = {"color": "0.35", "style": "italic"} if mark else {}
        panel.text(x, y, _short(row["mean"]) + mark, size=SMALL - 1.5, ha="center", va="center", **weak)


def _short(value: float) -> str:
    """Two digits, in as few characters."""
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e") if 0 < abs(value) < 1e-3 else f"{value:.2g}"


def _arrow(table: Table, metric: str) -> str:
    return "↑" if table[table["metric"] == metric]["better"].iloc[0] == "high" else "↓"


def _named(panel: Axes, points: Table, cost: str) -> None:
    """The methods' names in a column at the right, in the order of their quality, none over another."""
    low, high = panel.get_ylim()
    ordered = points.sort_values("mean", kind="stable")
    heights = np.linspace(low, high, len(ordered) + 2)[1:-1]
    for height, row in zip(heights, ordered.to_dict("records"), strict=True):
        panel.annotate(
            plain(row["method"]),
            (row[cost], row["mean"]),
            (1.04, (height - low) / (high - low)),
            textcoords="axes fraction",
            size=SMALL,
            va="center",
            color="0.5" if is_control(row["name"]) else "black",
            arrowprops={"arrowstyle": "-", "color": "0.8", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2},
            annotation_clip=False,
        )
