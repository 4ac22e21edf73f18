"""The answers in words, each from the tables: who is best, what is not told apart, what to beware of."""

import math
from pathlib import Path

from xaicompare.reporting.findings import Findings, Measure
from xaicompare.reporting.material import Line, Material
from xaicompare.stats import is_control
from xaicompare.study.quick import TOLD

_NAMED = 6  # methods in a list, before "and n more"


def verdict(folder: str | Path) -> list[str]:
    """The answer that a study's folder holds, in sentences, the most important first.

    Raises:
        DataError: it lacks a file that `xaicompare run` writes.
    """
    material = Material.of(Path(folder))
    return headlines(Findings.of(material), material)


def headlines(found: Findings, material: Material) -> list[str]:
    """What a reader should remember, the most important first."""
    quick = TOLD if material.environment.get("quick") else ""
    said = [_best(found), quick, _controls(found), _cheapest(found, material), _undecided(found), _few(found), _REACH]
    return [sentence for sentence in said if sentence]


_REACH = (
    "All this holds for this network as it was trained: the tests ask what other images would change, not what another "
    "training would. Trained again, it may put the methods in another order."
)


def warnings(found: Findings, material: Material) -> list[tuple[str, str]]:
    """What to beware of, each with the name of whom it concerns: what failed, was left out, or misses its promise."""
    told = material.environment
    failed = [(name, f"failed, so that rows are missing: {reason}") for name, reason in told.get("failed", {}).items()]
    left_out = [(name, f"left out: {reason}") for name, reason in told.get("left_out", {}).items()]
    shown = {} if material.examples is None else material.examples.shown
    missed = [
        (label, _missed(entry.status, entry.missed))
        for label, entry in shown.items()
        if entry.status in ("warn", "failed")
    ]
    stale = [("this page", material.pending)] if material.pending else []
    return stale + failed + left_out + missed


def sentence(measure: Measure) -> str:
    """One metric's answer."""
    best = measure.best["method"]
    told = f"{best} has the best mean, {estimate(measure.best)}, on {count(int(measure.best['images']), 'image')}."
    if len(measure.rows) == 1:
        return f"{told} No other was judged."
    if measure.undecided:
        few = count(measure.images, "image")
        return f"{told} {few} are too few for tests of {count(measure.pairs, 'pair')}: no method can be told apart."
    others = [method for method in measure.leading if method != best]
    losers = len(measure.rows) - len(measure.leading)
    worse = f"{losers} of {len(measure.rows)} methods are significantly worse than at least one other."
    if best not in measure.leading:
        told += " Yet another is significantly better on the images that both have."
    return f"{told} Among the best, too: {names(others)}. {worse}" if others else f"{told} {worse}"


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
    decided = [measure for measure in found.claiming or found.measures if not measure.undecided]
    measures = [measure for measure in decided if not measure.uncontrolled]
    what = "metrics of faithfulness or localisation" if found.claiming else "metrics"
    if decided and not measures:
        if not any(test["winner"] for measure in decided for test in measure.tests):
            return _so_far(found)
        return (
            "Nothing to rely on: a control, which knows nothing of the model, is among the best by all of the "
            f"{what} ({len(decided)})."
        )
    if len(measures) < len(decided):
        what = f"{what} that no control leads"
    leads = found.leads(measures)
    if not measures or len(found.methods) == 1:
        return _so_far(found)
    if not leads:
        return f"No method but controls is among the best by any of the {len(measures)} {what}."
    most = max(leads.values())
    first = [method for method in found.methods if leads[method] == most]
    verb = "is" if len(first) == 1 else "are"
    next_most = max((n for n in leads.values() if n < most), default=0)
    others = [method for method in found.methods if leads[method] == next_most]
    few = _judged_on_fewer(found)
    called = {method: f"{method} (on {few[method]} images)" if method in few else method for method in found.methods}
    told = f"{names([called[method] for method in first])} {verb} among the best by {most} of {len(measures)} {what}"
    return f"{told}; then {names([called[method] for method in others])} by {next_most}." if next_most else f"{told}."


