"""The answers in words, each from the tables: who is best, what is not told apart, what to beware of."""

import math
from collections import Counter

from xaicompare.report.findings import Findings, Measure
from xaicompare.report.material import Line, Material
from xaicompare.stats import is_control

_NAMED = 6  # methods in a list, before "and n more"


def headlines(found: Findings, material: Material) -> list[str]:
    """What a reader should remember, the most important first."""
    said = [_best(found), _controls(found), _cheapest(found, material), _undecided(found), _few(found)]
    return [sentence for sentence in said if sentence]


def warnings(found: Findings, material: Material) -> list[tuple[str, str]]:
    """What to beware of, each with the name of whom it concerns: what was left out, and what misses its promise."""
    left_out = [(name, f"left out: {reason}") for name, reason in material.environment.get("left_out", {}).items()]
    shown = {} if material.examples is None else material.examples.shown
    missed = [
        (label, _missed(entry.status, entry.missed))
        for label, entry in shown.items()
        if entry.status in ("warn", "failed")
    ]
    return left_out + missed


def sentence(measure: Measure) -> str:
    """One metric's answer."""
    best, others = measure.best, measure.leading[1:]
    told = f"{best['method']} has the best mean, {estimate(best)}, on {count(int(best['images']), 'image')}."
    rest = len(measure.rows) - len(measure.leading)
    apart = f" It is told apart from {rest} of {len(measure.rows) - 1} others"
    near = f", not from {names(others)}." if others else "."
    return told + (apart + near if len(measure.rows) > 1 else " No other was judged.")


def estimate(row: Line) -> str:
    """A mean with its interval."""
    return f"{number(row['mean'])} ({number(row['low'])} to {number(row['high'])})"


def number(value: float) -> str:
    """Three digits, with a true minus sign.

    >>> number(-0.01234), number(1234.5), number(float("nan"))
    ('−0.0123', '1230', '–')
    """
    if math.isnan(value):
        return "–"
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}".replace("-", "−")
    rounded = float(f"{value:.3g}")
    digits = 0 if not rounded else max(0, 2 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:.{digits}f}".replace("-", "−")


def names(given: list[str]) -> str:
    """A list in words, cut where it is long.

    >>> names(["a", "b", "c"])
    'a, b and c'
    """
    shown = given if len(given) <= _NAMED + 1 else [*given[:_NAMED], f"{len(given) - _NAMED} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def count(number: int, noun: str) -> str:
    """A number with its noun.

    >>> count(1, "image"), count(2, "image")
    ('1 image', '2 images')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _best(found: Findings) -> str:
    measures = found.claiming or found.measures
    what = "metrics of faithfulness or localisation" if found.claiming else "metrics"
    leads = found.leads(measures)
    if not leads:
        return f"No method but controls is among the best by any of the {len(measures)} {what}."
    most = max(leads.values())
    first = [method for method in found.methods if leads[method] == most]
    verb = "is" if len(first) == 1 else "are"
    others = Counter({method: n for method, n in leads.items() if n < most}).most_common(3)
    then = ", ".join(f"{method} by {n}" for method, n in others)
    told = f"{names(first)} {verb} among the best by {most} of {len(measures)} {what}"
    return f"{told}; then {then}." if then else f"{told}."


def _controls(found: Findings) -> str:
    if not found.controls or not found.claiming:
        return ""
    total, beaten = len(found.claiming), found.beaten()
    most = max(beaten.values(), default=0)
    first = [method for method in found.methods if beaten.get(method) == most]
    never = [method for method in found.methods if beaten.get(method) == 0]
    if not most:
        return f"No method beats every control ({names(found.controls)}) by any of the {total} metrics that require it."
    told = f"{names(first)} beat{'s' if len(first) == 1 else ''} every control by most of them: {most} of {total}."
    return told + (f" {names(never)} by none." if never else "")


def _cheapest(found: Findings, material: Material) -> str:
    """The least passes among the best by the first claiming metric."""
    measure = next((measure for measure in found.claiming), found.measures[0])
    able = [method for method in measure.leading if not is_control(method) and method in material.costs]
    best = measure.best["method"]
    if len(able) < 2 or best not in able:
        return ""
    passes = {method: material.costs[method]["passes"] for method in able}
    least = min(passes, key=passes.__getitem__)
    if least == best:
        return f"By {measure.name}, {best} is both first and the cheapest that is not told apart from it."
    return (
        f"By {measure.name}, {best} is first at {number(passes[best])} passes for each image; the cheapest not told "
        f"apart from it is {least}, at {number(passes[least])}."
    )


def _undecided(found: Findings) -> str:
    blind = [measure.name for measure in found.measures if measure.uncontrolled]
    if not blind:
        return ""
    return f"Be careful with {names(blind)}: here a control, which knows nothing of the model, is among the best."


def _few(found: Findings) -> str:
    by_method: dict[str, int] = {}
    for measure in found.measures:
        most = max(int(row["images"]) for row in measure.rows)
        by_method |= {row["method"]: int(row["images"]) for row in measure.rows if row["images"] < most}
    if not by_method:
        return ""
    told = names([f"{method} ({n})" for method, n in by_method.items()])
    return f"Judged on fewer than {found.images} images, and so harder to tell apart: {told}."


def _missed(status: str | None, missed: tuple[float, ...] | None) -> str:
    worst = f", by {max(missed):.1%} on the images shown here" if missed else ""
    word = "misses" if status == "failed" else "slightly misses"
    return f"{word} the completeness that it promises{worst}."
