"""The page's sections as plain values, which the template only sets."""

from collections.abc import Sequence
from typing import Any

from xaicompare.reporting import charts, verdict
from xaicompare.reporting.findings import Findings, Measure
from xaicompare.reporting.gallery import gallery
from xaicompare.reporting.material import Line, Material, Training
from xaicompare.reporting.opening import opening
from xaicompare.reporting.words import method_definition, metric_definition, traits
from xaicompare.stats import is_control
from xaicompare.study.verdict import accuracies, answers, extents, gaps
from xaicompare.titles import TITLES

Section = dict[str, Any]


def study_sections(material: Material) -> Section:
    """Everything about a study."""
    found = Findings.of(material)
    curves = charts.removal(material.results, found.methods)
    drawn = {"cost": charts.cost_quality(found, material), "ranks": charts.ranks(found)}
    leading = charts.leading(found)
    return {
        "study": {
            "title": f"{_only(material, 'model')} on {_only(material, 'dataset')}",
            "facts": _facts(found, material),
            "opening": opening(found, material),
            "headlines": verdict.headlines(found, material),
            "warnings": verdict.warnings(found, material),
            "leading": found.first if leading else None,
            "images": found.images,
            "judging": {measure.name for measure in found.judging},
            "counting": verdict.counting(found),
            "about": _about(found, material),
            "answers": _answers(found),
            "few": _few(found),
            "kinds": charts.KINDS,
            "board": _board(found, material),
            "costs": _costs(found, material),
            "orders": {order: charts.ORDERS[order] for order in curves},
            "quantities": _quantities(curves),
            "legend": charts.colours(found.methods),
            "gallery": gallery(found, material.examples),
            "methods": _methods(found, material),
            "metrics": _metrics(found, material),
            "environment": material.environment,
            "file": material.study_file,
        },
        "charts": ({"leading": leading} if leading else {})
        | drawn
        | {f"removal-{order}": spec for order, spec in curves.items()},
        "tests": _tests(found, material),
    }


def training_sections(made: Sequence[Training]) -> Section:
    """Everything about training experiments."""
    shown: list[Section] = []
    drawn: dict[str, charts.Spec] = {}
    for place, one in enumerate(made):
        specs = {f"gains-{place}": charts.gains(one), f"accuracies-{place}": charts.accuracies(one)}
        drawn |= {name: spec for name, spec in specs.items() if spec is not None}
        said = (line.removeprefix("- **").partition("**: ") for line in answers(one.experiment, one.runs))
        shown.append(
            {
                "title": one.experiment.title,
                "charts": [name if spec is not None else None for name, spec in specs.items()],
                "answers": [(arm, told) for arm, _, told in said],
                "baseline": one.experiment.baseline,
                "accuracies": accuracies(one.experiment, one.runs),
                "gaps": gaps(one.experiment, one.runs),
                "extents": extents(one.experiment, one.runs),
                "environment": one.environment,
            }
        )
    return {"trainings": shown, "charts": drawn}


def _facts(found: Findings, material: Material) -> list[tuple[str, str]]:
    judged = material.environment
    methods = len(found.methods) - len(found.controls)
    facts = [
        ("images", f"{found.images}"),
        ("methods", f"{methods}, and {verdict.count(len(found.controls), 'control')}"),
        ("metrics", f"{len(found.measures)}"),
        ("seed", f"{judged.get('seed', '–')}"),
    ]
    if "accuracy_on_these_images" in judged:
        facts.insert(1, ("classified right", f"{judged['accuracy_on_these_images']:.0%}"))
    if "note" in judged:
        facts.insert(1, ("classified right", f"unknown: {judged['note']}"))
    if "images" in judged:
        facts.append(("what the network saw", str(judged["images"])))
    return [*facts, ("model", str(judged.get("model", _only(material, "model"))))]


def _answers(found: Findings) -> list[Section]:
    """Every metric's answer, by family."""
    return [
        {
            "family": family,
            "claims": measures[0].claims,
            "metrics": [
                {
                    "name": measure.name,
                    "arrow": measure.arrow,
                    "direction": measure.direction,
                    "best": measure.best["method"],
                    "estimate": verdict.estimate(measure.best),
                    "images": int(measure.best["images"]),
                    "leads": measure.best["method"] in measure.leading,
                    "near": [method for method in measure.leading if method != measure.best["method"]],
                    "worse": len(measure.rows) - len(measure.leading),
                    "methods": len(measure.rows),
                    "undecided": measure.undecided,
                    "beaten": sum(row["beats"] == "yes" for row in measure.rows),
                    "judged": sum(row["beats"] != "-" for row in measure.rows),
                    "uncontrolled": measure.uncontrolled,
                }
                for measure in measures
            ],
        }
        for family, measures in found.families.items()
    ]


def _few(found: Findings) -> dict[str, int]:
    """The methods whose curves are of fewer images than those of most, with how many."""
    rows = found.measures[0].rows
    return {row["method"]: int(row["images"]) for row in rows if row["images"] < found.measures[0].images}


