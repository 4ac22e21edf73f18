"""The leaderboard of a study: what each method's order of the features is worth."""

import re

import numpy as np

from xaicompare.errors import DataError
from xaicompare.results import Column, Results, Table
from xaicompare.stats.intervals import Interval, bootstrap_interval, bootstrap_intervals, paired_difference

CONTROLS = ("random", "edges", "center", "constant")
"""What every method has to beat: maps that know nothing of the model."""

GAIN_METRIC = "confidence_removal"
"""The metric whose curves the leaderboard ranks by."""

_GROUP = ["model", "dataset"]
_IMAGE = ["model", "dataset", "method", "image"]
_POINT = [*_IMAGE, "order", "share"]
_NEEDED = ("confidence", "signed_confidence")
_QUANTITIES = (*_NEEDED, "misclassified")  # the last where true classes are known


def leaderboard(results: Results, control: str = "random", *, metric: str = GAIN_METRIC) -> Table:
    """A row per model, data set and method, the best method first: what its order of the features is worth.

    - gain, gain_low, gain_high: mean over images and its 95 % interval. The gain of an image is the mean
      over shares of the signed confidence after removing the least important features, less the same after
      removing the most important ones: -2 to 2, 0 for an order without meaning, higher is better. The signed
      confidence carries a minus once the predicted class is no longer the explained one.
    - beats_<control>: "yes" if the 95 % interval of the gain less the control's, over the images both have,
      lies above 0, else "no"; "-" for the controls themselves and where the control was not run.
    - confidence_most, confidence_least: mean confidence after removing the most and the least important.
    - misclassified_most: how many of the images, from 0 to 1, are misclassified at the largest share removed,
      most important first.
    - strongest_correct, strongest_incorrect, each with _low and _high: the highest confidence over all removals of an
      image where the class was still right, and where it no longer was; mean over the images that had such removals,
      and its 95 % interval; NaN if none had.
    - seconds: median over images of the attribution's seconds per image.
    - images: how many.

    Raises:
        UnknownNameError: results of another metric only.
        DataError: the same removal was recorded twice, or one that the leaderboard needs is missing.
    """
    points = _points(results.where(metric=metric))
    gains = _gains(points)
    lines = []
    for key, part in points.groupby([*_GROUP, "method"], sort=False):
        model, dataset, method = map(str, key)
        rival = None if is_control(method) else gains.get((model, dataset, control))
        line = _line(part, gains[model, dataset, method], rival)
        lines.append({"model": model, "dataset": dataset, "method": method, **line})
    table = Table(lines).rename(columns={"beats": f"beats_{control}"})
    return table.sort_values([*_GROUP, "gain"], ascending=[True, True, False], kind="stable", ignore_index=True)


def removal_bands(results: Results, quantity: str, *, metric: str = GAIN_METRIC) -> Table:
    """A row per order, method and share removed: the mean of a quantity over images with its 95 % interval.

    Rows of the untouched image (share 0, no order) are where the curves of every order start.

    Raises:
        UnknownNameError: nothing was recorded of that metric or quantity.
        DataError: results of more than one model or data set; choose one with `results.where`.
    """
    chosen = results.where(metric=metric, quantity=quantity)
    one_study(chosen)
    table = chosen.table.dropna(subset="share")
    lines = []
    for order in chosen.names("order"):
        # Rows without an order are the untouched images, from which every order starts.
        here = table[table["order"].eq(order).fillna(table["share"].eq(0)).astype(bool)]
        for method, part in here.groupby("method", sort=False):
            values = _wide(part, ["image"], "share", f"{quantity} of {method}, {order} first")
            for share, interval in zip(values.columns, bootstrap_intervals(values).T, strict=True):
                lines.append((order, method, share, *interval))
    return Table(lines, columns=["order", "method", "share", *Interval._fields])


def removal_gains(results: Results, *, metric: str = GAIN_METRIC) -> Column:
    """The gain of every image (see `leaderboard`), indexed by model, dataset, method and image."""
    return _gains(_points(results.where(metric=metric)))


