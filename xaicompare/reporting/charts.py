"""The page's charts as Vega-Lite specifications; the page sets their parameters and colours."""

from collections.abc import Mapping
from typing import Any

from xaicompare.reporting.findings import Findings, Measure
from xaicompare.reporting.material import Line, Material, Training
from xaicompare.results import Results
from xaicompare.stats import ALPHA, arm_means, differences, is_control, removal_bands

Spec = dict[str, Any]

# After Okabe and Ito, each to be seen on white and on black.
COLOURS = ("#2b86c9", "#d9641a", "#0a9f76", "#cc79a7", "#b58100")
OTHERS, CONTROLS = "#8a949d", "#7b8792"
ORDERS = {
    "most": "the most important first: a good order falls fast",
    "least": "the least important first: a good order stays high",
    "random": "in random order: what every order has to beat",
}
QUANTITIES = {
    "confidence": "confidence, (max − second) / max",
    "signed_confidence": "confidence, negative once another class is predicted",
    "misclassified": "share of images misclassified",
    "score": "explained output",
}
COSTS = {
    "passes": "passes for each image (arithmetic, in forward passes)",
    "seconds": "seconds for each image",
    "mebibytes": "MiB of tensors held at once",
}

_SINGLED = "single === datum.method"
_ANY = "any method"
_LED = 7  # methods in the picture beside the verdict


def cost_quality(found: Findings, material: Material) -> Spec:
    """Means with their intervals beside costs, of the metric and the cost that the page chooses."""
    values = [
        {
            **{key: _short(row[key]) for key in ("mean", "low", "high")},
            **{key: _short(material.costs[row["method"]][key]) for key in COSTS},
            **_point(measure, row),
        }
        for measure in found.measures
        for row in measure.rows
        if row["method"] in material.costs
    ]
    x = {
        "field": "x",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False, "padding": 24},
        "axis": {"tickCount": 5, "format": "~g", "grid": False},
    }
    y = {"type": "quantitative", "scale": {"zero": False}, "axis": {"format": "~g"}}
    colour = {"field": "kind", "type": "nominal", "scale": {"domain": list(KINDS), "range": list(KINDS.values())}}
    return _spec(
        values,
        height=360,
        params={"metric": found.measures[0].name, "cost": "passes"},
        transform=[{"filter": "datum.metric === metric"}, {"calculate": "datum[cost]", "as": "x"}],
        layer=[
            {
                "mark": {"type": "rule", "strokeWidth": 1},
                "encoding": {"y": {**y, "field": "low", "title": None}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {"y": {**y, "field": "mean"}, "shape": colour | {"scale": _SHAPES, "legend": None}},
            },
            {
                "transform": [{"filter": "datum.kind === 'among the best'"}],
                "mark": {"type": "text", "align": "left", "dx": 8, "dy": -6, "fontSize": 11},
                "encoding": {"y": {**y, "field": "mean"}, "text": {"field": "method"}, "color": {"value": CONTROLS}},
            },
        ],
        encoding={
            "x": x | {"title": None},
            "color": colour | {"legend": None},
            "tooltip": _tooltip("method", "mean", "low", "high", *COSTS),
        },
    )


def leading(found: Findings) -> Spec | None:
    """The best means of the first metric whose tests can tell, and the best control; None where there is none."""
    measure = found.first
    if measure is None:
        return None
    rows = measure.rows[:_LED]
    if not any(is_control(row["method"]) for row in rows):
        rows += [row for row in measure.rows[_LED:] if is_control(row["method"])][:1]
    values = [
        {key: _short(row[key]) for key in ("mean", "low", "high")}
        | {"method": row["method"], "kind": _kind(row["method"], row["method"] in measure.leading)}
        for row in rows
    ]
    x = {"type": "quantitative", "scale": {"zero": False}, "title": None, "axis": {"format": "~g", "tickCount": 4}}
    colour = {"field": "kind", "type": "nominal", "scale": {"domain": list(KINDS), "range": list(KINDS.values())}}
    return _spec(
        values,
        height=24 * len(values),
        params={},
        layer=[
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {"x": {**x, "field": "mean"}, "shape": colour | {"scale": _SHAPES, "legend": None}},
            },
        ],
        encoding={
            "y": {"field": "method", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 190}},
            "color": colour | {"legend": None},
            "tooltip": _tooltip("method", "mean", "low", "high"),
        },
    )


def _point(measure: Measure, row: Line) -> Line:
    """What a point of a chart stands for, and how it is drawn."""
    method = row["method"]
    return {"metric": measure.name, "method": method, "kind": _kind(method, method in measure.leading)}


