"""What methods and metrics say of themselves, taken from their docstrings."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup, escape

from xaicompare.core import Method, Metric
from xaicompare.errors import UnknownNameError
from xaicompare.registry import METHODS, Registry
from xaicompare.stats import GAINS


@dataclass(frozen=True)
class Definition:
    """A docstring in its parts; single backticks and asterisks in them are marks, see `marked`."""

    summary: str
    paragraphs: tuple[str | tuple[str, ...], ...]  # a tuple is a list of points
    source: str
    differs: str


def method_definition(name: str) -> Definition | None:
    """What a method computes, by its registered name; None where it is not known here."""
    return _of(METHODS, name)


_GAIN = """The mean signed confidence once the least important features are removed, less that for the most important.

Over the shares that were removed: -2 to 2, 0 for an order without meaning. The confidence, (max - second max) / max,
carries a minus once the predicted class is no longer the explained one. It is made from `confidence_removal`.
"""


def metric_definition(name: str, metrics: Mapping[str, Metric]) -> Definition | None:
    """What a metric computes, by its label in a study with these metrics; None where it is not known here."""
    if name in metrics:
        return definition(inspect.getdoc(type(metrics[name])) or "")
    return definition(_GAIN) if name == GAINS else None


def traits(method: Method) -> str:
    """How a method works, in a few words."""
    known = method.traits
    has = {
        "needs only the model's outputs": known.agnostic,
        "compares with a baseline": known.baseline,
        "gives each neuron a relevance": known.neuron_relevance,
        "conserves the explained output": known.conserves,
    }
    return ", ".join(
        [f"{known.kind}-based" if known.kind != "control" else "control", *(word for word, yes in has.items() if yes)]
    )


def definition(text: str) -> Definition:
    """The parts of a docstring.

    >>> definition("Says what.\\n\\nMore.\\n\\nSource: Someone 2020.\\nDiffers: a lot.")
    Definition(summary='Says what.', paragraphs=('More.',), source='Someone 2020.', differs='a lot.')
    """
    body, _, tail = text.partition("Source:")
    source, _, differs = tail.partition("Differs:")
    parts = [part for part in re.split(r"\n\s*\n", body.partition(">>>")[0]) if part.strip()]
    summary = _line(parts[0]) if parts else ""
    paragraphs = tuple(block for part in parts[1:] for block in _blocks(part))
    return Definition(summary, paragraphs, _line(source), _line(differs.partition("\n\n")[0]))


def marked(text: str) -> Markup:
    """A docstring's line as HTML: `code` between backticks, emphasis between asterisks, all else escaped.

    >>> marked("`a < b` and *not* 2 * 3 * 4")
    Markup('<code>a &lt; b</code> and <em>not</em> 2 * 3 * 4')
    """
    safe = str(escape(text))
    safe = re.sub(r"(`+)(.+?)\1", r"<code>\2</code>", safe)
    parts = re.split(r"(<code>.*?</code>)", safe)
    shown = [part if part.startswith("<code>") else _EMPHASIS.sub(r"<em>\2</em>", part) for part in parts]
    return Markup("".join(shown))  # noqa: S704 - escaped above, before the marks were set


_EMPHASIS = re.compile(r"(\*{1,2})(?=\S)([^*]+?)(?<=\S)\1(?!\w)")


def _blocks(part: str) -> list[str | tuple[str, ...]]:
    """A paragraph, or the points of a list and what stands before them."""
    before, *points = re.split(r"(?m)^\s*[-*] ", part)
    found: list[str | tuple[str, ...]] = [_line(before)] if before.strip() else []
    return [*found, tuple(_line(point) for point in points)] if points else found


def _of(registry: Registry[Method], name: str) -> Definition | None:
    try:
        return definition(inspect.getdoc(registry[name]) or "")
    except UnknownNameError:
        return None


def _line(text: str) -> str:
    return " ".join(text.split())
