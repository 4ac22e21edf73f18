"""Pictures of relevance inside a network: its flow, several classes, the channels of a layer."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from xaicompare.errors import InputError, unknown
from xaicompare.figures._common import BLUE_WHITE_RED, GREY, SMALL, STYLE
from xaicompare.lrp import LayerRelevance

_MOST_ROWS = 60  # layers that fit beneath each other


def relevance_flow(made: LayerRelevance, *, sample: int = 0) -> Figure:
    """Where the relevance of one sample is at each layer: its sum there, and what biases and epsilon took above.

    In a chain of layers both bars together are as long as the start everywhere; beside branches they are shorter, since
    other branches hold the rest.

    Raises:
        InputError: no such sample, or several classes for each.
    """
    _check(made, sample)
    names = list(made.sums)[:_MOST_ROWS]
    sums = np.array([float(made.sums[name][sample].detach()) for name in names])
    taken = np.array([float(made.absorbed[name][sample].detach()) for name in names])
    above = np.concatenate([[0.0], np.cumsum(taken)[:-1]])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.5, 0.9 + 0.16 * len(names)), layout="constrained")
        axes = figure.subplots()
        rows = np.arange(len(names))
        axes.barh(rows, sums, height=0.7, color="#4a90d0", label="relevance of the layer's outputs")
        axes.barh(rows, above, left=sums, height=0.7, color="0.75", label="absorbed above by biases and epsilon")
        axes.axvline(float(made.start[sample].detach()), color="#a8081f", linewidth=0.8, label="start")
        axes.set_yticks(rows, names)
        axes.set(ylim=(len(names) - 0.4, -0.6), xlabel=f"relevance, class {int(made.target[sample])}")
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def class_relevance(
    made: LayerRelevance, inputs: Tensor, *, classes: Sequence[str] | None = None, percentile: float = 99.0
) -> Figure:
    """Relevance of the inputs for several classes side by side: a row per sample, one scale for all its classes.

    Args:
        made: with target (n, k).
        inputs: (n, c, h, w), shown first, each stretched to its own range.
        classes: the names of all classes.

    Raises:
        InputError: one class for each sample only, or inputs that are no images.
    """
    if made.target.ndim != 2 or inputs.ndim != 4:
        raise InputError(
            f"target {tuple(made.target.shape)}, inputs {tuple(inputs.shape)}; expected (n, k), (n, c, h, w)."
        )
    n, k = made.target.shape
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.3 * (k + 1), 1.5 * n), layout="constrained")
        cells = figure.subplots(n, k + 1, squeeze=False)
        for row in range(n):
            _picture(cells[row, 0], inputs[row])
            maps = made.values[row].sum(1).detach().cpu().numpy()  # (k, h, w)
            top = float(np.percentile(np.abs(maps), percentile)) or 1.0
            for column, (cell, values) in enumerate(zip(cells[row, 1:], maps, strict=True)):
                number = int(made.target[row, column])
                cell.imshow(values, cmap=BLUE_WHITE_RED, vmin=-top, vmax=top)
                start = float(made.start[row, column].detach())
                cell.set_title(f"{number if classes is None else classes[number]}\n{start:.3g}")
        _bare(cells)
        figure.supxlabel(
            "Number: what the sweep began with. Red speaks for the class, blue against it.", size=SMALL, color=GREY
        )
    return figure


def channel_relevance(made: LayerRelevance, layer: str, *, sample: int = 0, top: int = 8) -> Figure:
    """The channels of a layer that hold most relevance of one sample: how much, and where.

    Raises:
        InputError: no such sample, or several classes for each.
        UnknownNameError: no such layer, or it was not kept.
    """
    _check(made, sample)
    if layer not in made.layers:
        raise unknown("layer that was kept", layer, made.layers)
    values = made.layers[layer][sample].detach().cpu().numpy()  # (c, ...)
    sums = values.reshape(len(values), -1).sum(1)
    chosen = np.argsort(-np.abs(sums))[:top]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.1 * len(chosen), 2.8), layout="constrained")
        parts: Any = figure.subfigures(2, 1)
        above, below = parts
        axes = above.subplots()
        axes.bar(
            range(len(chosen)), sums[chosen], color=["#a8081f" if sums[each] > 0 else "#0b4a9e" for each in chosen]
        )
        axes.set_xticks(range(len(chosen)), [str(each) for each in chosen])
        axes.set(xlabel=f"channel of {layer}", ylabel="relevance")
        if values.ndim == 3:
            largest = float(np.abs(values[chosen]).max()) or 1.0
            cells = below.subplots(1, len(chosen), squeeze=False)
            for cell, channel in zip(cells[0], chosen, strict=True):
                cell.imshow(values[channel], cmap=BLUE_WHITE_RED, vmin=-largest, vmax=largest)
            _bare(cells)
    return figure


def _check(made: LayerRelevance, sample: int) -> None:
    if made.target.ndim != 1:
        raise InputError(f"relevance of {made.target.shape[1]} classes for each sample; expected one.")
    if not -len(made.target) <= sample < len(made.target):
        raise InputError(f"sample={sample}; expected one of the {len(made.target)}.")


def _picture(cell: Axes, image: Tensor) -> None:
    shown = image.detach().float().cpu()
    shown = (shown - shown.min()) / (shown.max() - shown.min()).clamp_min(1e-12)
    cell.imshow((shown.movedim(0, 2) if len(shown) == 3 else shown.mean(0)).numpy(), cmap="gray", vmin=0, vmax=1)


def _bare(cells: np.ndarray) -> None:
    for cell in cells.flat:
        cell.set(xticks=[], yticks=[])
        cell.spines[:].set(color="0.85", linewidth=0.5)