def _board(found: Findings, material: Material) -> Section:
    """The leaderboard: a line per method, a column per metric."""
    first = [measures[0].name for measures in found.families.values()]
    cells = {measure.name: {row["method"]: _cell(measure, row) for row in measure.rows} for measure in found.measures}
    return {
        "columns": [(measure, measure.name in first) for measure in found.measures],
        "families": list(found.families),
        "judging": len(found.judging),
        "lines": [
            {
                "method": method,
                "anchor": f"method-{place}",
                "control": is_control(method),
                "rank": found.mean_rank[method],
                "passes": _cost(material, method, "passes"),
                "seconds": _cost(material, method, "seconds"),
                "cells": [cells[measure.name].get(method) for measure in found.measures],
            }
            for place, method in enumerate(found.methods)
        ],
    }


def _cell(measure: Measure, row: Line) -> Section:
    most = max(line["images"] for line in measure.rows)
    return {
        "mean": row["mean"],
        "told": verdict.number(row["mean"]),
        "interval": f"{verdict.number(row['low'])} to {verdict.number(row['high'])}",
        "leads": row["method"] in measure.leading and not measure.undecided,
        "beats": row["beats"],
        "few": int(row["images"]) if row["images"] < most else 0,
    }


def _cost(material: Material, method: str, what: str) -> float:
    return material.costs.get(method, {}).get(what, float("nan"))


def _costs(found: Findings, material: Material) -> list[Section]:
    known = [method for method in found.methods if method in material.costs]
    known.sort(key=lambda method: material.costs[method]["passes"])
    return [{"method": method} | {key: material.costs[method][key] for key in charts.COSTS} for method in known]


def _quantities(curves: dict[str, charts.Spec]) -> dict[str, str]:
    recorded = {line["quantity"] for spec in curves.values() for line in spec["data"]["values"]}
    return {quantity: words for quantity, words in charts.QUANTITIES.items() if quantity in recorded}


def _methods(found: Findings, material: Material) -> list[Section]:
    """A card for each method, with all of its variants in the order of the leaderboard."""
    leads, beaten = found.leads(found.counted), found.beaten()
    warned = verdict.warnings(found, material)
    cards: dict[str, Section] = {}
    for place, method in enumerate(found.methods):
        name = str(material.costs.get(method, {}).get("name", method))
        title = method if is_control(method) else TITLES.get(name, method)
        card = cards.setdefault(name, {"title": title, "definition": method_definition(name), "variants": []})
        card["variants"].append(
            {
                "method": method,
                "anchor": f"method-{place}",
                "label": material.labels.get(method, method),
                "settings": _settings(material, method),
                "traits": _traits(material, method),
                "leads": leads[method],
                "beaten": beaten.get(method),
                "counted": len(found.counted),
                "warnings": [text for who, text in warned if who == method or who.startswith(f"{method}, ")],
            }
        )
    return list(cards.values())


def _settings(material: Material, method: str) -> str:
    if material.examples is not None and method in material.examples.shown:
        return material.examples.shown[method].settings
    return repr(material.methods[method]) if method in material.methods else ""


def _traits(material: Material, method: str) -> str:
    return traits(material.methods[method]) if method in material.methods else ""


def _metrics(found: Findings, material: Material) -> list[Section]:
    known = material.metrics
    return [
        {
            "measure": measure,
            "definition": metric_definition(measure.name, known),
            "settings": repr(known[measure.name]) if measure.name in known else "",
            "answer": verdict.sentence(measure),
        }
        for measure in found.measures
    ]


def _about(found: Findings, material: Material) -> dict[str, Section]:
    """What opens where a metric is named, by its name: a place in the page and the definition."""
    return {
        measure.name: {
            "id": f"about-{place}",
            "family": measure.family,
            "direction": measure.direction,
            "definition": metric_definition(measure.name, material.metrics),
        }
        for place, measure in enumerate(found.measures)
    }


def _tests(found: Findings, material: Material) -> Section:
    """All pairs of methods by every metric, as the page's script reads them: methods by their place."""
    places = {method: place for place, method in enumerate(found.methods)}
    about = _about(found, material)
    pairs: dict[str, list[list[float | int]]] = {measure.name: [] for measure in found.measures}
    for line in material.tests:
        numbers = [float(f"{line[key]:.4g}") for key in ("difference", "low", "high", "p_holm")]
        pairs[line["metric"]].append(
            [
                places[line["method"]],
                places[line["other"]],
                *numbers,
                places.get(line["winner"], -1),
                int(line["images"]),
            ]
        )
    return {
        "methods": found.methods,
        "metrics": [
            {
                "name": measure.name,
                "better": measure.better,
                "counts": measure in found.judging,
                "about": about[measure.name]["id"],
                "answer": verdict.sentence(measure),
                "means": {places[row["method"]]: row["mean"] for row in measure.rows},
                "pairs": pairs[measure.name],
            }
            for measure in found.measures
        ],
    }


def _only(material: Material, column: str) -> str:
    return ", ".join(material.results.names(column))
