"""What the finished cells of a study say together, whatever the order in which they were finished."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from xaicompare.core import Attribution, Method, complaint_of, status_of
from xaicompare.errors import DataError, XaiCompareError
from xaicompare.metrics import ConfidenceRemoval
from xaicompare.results import Results
from xaicompare.study.attributions import kept
from xaicompare.study.cells import Bench, Task
from xaicompare.study.rows import gathered
from xaicompare.study.store import Store, told
from xaicompare.study.subject import joined, part_of
from xaicompare.study.work import Event, attributed


@dataclass(frozen=True, eq=False)
class Findings:
    """All that is known of a study's methods, each by label."""

    rows: dict[str, Results]  # of those that explained some image
    costs: list[dict[str, Any]]
    examples: dict[str, Attribution | XaiCompareError]
    refused: dict[str, str]  # label, or "label, metric": why there are no rows
    broken: dict[str, str]  # the same: why rows are missing that there could be
    incomplete: dict[str, str]


@dataclass(frozen=True, eq=False)
class _Seen:
    """What there is to look through: the cells on disk, and what was told while the last of them were made."""

    bench: Bench
    store: Store
    errors: Mapping[str, str]  # by key
    shown: Mapping[str, Attribution]  # by key, the maps of the first images


def found(bench: Bench, store: Store, tasks: Sequence[Task], events: Sequence[Event]) -> Findings:
    """Looks through the cells of every method; the events of this run tell what is not on disk."""
    findings = Findings({}, [], {}, {}, {}, {})
    errors = {event.key: event.error for event in events if event.error}
    seen = _Seen(bench, store, errors, {event.key: event.example for event in events if event.example is not None})
    for label in bench.methods:
        batches = [task for task in tasks if task.label == label]
        try:
            _look_at(label, batches, seen, findings)
        except DataError:
            if not store.cleared(key for task in batches for key in (task.key, *(cell.key for cell in task.cells))):
                raise
            _look_at(label, batches, seen, findings)  # at what is left
        for event in (event for event in events if event.label == label and event.error):
            name = label if event.metric is None else f"{label}, {event.metric}"
            findings.broken.setdefault(name, event.error)  # rows are there, maps to be kept are not
        findings.examples[label] = _example(label, batches, seen, findings)
    return findings


def _look_at(label: str, batches: list[Task], seen: _Seen, findings: Findings) -> None:
    """Notes what the cells of a method say.

    Raises:
        DataError: the rows of one can't be read.
    """
    bench, store, method = seen.bench, seen.store, seen.bench.methods[label]
    explained = [task for task in batches if store.has_maps(task.key)]
    _sort_out(label, [task.key for task in batches], {task.key for task in explained}, seen, findings)
    if label in findings.refused or not explained:
        return
    rows = _method_rows(label, explained, seen, findings)
    facts = [store.facts(task.key) or {} for task in explained]
    seconds = sum(each["seconds"] for each in facts) / sum(each["images"] for each in facts)
    findings.rows[label] = _labelled(rows, bench, label, seconds)
    findings.costs.append(_cost(label, method, facts, seconds))
    _note_incomplete(label, method, rows, findings)


def _sort_out(name: str, keys: list[str], there: set[str], seen: _Seen, findings: Findings) -> None:
    """Notes why some of the cells of a method, or of a method and a metric, are not there."""
    refusals = [reason for key in keys if (reason := seen.store.refused(key)) is not None]
    missing = [key for key in keys if key not in there]
    if refusals:  # by one batch of images: then by none, lest rows depend on how images are batched
        findings.refused[name] = refusals[0]
    elif missing:
        reasons = (seen.errors.get(key) or seen.store.failure(key) for key in missing)
        share = f"on {len(missing)} of {len(keys)} batches of images: " if len(keys) > 1 else ""
        findings.broken[name] = share + (next(filter(None, reasons), None) or "it was not done")


def _method_rows(label: str, tasks: list[Task], seen: _Seen, findings: Findings) -> Results:
    """The rows of one method: its completeness, then every metric, which may be left out."""
    store = seen.store
    cells: list[tuple[str, str | None]] = [(task.key, None) for task in tasks if store.has_rows(task.key)]
    for name, metric in seen.bench.metrics.items():
        keys = [cell.key for task in tasks for cell in task.cells if cell.metric == name]
        there = [key for key in keys if store.has_rows(key)]
        _sort_out(f"{label}, {name}", keys, set(there), seen, findings)
        if f"{label}, {name}" not in findings.refused:  # rows may have been measured under another label
            cells += [(key, None if isinstance(metric, ConfidenceRemoval) else name) for key in there]
    return gathered(store.rows(cells))


def _labelled(rows: Results, bench: Bench, label: str, seconds: float) -> Results:
    """Rows by today's names; cells may have been measured under others."""
    known = {"model": bench.study.model.shown, "dataset": bench.subject.dataset.name, "method": label}
    return Results(rows.table.assign(**known, seconds=seconds))


def _cost(label: str, method: Method, facts: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    unknown = {"passes": float("nan"), "mebibytes": float("nan")}
    cost = next((each["cost"] for each in facts if each["cost"]), unknown)
    return {"method": label, "name": method.name, "budget": _budget(method), **cost, "seconds": seconds}


def _budget(method: Method) -> float:
    """How many samples or steps a method takes; NaN where that is no setting."""
    known = (getattr(method, name) for name in ("n_samples", "n_steps") if hasattr(method, name))
    return float(next(known, float("nan")))


def _note_incomplete(label: str, method: Method, rows: Results, findings: Findings) -> None:
    table = rows.table
    shares = torch.tensor(table["value"][table["quantity"] == "incompleteness"].to_numpy())
    if len(shares) and status_of(shares) != "ok":
        findings.incomplete[label] = f"{status_of(shares)}, {complaint_of(shares, method)}"


def _example(label: str, batches: list[Task], seen: _Seen, findings: Findings) -> Attribution | XaiCompareError:
    """The maps of the first images: of this run, or as they were kept, or made again; or why there are none."""
    count = seen.bench.study.grid_images
    needed = [task for task in batches if task.start < count]
    reason = findings.refused.get(label) or findings.broken.get(label)
    if reason is not None and not all(seen.store.has_maps(task.key) for task in needed):
        return XaiCompareError(reason)
    try:
        return joined([seen.shown.get(task.key) or _kept(label, task, count - task.start, seen) for task in needed])
    except Exception as error:  # a picture is no reason to lose the tables
        return XaiCompareError(told(error))


def _kept(label: str, task: Task, count: int, seen: _Seen) -> Attribution:
    part = part_of(seen.bench.subject, slice(task.start, min(task.stop, task.start + count)))
    method, maps = seen.bench.methods[label], kept(seen.store.folder.parent, task)
    if maps is None or len(maps) < len(part.image):
        return joined(attributed(method, part))
    facts, n = seen.store.facts(task.key) or {}, len(part.image)
    residual = None if maps.residual is None else maps.residual[:n]
    seconds = facts["seconds"] * n / facts["images"]
    return Attribution(maps.values[:n], part.inputs, part.target, maps.score[:n], method, residual, seconds)
