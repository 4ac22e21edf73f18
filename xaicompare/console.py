"""What commands say: lines, errors and tables, as a terminal shows them [home of rich, with cli]."""

import inspect
import re
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from xaicompare.errors import XaiCompareError

OUT = Console()
ERR = Console(stderr=True)


def say(text: object, *, first: str = "", colour: str = "yellow") -> None:
    """A line as it is, perhaps after a coloured word."""
    told = f"[{colour}]{first}[/{colour}] {plain(text)}" if first else plain(text)
    OUT.print(told, soft_wrap=not OUT.is_terminal, highlight=False)  # lines of a pipe stay whole


def happened(outcome: Any) -> None:
    """What a user should know of a study beside its tables: where the weights are from, what failed, and notes."""
    say(f"{outcome.study.model.shown}: {outcome.subject.origin}")
    told = (
        ("left out", outcome.failed, "yellow"),
        ("incomplete", outcome.incomplete, "yellow"),
        ("failed", outcome.broken, "red"),
    )
    for word, reasons, colour in told:
        for label, reason in reasons.items():
            say(f"{label}: {reason}", first=word, colour=colour)
    for note in outcome.notes:
        say(note, first="note")


def complain(error: Exception) -> None:
    """An error, in a line."""
    ERR.print(f"[red]error:[/red] {plain(_told(error))}", soft_wrap=not ERR.is_terminal, highlight=False)


def _told(error: Exception) -> str:
    """An error in a line; one that is not ours says so."""
    if isinstance(error, XaiCompareError):
        return str(error)
    kind = type(error).__name__
    if isinstance(error, OSError):
        return f"{error} ({kind}); expected files and folders that can be read and written. Correct the path."
    return f"{kind}: {error}; this was not expected. --debug shows where it happened; please report it."


def plain(text: object) -> str:
    """Text whose brackets are no marks."""
    return str(text).replace("[", r"\[")


def table_of(*columns: str, words: str = "") -> Table:
    """An empty table, whose columns are not broken; `words`: a last one, which is broken between words.

    Labels may be longer than a terminal is wide: then the table is wider, too, and nothing is cut off.
    """
    made = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        made.add_column(column, no_wrap=True, min_width=max(map(len, column.split("\n"))), overflow="ignore")
    if words:
        made.add_column(words)
    return made


def leaderboard(table: Any) -> Table:
    """The leaderboard of one model, as a terminal shows it."""
    shown = table_of("method", "gain", "95 %", "beats\nrandom", "most", "least", "s/image")
    for row in table.to_dict("records"):
        beats = {"yes": "[green]yes[/green]", "no": "[red]no[/red]"}.get(row["beats_random"], row["beats_random"])
        interval = f"{row['gain_low']:.3f} to {row['gain_high']:.3f}"
        ends = (f"{row[key]:.3f}" for key in ("confidence_most", "confidence_least"))
        shown.add_row(plain(row["method"]), f"{row['gain']:.3f}", interval, beats, *ends, f"{row['seconds']:.2g}")
    shown.caption = (
        "gain: signed confidence with the least important features removed, less that with the most important removed; "
        "mean over shares and images. most, least: mean confidence with these features removed."
    )
    return shown


def standings(table: Any) -> Table:
    """Every metric's first three methods, and how many beat all controls, as a terminal shows it."""
    shown = table_of("metric", "beat all\ncontrols", words="best three")
    for metric, rows in table.groupby("metric", sort=False):
        best = ", ".join(f"{plain(row['method'])} {row['mean']:.3g}" for row in rows.head(3).to_dict("records"))
        judged = rows[rows["beats"].isin(["yes", "no"])]
        count = f"{int((judged['beats'] == 'yes').sum())} of {len(judged)}" if len(judged) else "-"
        shown.add_row(f"{plain(metric)} ({rows['better'].iloc[0]})", count, best)
    return shown


def methods_table() -> Table:
    """Every method, those that work alike together: what else it is called, what it needs, what it costs."""
    import xaicompare.methods  # noqa: F401 (registers their names)
    from xaicompare.registry import METHODS

    table = table_of("method", "based on", "forward +\nbackward", words="is")
    table.add_column("also known as")
    kinds: dict[str, list[Any]] = {}
    for name in METHODS.names():
        built = METHODS.build(name)
        kinds.setdefault(built.traits.kind, []).append(built)
    for kind in kinds.values():
        for built in kind:
            _add_method(table, built)
        table.add_section()
    return table


def _add_method(table: Table, built: Any) -> None:
    from xaicompare.cost import passes
    from xaicompare.titles import ALSO

    traits, cost = built.traits, passes(built)
    known = {
        "agnostic": traits.agnostic,
        "baseline": traits.baseline,
        "neuron relevance": traits.neuron_relevance,
        "conserves": traits.conserves,
    }
    told = ", ".join(word for word, true in known.items() if true)
    also = ", ".join(ALSO.get(built.name, ())) or "-"
    table.add_row(built.name, traits.kind, f"{cost.forward} + {cost.backward}", told or "-", also)


def metrics_table() -> Table:
    """Every metric: which way is good, its range, what it costs, and where it comes from."""
    import xaicompare.metrics  # noqa: F401 (registers their names)
    from xaicompare.cost import judging_passes
    from xaicompare.methods import Saliency
    from xaicompare.registry import METRICS

    table = table_of("metric", "family", "", "range", "passes", words="source")
    for name in METRICS.names():
        built = METRICS.build(name)
        cost = judging_passes(built, Saliency())
        good = "↑" if built.higher_is_better else "↓"
        reach = f"{built.traits.low:g} to {built.traits.high:g}".replace("-inf to inf", "any")
        source = (inspect.getdoc(type(built)) or "").partition("Source: ")[2]
        author, year = re.match(r"[\w-]+", source), re.search(r"\b(?:19|20)\d\d\b", source)
        told = " ".join(found.group() for found in (author, year) if found)
        table.add_row(name, built.traits.family, good, reach, f"{cost.forward} + {cost.backward}", told)
    return table