def _so_far(found: Findings) -> str:
    """Who is ahead where no test could tell, how unsure that is, and how many images would tell."""
    told = f"{count(len(found.methods), 'method')} on {count(found.images, 'image')}"
    measure = next(iter(found.claiming or found.measures))
    able = [row["method"] for row in measure.rows if not is_control(row["method"])]
    if len(able) < 2:
        return f"Nothing to tell apart: {told}."
    first, second = able[:2]
    pair = next((test for test in measure.tests if {test["method"], test["other"]} == {first, second}), None)
    ahead = f"Nothing is sure yet: {told}. So far {names(able[:3])} lead by {measure.name}"
    if pair is None:
        return f"{ahead}."
    sign = 1 if pair["method"] == first else -1
    low, high = sorted((sign * pair["low"], sign * pair["high"]))
    gap = f"{first} differs from {second} by {number(sign * pair['difference'])} ({number(low)} to {number(high)})"
    needed = pair.get("images_needed")
    enough = (
        "" if needed is None or math.isnan(needed) else f"; about {int(needed):,} images would tell these two apart"
    )
    return f"{ahead}: {gap}{enough}."


def _controls(found: Findings) -> str:
    if not found.controls or not found.claiming or not found.counted:
        return ""
    total, beaten = len(found.counted), found.beaten()
    most = max(beaten.values(), default=0)
    first = [method for method in found.methods if beaten.get(method) == most]
    never = [method for method in found.methods if beaten.get(method) == 0]
    who = f"every control ({names(found.controls)})"
    if not most:
        return f"No method beats {who} by any of the {total} metrics that count."
    verb = "beats" if len(first) == 1 else "beat"
    told = f"{names(first)} {verb} {who} by {most} of the {total} metrics that count, the most of all"
    return f"{told}; {names(never)} by none." if never else f"{told}."


def counting(found: Findings) -> str:
    """Which metrics the page's counts are of, and why others are not among them."""
    total, claiming = len(found.measures), found.claiming or found.measures
    if not found.counted:
        return ""
    asked = "that claim faithfulness or localisation" if found.claiming else "of this study"
    if len(found.counted) == len(claiming):
        return f"Counted are the {len(found.counted)} metrics {asked}, of {total} in all."
    fooled = [measure.name for measure in claiming if measure.uncontrolled]
    blind = [measure.name for measure in claiming if measure.undecided]
    why = [f"{names(fooled)}, by which a control is among the best"] if fooled else []
    why += [f"{names(blind)}, judged on too few images"] if blind else []
    return (
        f"Counted are {len(found.counted)} of the {len(claiming)} metrics {asked} ({total} metrics in all). "
        f"Not counted: {'; '.join(why)}."
    )


def _cheapest(found: Findings, material: Material) -> str:
    """The least passes among the best by the first claiming metric."""
    measure = found.first
    if measure is None or not measure.claims:
        return ""
    rows = {row["method"]: row for row in measure.rows}
    able = [method for method in measure.leading if not is_control(method) and method in material.costs]
    if len(able) < 2:
        return ""
    passes = {method: material.costs[method]["passes"] for method in able}
    least, best = min(passes, key=passes.__getitem__), able[0]
    told = {
        method: f"{estimate(rows[method])} at {number(passes[method])} passes for each image"
        for method in (least, best)
    }
    if least == best:
        return f"By {measure.name}, {best} has the best mean, and no other among the best costs less: {told[best]}."
    return f"By {measure.name}, {best} leads with {told[best]}; the cheapest among the best is {least}, {told[least]}."


def _undecided(found: Findings) -> str:
    fooled = [measure.name for measure in found.measures if measure.uncontrolled]
    blind = [measure.name for measure in found.measures if measure.undecided]
    told = []
    if fooled:
        told.append(
            f"Do not rely on {names(fooled)}: here a control, which knows nothing of the model, is among the best."
        )
    if blind:
        told.append(f"Too few images to tell any methods apart: {names(blind)}.")
    return " ".join(told)


def _few(found: Findings) -> str:
    few = _judged_on_fewer(found)
    if not few:
        return ""
    told = names([f"{method} ({n})" for method, n in few.items()])
    return (
        f"Judged on fewer than {found.images} images: {told}. Their tests find less, so that they stay among the best "
        "more easily."
    )


def _judged_on_fewer(found: Findings) -> dict[str, int]:
    """The methods that saw fewer images than others did by the same metric, with how many."""
    return {
        row["method"]: int(row["images"])
        for measure in found.measures
        for row in measure.rows
        if row["images"] < measure.images
    }


def _missed(status: str | None, missed: tuple[float, ...] | None) -> str:
    worst = f", by {max(missed):.1%} on the images shown here" if missed else ""
    word = "misses" if status == "failed" else "slightly misses"
    return f"{word} the completeness that it promises{worst}."