def one_study(results: Results) -> None:
    """Checks that all rows are of one model and one data set.

    Raises:
        DataError: they are not.
    """
    for noun in _GROUP:
        if len(results.names(noun)) > 1:
            raise DataError(f"results hold the {noun}s {', '.join(results.names(noun))}; expected one {noun}.")


def is_control(label: str) -> bool:
    """Whether a label names one of the controls, with or without settings in brackets behind the name.

    >>> is_control("random"), is_control("random(seed=1)"), is_control("random-forest")
    (True, True, False)
    """
    return re.fullmatch(rf"({'|'.join(CONTROLS)})(\s*\(.*\))?", label) is not None


def _points(results: Results) -> Table:
    """A row per image and removal with a column per quantity, the removals indexed by `_POINT`."""
    table = results.table
    removals = table[(table["share"] > 0) & table["order"].notna()]
    asked = _QUANTITIES if removals["label"].notna().any() or removals.empty else _NEEDED
    missing = [name for name in asked if name not in set(removals["quantity"])]
    if missing:
        raise DataError(f"results lack the quantities {', '.join(missing)}; the leaderboard needs them.")
    needed = removals[removals["quantity"].isin(_QUANTITIES)]
    points = _wide(needed, _POINT, "quantity", "a quantity of a removal")
    points = points.reindex(columns=list(_QUANTITIES))
    return points.join(removals.groupby(_IMAGE)["seconds"].first(), on=_IMAGE)


def _wide(table: Table, rows: list[str], columns: str, what: str) -> Table:
    """The values with one column per name, one row per combination; each exactly once."""
    try:
        wide = table.pivot(index=rows, columns=columns, values="value")
    except ValueError as error:
        raise DataError(f"{what} was recorded twice for one image; expected once.") from error
    if wide.isna().any(axis=None):
        raise DataError(f"{what} is missing or NaN for some image; expected it for each.")
    return wide


def _gains(points: Table) -> Column:
    """The symmetric gain of every image, indexed by `_IMAGE`."""
    kept = points["signed_confidence"].groupby(level=[*_IMAGE, "order"]).mean().unstack("order")
    for order in ("most", "least"):
        if order not in kept or kept[order].isna().any():
            raise DataError(f"results lack the order {order!r} for some images; the gain needs most and least.")
    return kept["least"] - kept["most"]


def _line(points: Table, gains: Column, rival: Column | None) -> dict[str, float | str]:
    """One method's columns of the leaderboard; `gains` and `rival`, the control's, are indexed by image."""
    most, least = (points.xs(order, level="order") for order in ("most", "least"))
    last = most.index.get_level_values("share").max()
    right, wrong = points["misclassified"] == 0, points["misclassified"] > 0
    return {
        **dict(zip(("gain", "gain_low", "gain_high"), bootstrap_interval(gains), strict=True)),
        "beats": "-" if rival is None else _beats(gains, rival),
        "confidence_most": most["confidence"].mean(),
        "confidence_least": least["confidence"].mean(),
        "misclassified_most": most["misclassified"].xs(last, level="share").mean(),
        **_strongest("strongest_correct", points["confidence"][right]),
        **_strongest("strongest_incorrect", points["confidence"][wrong]),
        "seconds": points["seconds"].groupby(level="image").first().median(),
        "images": len(gains),
    }


def _strongest(name: str, confidence: Column) -> dict[str, float]:
    """The mean over images of their highest confidence, with its interval."""
    highest = confidence.groupby(level="image").max()
    values = bootstrap_interval(highest) if len(highest) else (np.nan,) * 3
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _beats(gains: Column, rival: Column) -> str:
    """Whether the gains lie above the control's on the images both have."""
    both = gains.index.intersection(rival.index)
    return "yes" if len(both) and paired_difference(gains[both], rival[both]).low > 0 else "no"