def ranks(found: Findings) -> Spec:
    """The places that methods take when images are drawn anew, by the metric that the page chooses."""
    values = [
        {
            **{key: _short(row[key]) for key in ("rank", "rank_low", "rank_high", "first")},
            **_point(measure, row),
        }
        for measure in found.measures
        for row in measure.rows
    ]
    top = max(len(measure.rows) for measure in found.measures)
    places = [1, *range(5, top + 1, 5)] if top > 4 else list(range(1, top + 1))  # behind them is room for words
    x = {
        "type": "quantitative",
        "scale": {"domain": [1, 1.35 * max(top, 2)], "nice": False},
        "axis": {"values": places},
    }
    colour = {"field": "kind", "type": "nominal", "scale": {"domain": list(KINDS), "range": list(KINDS.values())}}
    ends = {"x": {**x, "field": "rank_low", "title": "place, 1 is the best"}}
    return _spec(
        values,
        height=18 * top,
        params={"metric": found.measures[0].name},
        transform=[
            {"filter": "datum.metric === metric"},
            {"calculate": "datum.first >= 0.005 ? format(datum.first, '.0%') : ''", "as": "told"},
        ],
        layer=[
            {
                "mark": {"type": "rule", "strokeWidth": 7, "strokeCap": "round"},
                "encoding": {**ends, "x2": {"field": "rank_high"}},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 9, "fontSize": 11},
                "encoding": {"x": {**x, "field": "rank_high"}, "text": {"field": "told"}, "color": {"value": CONTROLS}},
            },
        ],
        encoding={
            "y": {"field": "method", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 190}},
            "color": colour | {"legend": None},
            "tooltip": _tooltip("method", "rank", "rank_low", "rank_high", "first"),
        },
    )


def removal(results: Results, methods: list[str]) -> dict[str, Spec]:
    """Removal curves by order; none where no confidence was recorded. The page chooses quantity and method."""
    known = set(results.names("quantity"))
    chosen = [quantity for quantity in QUANTITIES if quantity in known and _orders(results, quantity)]
    lines = [{**line, "quantity": quantity} for quantity in chosen for line in _bands(results, quantity)]
    if not lines:
        return {}
    looks = colours(methods)
    last = {method: place for place, method in enumerate(reversed(methods))}  # the best are drawn above the others
    lines.sort(key=lambda line: (last[line["method"]], line["share"]))
    limits = {name: _limits([line for line in lines if line["quantity"] == name]) for name in chosen}
    return {
        order: _curves(_once([line for line in lines if line["order"] == order]), looks | {_ANY: CONTROLS}, limits)
        for order in _orders(results, chosen[0])
    }


def _once(lines: list[Line]) -> list[Line]:
    """The curves of one order; a single one where all are the same, as where features are removed at random."""
    curves: dict[str, list[tuple[object, ...]]] = {}
    for line in lines:
        curves.setdefault(line["method"], []).append((line["quantity"], line["share"], line["mean"]))
    first = lines[0]["method"]
    if len(curves) == 1 or any(curve != curves[first] for curve in curves.values()):
        return lines
    return [line | {"method": _ANY} for line in lines if line["method"] == first]


def colours(methods: list[str]) -> dict[str, str]:
    """A colour of its own for each of the first methods, one for all others, and one for controls."""
    own = iter(COLOURS)
    return {method: CONTROLS if is_control(method) else next(own, OTHERS) for method in methods}


def gains(made: Training) -> Spec | None:
    """Every arm's mean difference from the baseline, in points; None where there is no other arm."""
    lines = differences(made.runs, made.experiment.baseline).to_dict("records")
    values = [
        {"arm": line["arm"], "p": _short(line["p_holm"]), "clear": line["p_holm"] <= ALPHA}
        | {key: _short(100 * line[name]) for key, name in _DIFFERENCE.items() if line[name] == line[name]}
        for line in lines
        if line["share"] != line["share"]  # the mean over all shares
    ]
    if not values:
        return None
    x = {"type": "quantitative", "title": f"points of accuracy more than {made.experiment.baseline}"}
    clear = {"field": "clear", "type": "nominal", "legend": None}
    return _spec(
        values,
        height=24 * len(values) + 20,
        params={},
        layer=[
            {"mark": {"type": "rule", "strokeDash": [4, 3], "color": CONTROLS}, "encoding": {"x": {"datum": 0}}},
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, **_ARM},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {"x": {**x, "field": "difference"}, **_ARM},
            },
        ],
        encoding={
            "color": clear | {"scale": {"domain": [True, False], "range": [COLOURS[0], OTHERS]}},
            "tooltip": _tooltip("arm", "difference", "low", "high", "p"),
        },
    )


