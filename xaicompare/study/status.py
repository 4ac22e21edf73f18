"""How far a study is, from its folder alone."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from xaicompare.results import Table
from xaicompare.study.log import MAPS
from xaicompare.study.store import Store

STATES = ("done", "running", "left out", "failed", "missing")
"""What a cell can be; "left out": the method can't explain the model, or the metric can't judge it."""


def progress_by(folder: str | Path, column: Literal["method", "metric"]) -> Table:
    """A row per method or metric of the last run, and last one of all: how many of its cells are in which state.

    The maps that a method makes of a batch of images are a cell, too, of the metric "(maps)".

    Raises:
        DataError: no study was begun in this folder.
    """
    counts: dict[str, Counter[str]] = {}
    for label, metric, _, state in _cells(Store(folder)):
        counts.setdefault(label if column == "method" else metric, Counter())[state] += 1
    named = [*counts.items(), ("all", sum(counts.values(), Counter()))]  # whatever a method calls itself
    return Table([{column: name, **{state: count[state] for state in STATES}} for name, count in named])


def unfinished(folder: str | Path) -> tuple[int, int]:
    """How many cells of the last run are running or missing, and how many there are.

    Raises:
        DataError: no study was begun in this folder.
    """
    states = [state for *_, state in _cells(Store(folder))]
    return sum(state in ("running", "missing") for state in states), len(states)


def failures(folder: str | Path) -> dict[str, str]:
    """Why cells failed, the first reason of each method, or "method, metric"."""
    store, found = Store(folder), dict[str, str]()
    for label, metric, key, state in _cells(store):
        if state == "failed":
            found.setdefault(label if metric == MAPS else f"{label}, {metric}", store.failure(key) or "")
    return found


def _cells(store: Store) -> Iterator[tuple[str, str, str, str]]:
    """Method, metric, key and state of every cell; what can't be for want of maps has the state of the maps."""
    for task in store.planned():
        running = store.attempts.is_running(task["key"])
        maps = _state(store, task["key"], done=store.has_maps(task["key"]), running=running)
        yield task["label"], MAPS, task["key"], maps
        for metric, _, key in task["cells"]:
            state = _state(store, key, done=store.has_rows(key), running=running)
            yield task["label"], metric, key, maps if state == "missing" and maps == "left out" else state


def _state(store: Store, key: str, *, done: bool, running: bool) -> str:
    if done:
        return "done"
    if store.refused(key) is not None:
        return "left out"
    if running:
        return "running"
    return "missing" if store.failure(key) is None else "failed"
