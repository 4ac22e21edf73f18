"""What every metric said of every method, image by image: the table on which methods are compared."""

from functools import lru_cache

import numpy as np

from xaicompare.errors import DataError
from xaicompare.results import Results, Table
from xaicompare.stats.leaderboard import GAIN_METRIC, is_control, one_study, removal_gains

CLAIMS = ("removal", "subsets", "localisation")
"""The families of metrics that any map about the model has to do better at than the controls.

Elsewhere controls can be perfect: a constant map never changes, depends on no parameter, hides nothing of the image.
"""

GAINS = "confidence_gain"
"""The metric that is made from a study's removal curves: see `leaderboard`."""

_ROUNDING = 1e-6
"""Values that differ by less than this share of the greatest one are equal: float32 computes no more."""


def scores(results: Results) -> Table:
    """A row per metric, method and image: metric, family, better ("high" or "low"), method, image, value.

    Each metric's values as they were recorded; and, where confidence was recorded under removals of the most and the
    least important features, its gain (see `leaderboard`) as the metric "confidence_gain".

    Raises:
        DataError: results of more than one model or data set, no value of any metric, a value that is not finite, or a
            metric whose direction is neither "high" nor "low", or both.
    """
    return _scores(results, state(results)).copy()


def state(results: Results) -> float:
    """What tells a table that was changed in place from the one that an answer was kept of."""
    return float(results.table["value"].sum())


@lru_cache(maxsize=4)  # every question about a study begins here, and its gains take seconds
def _scores(results: Results, _: float) -> Table:
    one_study(results)
    table = results.table
    columns = ["metric", "family", "better", "method", "image", "value"]
    found = table.loc[table["quantity"].eq("value") & table["better"].notna(), columns]
    if GAIN_METRIC in set(table["metric"]):
        gains = removal_gains(results).rename("value").reset_index()
        gains = gains.assign(metric=GAINS, family="removal", better="high")
        found = Table({column: [*gains[column], *found[column]] for column in columns})
    if found.empty:
        raise DataError("results hold no values of a metric with a direction; expected some. Run a study with metrics.")
    _check(found)
    return found.reset_index(drop=True)


def _check(values: Table) -> None:
    for metric, directions in values.groupby("metric", sort=False)["better"].unique().items():
        if list(directions) not in (["high"], ["low"]):
            raise DataError(f"{metric} has the directions {list(directions)}; expected 'high' or 'low', one for all.")
    bad = values[~np.isfinite(values["value"].to_numpy(dtype=float))]
    if len(bad):
        first = bad.iloc[0]
        raise DataError(
            f"{first['metric']} of {first['method']}, image {first['image']}, is {first['value']}; expected a number."
        )


def by_method(values: Table, metric: str) -> Table:
    """The values of one metric, an image per row, a method per column; NaN where a method did not see an image.

    Rounded to a millionth of the greatest, so that what differs by rounding alone is a tie.

    Raises:
        DataError: a method has two values for one image.
    """
    chosen = values[values["metric"] == metric]
    try:
        wide = chosen.pivot(index="image", columns="method", values="value")
    except ValueError as error:
        raise DataError(f"{metric} was recorded twice for one image; expected once.") from error
    wide = wide[list(dict.fromkeys(chosen["method"]))].astype(float)
    step = _ROUNDING * float(np.nanmax(np.abs(wide.to_numpy())))
    return (wide / step).round() * step if step > 0 else wide


def oriented(values: Table, metric: str) -> Table:
    """The same, with its sign turned where low values are good: higher ones are better."""
    wide = by_method(values, metric)
    return wide if measures(values)["better"][metric] == "high" else -wide


def measures(values: Table) -> Table:
    """What is known of each metric, indexed by its name: family and better."""
    return values.drop_duplicates("metric").set_index("metric")[["family", "better"]]


def rivals(methods: list[str]) -> tuple[list[str], list[str]]:
    """The methods that are none, and those that are controls."""
    return [name for name in methods if not is_control(name)], [name for name in methods if is_control(name)]