def accuracies(made: Training) -> Spec | None:
    """Accuracy by share of the training images, an arm per line; None where there is one share."""
    means = arm_means(made.runs, made.experiment.baseline).to_dict("records")
    if len({row["share"] for row in means}) < 2:
        return None
    values = [
        {"arm": row["arm"], "share": 100 * row["share"]}
        | {key: _short(100 * row[name]) for key, name in _ACCURACY.items() if row[name] == row[name]}
        for row in means
    ]
    shares = sorted({line["share"] for line in values})
    x = {"field": "share", "type": "quantitative", "title": "share of the training images (%), logarithmic"}
    colour = {"field": "arm", "type": "nominal", "sort": None, "title": None, "legend": {"orient": "top", "columns": 2}}
    y = {"type": "quantitative", "scale": {"zero": False}, "title": "test accuracy (%)"}
    return _spec(
        values,
        height=320,
        params={},
        layer=[
            {"mark": {"type": "line", "point": True}, "encoding": {"y": {**y, "field": "accuracy"}}},
            {
                "mark": {"type": "rule", "opacity": 0.5},
                "encoding": {"y": {**y, "field": "low"}, "y2": {"field": "high"}},
            },
        ],
        encoding={"x": x | {"scale": {"type": "log"}, "axis": {"format": "~g", "values": shares}}, "color": colour}
        | {"tooltip": _tooltip("arm", "share", "accuracy", "low", "high")},
    )


_ARM = {"y": {"field": "arm", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 190}}}
_DIFFERENCE = {"difference": "difference", "low": "difference_low", "high": "difference_high"}
_ACCURACY = {"accuracy": "accuracy", "low": "accuracy_low", "high": "accuracy_high"}
KINDS = {"among the best": COLOURS[0], "significantly worse than at least one other": OTHERS, "control": COLOURS[1]}
_SHAPES = {"domain": list(KINDS), "range": ["circle", "circle", "diamond"]}


def _kind(method: str, leading: bool) -> str:
    kinds = list(KINDS)
    return kinds[2] if is_control(method) else kinds[0] if leading else kinds[1]


def _limits(lines: list[Line]) -> list[float]:
    """The ends of an axis that all panels share."""
    return [min(line["mean"] for line in lines), max(line["mean"] for line in lines)]


def _curves(lines: list[Line], looks: dict[str, str], limits: dict[str, list[float]]) -> Spec:
    shown = {"condition": [{"test": _SINGLED, "value": 1}, {"test": "!!single", "value": 0.12}], "value": 0.85}
    wide = {"condition": [{"test": _SINGLED, "value": 3.5}, {"test": "datum.own", "value": 2}], "value": 1}
    x = {"field": "share", "type": "quantitative", "title": "share removed", "axis": {"format": "%", "tickCount": 5}}
    ends = {end: {"expr": f"limits[quantity][{place}]"} for place, end in enumerate(("domainMin", "domainMax"))}
    y = {"type": "quantitative", "scale": {"zero": False, "clamp": True, **ends}, "title": None}
    dashed = {"condition": {"test": "datum.control", "value": [4, 3]}, "value": [1, 0]}
    colour = {
        "field": "method",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": list(looks), "range": list(looks.values())},
    }
    return _spec(
        [line | {"control": is_control(line["method"]), "own": looks[line["method"]] in COLOURS} for line in lines],
        height=260,
        params={"quantity": next(iter(limits)), "single": "", "limits": limits},
        transform=[{"filter": "datum.quantity === quantity"}],
        layer=[
            {
                "transform": [{"filter": _SINGLED}],
                "mark": {"type": "area", "opacity": 0.18},
                "encoding": {"y": {**y, "field": "low"}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "line"},
                "encoding": {"y": {**y, "field": "mean"}, "opacity": shown, "strokeWidth": wide, "strokeDash": dashed},
            },
            {  # what the pointer meets: a thin line is hard to hit
                "mark": {"type": "line", "strokeWidth": 12, "opacity": 0},
                "encoding": {"y": {**y, "field": "mean"}},
            },
        ],
        encoding={"x": x, "color": colour, "detail": {"field": "method"}},
    )


def _orders(results: Results, quantity: str) -> list[str]:
    recorded = results.where(quantity=quantity)
    return [order for order in ORDERS if order in recorded.names("order")]


def _bands(results: Results, quantity: str) -> list[Line]:
    lines = removal_bands(results, quantity).to_dict("records")
    return [
        {str(key): _short(value) if isinstance(value, float) else value for key, value in line.items()}
        for line in lines
    ]


def _spec(values: list[Line], *, height: int, params: Mapping[str, object], **rest: object) -> Spec:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": values},
        "params": [{"name": name, "value": value} for name, value in params.items()],
        **rest,
    }


def _tooltip(*fields: str) -> list[Spec]:
    """Names and numbers of what lies under the pointer."""
    words = ("method", "arm")
    told = {
        "first": "first in (share of resamples)",
        "rank": "mean rank over images",
        "rank_low": "place, 2.5 %",
        "rank_high": "place, 97.5 %",
    }
    kinds = {
        field: {"type": "nominal"} if field in words else {"type": "quantitative", "format": ".3g"} for field in fields
    }
    return [{"field": field, "title": told.get(field, field), **kinds[field]} for field in fields]


def _short(value: float) -> float:
    """Five digits: more can't be seen, and a page is to stay small."""
    return float(f"{value:.5g}")
