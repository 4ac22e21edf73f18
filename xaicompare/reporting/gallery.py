"""The kept images with the maps of all methods, as plain values."""

from typing import Any

from xaicompare import colours
from xaicompare.reporting import pictures, verdict
from xaicompare.reporting.findings import Findings
from xaicompare.stats import is_control
from xaicompare.study.examples import Examples, Shown

Section = dict[str, Any]


def gallery(found: Findings, examples: Examples | None) -> Section | None:
    """The shown images, each with the maps of all methods in the order of the leaderboard."""
    if examples is None:
        return None
    order = sorted(
        examples.shown, key=lambda label: found.methods.index(label) if label in found.methods else len(found.methods)
    )
    images = [
        {
            "image": told.image,
            "explained": class_name(examples, told.target),
            "label": class_name(examples, told.label),
            "predicted": class_name(examples, told.predicted),
            "wrong": told.label >= 0 and told.predicted != told.label,
            "labelled": told.label >= 0,
            "told": _told(examples, place),
            "picture": pictures.picture(examples.pictures[place]),
            "maps": [_drawn(examples, label, place) for label in order],
        }
        for place, told in enumerate(examples.told)
    ]
    small = max(examples.pictures.shape[2:]) <= 64
    return {"images": images, "percentile": f"{colours.PERCENTILE:g}", "stops": colours.STOPS, "small": small}


def _drawn(examples: Examples, label: str, place: int) -> Section:
    shown, maps = examples.shown[label], examples.maps.get(label)
    there = maps is not None and place < len(maps)
    return {
        "method": label,
        "control": is_control(label),
        "map": pictures.coloured(maps[place]) if there and maps is not None else None,
        "error": shown.error or "This image was not explained by it.",
        "score": _score(shown.scores[place], examples.told[place].probability) if there else "",
        "peak": verdict.number(shown.peaks[place]) if there else "",
        "settings": shown.settings,
        "completeness": _completeness(shown, place) if there else "",
    }


def _completeness(shown: Shown, place: int) -> str:
    if shown.missed is None:
        return "not promised"
    return f"the values' sum is off by {shown.missed[place]:.2%}"


def class_name(examples: Examples, number: int) -> str:
    """A class as the data set calls it."""
    if number < 0:
        return "unknown class"
    return examples.classes[number] if 0 <= number < len(examples.classes) else str(number)


def _told(examples: Examples, place: int) -> str:
    """What the network says of the explained class of one image."""
    scores = [shown.scores[place] for shown in examples.shown.values() if place < len(shown.scores)]
    return _score(scores[0], examples.told[place].probability) if scores else ""


def _score(score: float, chance: float | None) -> str:
    """A class's score, with its probability where that was kept.

    >>> _score(2.5, 0.924), _score(2.5, None)
    ('logit 2.50, probability 92.4 %', 'logit 2.50')
    """
    told = f"logit {verdict.number(score)}"
    return told if chance is None else f"{told}, {probability(chance)}"


def probability(chance: float | None) -> str:
    """A probability in words; nothing where it was not kept.

    >>> probability(0.924), probability(0.99999), probability(None)
    ('probability 92.4 %', 'probability above 99.9 %', '')
    """
    if chance is None:
        return ""
    told = "above 99.9" if chance > 0.999 else "below 0.1" if chance < 0.001 else f"{100 * chance:.1f}"
    return f"probability {told} %"
