"""The first screen of a page: the answer in one sentence, what it looks like, what it costs, how sure it is."""

from typing import Any

from xaicompare.reporting import pictures, verdict
from xaicompare.reporting.findings import Findings
from xaicompare.reporting.gallery import class_name, probability
from xaicompare.reporting.material import Material
from xaicompare.stats import is_control
from xaicompare.study.examples import Examples

Section = dict[str, Any]

_SHOWN = 3  # images


def opening(found: Findings, material: Material) -> Section:
    """What a reader takes away who reads nothing else; without maps and numbers where no method is best."""
    best, rivals = _best(found)
    if best is None:
        return {"answer": verdict.headlines(found, material)[0], "best": None, "maps": [], "facts": []}
    facts = [("What it costs", _cost(best, rivals, material)), ("How sure this is", _sure(best, rivals, found))]
    return {
        "answer": _answer(best, found),
        "best": best,
        "maps": _maps(best, material.examples),
        "facts": [(name, told) for name, told in facts if told],
    }


def _best(found: Findings) -> tuple[str | None, list[str]]:
    """The method that is among the best by the most metrics that count, by mean rank where several are; and these."""
    leads = found.leads(found.counted)
    if not leads or len(found.methods) < 2:
        return None, []
    most = max(leads.values())
    first, *rivals = (method for method in found.methods if leads[method] == most)
    return first, rivals


def _answer(best: str, found: Findings) -> str:
    leads, total = found.leads(found.counted)[best], len(found.counted)
    if total == 1:
        return f"Believe {best} first: by the one metric that counts, no other method is significantly better."
    by = f"each of the {total}" if leads == total else f"{leads} of the {total}"
    return f"Believe {best} first: no other method is significantly better by {by} metrics that count."


def _cost(best: str, rivals: list[str], material: Material) -> str:
    if best not in material.costs:
        return ""
    passes = {method: material.costs[method]["passes"] for method in (best, *rivals) if method in material.costs}
    told = f"{verdict.number(passes[best])} passes for each image, {_time(material.costs[best]['seconds'])} here."
    cheapest = min(passes, key=passes.__getitem__)
    if passes[cheapest] < passes[best]:
        return f"{told} {cheapest} is among the best as often, at {verdict.number(passes[cheapest])}."
    return told


def _time(seconds: float) -> str:
    """A duration as it is said.

    >>> _time(0.0154), _time(2.5)
    ('15.4 ms', '2.50 s')
    """
    return f"{verdict.number(1000 * seconds)} ms" if seconds < 1 else f"{verdict.number(seconds)} s"


def _sure(best: str, rivals: list[str], found: Findings) -> str:
    also = [method for method in rivals if not is_control(method)]
    told = f"Nobody else is among the best as often, on {verdict.count(found.images, 'image')}."
    if also:
        verb = "is" if len(also) == 1 else "are"
        told = f"{verdict.names(also)} {verb} among the best as often, on {verdict.count(found.images, 'image')}."
    measure = found.first
    row = next((row for row in measure.rows if row["method"] == best), None) if measure else None
    if measure is None or row is None:
        return told
    return f"{told} When the images are drawn anew, it is first by {measure.name} in {row['first']:.0%} of the draws."


def _maps(best: str, examples: Examples | None) -> list[Section]:
    """Its maps of three images, of different classes where that can be."""
    if examples is None or best not in examples.maps:
        return []
    maps = examples.maps[best]
    seen: dict[int, int] = {}
    for place, told in enumerate(examples.told[: len(maps)]):
        seen.setdefault(told.target, place)
    rest = [place for place in range(len(maps)) if place not in seen.values()]
    return [
        {
            "image": examples.told[place].image,
            "picture": pictures.picture(examples.pictures[place]),
            "map": pictures.coloured(maps[place]),
            "explained": class_name(examples, examples.told[place].target),
            "probability": probability(examples.told[place].probability),
        }
        for place in sorted([*seen.values(), *rest][:_SHOWN])
    ]
