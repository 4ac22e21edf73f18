"""One image that loses its features: the curves of several methods, and the image with holes."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from xaicompare.errors import InputError
from xaicompare.figures._common import COLOURS, GREY, SMALL, STYLE, plain
from xaicompare.metrics import RemovalCurve

_ORDERS = {"most": "most important", "least": "least important", "random": "any"}


def removed(
    curves: Mapping[str, RemovalCurve],
    images: Mapping[str, Tensor],
    at: int,
    *,
    classes: Sequence[str] | None = None,
) -> Figure:
    """The confidence of one image over the share removed, a line per method, and each method's image at one share.

    A cross marks where another class than the explained one is predicted.

    Args:
        curves: of one sample each, over the same shares, by title.
        images: what is left at the share number `at`, (c, h, w) from 0 to 1, by the same titles.
        classes: the names of all classes; without them their numbers are shown.

    Raises:
        InputError: no curves, several samples, or no such share.
    """
    if not curves or any(len(curve.logits) != 1 for curve in curves.values()):
        raise InputError(f"{len(curves)} curves; expected one or more, of one sample each.")
    shares = next(iter(curves.values())).shares.numpy()
    if not 0 <= at < len(shares):
        raise InputError(f"at={at}; expected one of the {len(shares)} shares.")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(5.0, 1.5 * len(images)), 4.6), layout="constrained")
        above, below = figure.subfigures(2, 1, height_ratios=(2.6, 2.0))  # type: ignore[misc]
        panel = above.subplots()
        for place, (title, curve) in enumerate(curves.items()):
            colour = COLOURS[place % len(COLOURS)] if title in images else "0.5"
            values, wrong = curve.confidence()[0].numpy(), (curve.accuracy[0] == 0).numpy()
            panel.plot(shares, values, color=colour, linewidth=1.2, label=plain(title))
            panel.plot(shares[wrong], values[wrong], "x", color=colour, markersize=4)
        panel.axvline(shares[at], color=GREY, linewidth=0.8)
        panel.set(ylim=(-0.02, 1.02), xlim=(0, 1), ylabel="confidence")
        order = _ORDERS[next(iter(curves.values())).order]
        panel.set_xlabel(f"features removed, the {order} first; a cross: another class is predicted")
        panel.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        sns.despine(ax=panel)
        above.legend(loc="outside right center", frameon=False)
        for cell, (title, image) in zip(below.subplots(1, len(images), squeeze=False)[0], images.items(), strict=True):
            seen, curve = np.moveaxis(image.numpy(), 0, 2), curves[title]
            cell.imshow(seen if seen.shape[2] == 3 else seen[..., 0], cmap="gray", vmin=0, vmax=1)
            number = int(curve.predicted[0, at])
            name = str(number) if classes is None else str(classes[number])
            cell.set_title(plain(f"{title}\n{name}, {float(curve.confidence()[0, at]):.3f}"), size=SMALL)
            cell.set(xticks=[], yticks=[])
    return figure
