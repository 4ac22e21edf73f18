"""What methods and metrics say of themselves, taken from their docstrings."""

import inspect
import re
from dataclasses import dataclass

from xaicompare.core import Method, Metric
from xaicompare.errors import UnknownNameError
from xaicompare.registry import METHODS, Registry


@dataclass(frozen=True)
class Definition:
    """A docstring in its parts."""

    summary: str
    paragraphs: tuple[str, ...]
    source: str
    differs: str


def method_definition(name: str) -> Definition | None:
    """What a method computes, by its registered name; None where it is not known here."""
    return _of(METHODS, name)


def metric_definition(metric: Metric) -> Definition:
    """What a metric computes."""
    return definition(inspect.getdoc(type(metric)) or "")


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
    paragraphs = [_line(part) for part in re.split(r"\n\s*\n", body.partition(">>>")[0]) if part.strip()]
    summary = paragraphs[0] if paragraphs else ""
    return Definition(summary, tuple(paragraphs[1:]), _line(source), _line(differs.partition("\n\n")[0]))


def _of(registry: Registry[Method], name: str) -> Definition | None:
    try:
        return definition(inspect.getdoc(registry[name]) or "")
    except UnknownNameError:
        return None


def _line(text: str) -> str:
    return " ".join(text.split())
