"""What the finished cells of a study say together, whatever the order in which they were finished."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from xaicompare.core import Attribution, Method, complaint_of, status_of
from xaicompare.errors import XaiCompareError
from xaicompare.metrics import ConfidenceRemoval
from xaicompare.results import Results
from xaicompare.study.attributions import kept
from xaicompare.study.cells import Bench, Task
from xaicompare.study.rows import gathered
from xaicompare.study.store import Store
from xaicompare.study.subject import joined, part_of, samples
from xaicompare.study.work import Event


@dataclass(frozen=True, eq=False)
class Findings:
    """All that is known of a study's methods, each by label."""

    rows: dict[str, Results]  # of those that explained some image
    costs: list[dict[str, Any]]
    examples: dict[str, Attribution | XaiCompareError]
    refused: dict[str, str]  # label, or "label, metric": why there are no rows
    broken: dict[str, str]  # the same: why rows are missing that there could be
    incomplete: dict[str, str]


def found(bench: Bench, store: Store, tasks: Sequence[Task], events: Sequence[Event]) -> Findings:
    """Looks through the cells of every method; the events of this run tell what is not on disk."""
    findings = Findings({}, [], {}, {}, {}, {})
    errors = {event.key: event.error for event in events if event.error}
    shown = {event.key: event.example for event in events if event.example is not None}
    for label, method in bench.methods.items():
        batches = [task for task in tasks if task.label == label]
        explained = [task for task in batches if store.has_maps(task.key)]
        _sort_out(label, [task.key for task in batches], {task.key for task in explained}, store, errors, findings)
        if label not in findings.refused and explained:
            rows = _method_rows(label, explained, bench, store, errors, findings)
            facts = [store.facts(task.key) or {} for task in explained]
            seconds = sum(each["seconds"] for each in facts) / sum(each["images"] for each in facts)
            findings.rows[label] = _labelled(rows, bench, label, seconds)
            findings.costs.append(_cost(label, method, facts, seconds))
            _note_incomplete(label, method, rows, findings)
        for event in (event for event in events if event.label == label and event.error):
            name = label if event.metric is None else f"{label}, {event.metric}"
            findings.broken.setdefault(name, event.error)  # rows are there, maps to be kept are not
        findings.examples[label] = _example(label, batches, bench, store, shown, findings)
    return findings


def _sort_out(
    name: str, keys: list[str], there: set[str], store: Store, errors: Mapping[str, str], findings: Findings
) -> None:
    """Notes why some of the cells of a method, or of a method and a metric, are not there."""
    refusals = [reason for key in keys if (reason := store.refused(key)) is not None]
    missing = [key for key in keys if key not in there]
    if refusals:  # by one batch of images: then by none, lest rows depend on how images are batched
        findings.refused[name] = refusals[0]
    elif missing:
        reason = next((errors.get(key) or store.failure(key) or "" for key in missing), "") or "it was not done"
        share = f"on {len(missing)} of {len(keys)} batches of images: " if len(keys) > 1 else ""
        findings.broken[name] = share + reason


def _method_rows(
    label: str, tasks: list[Task], bench: Bench, store: Store, errors: Mapping[str, str], findings: Findings
) -> Results:
    """The rows of one method: its completeness, then every metric, which may be left out."""
    parts = [rows for task in tasks if (rows := store.rows(task.key)) is not None]
    for name, metric in bench.metrics.items():
        keys = [cell.key for task in tasks for cell in task.cells if cell.metric == name]
        cells = {key: rows for key in keys if (rows := store.rows(key)) is not None}
        _sort_out(f"{label}, {name}", keys, set(cells), store, errors, findings)
        if f"{label}, {name}" not in findings.refused:
            removal = isinstance(metric, ConfidenceRemoval)
            parts += [rows if removal else Results(rows.table.assign(metric=name)) for rows in cells.values()]
    return gathered(parts)


def _labelled(rows: Results, bench: Bench, label: str, seconds: float) -> Results:
    """Rows by today's names; cells may have been measured under others."""
    known = {"model": bench.study.model.name, "dataset": bench.subject.dataset.name, "method": label}
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


def _example(
    label: str,
    batches: list[Task],
    bench: Bench,
    store: Store,
    shown: Mapping[str, Attribution],
    findings: Findings,
) -> Attribution | XaiCompareError:
    """The maps of the first images: of this run, or as they were kept, or made again; or why there are none."""
    reason = findings.refused.get(label) or findings.broken.get(label)
    count = bench.study.grid_images
    needed = [task for task in batches if task.start < count]
    if reason is not None and not all(store.has_maps(task.key) for task in needed):
        return XaiCompareError(reason)
    parts = [shown.get(task.key) or _kept(task, label, bench, store, count - task.start) for task in needed]
    return joined(parts)


def _kept(task: Task, label: str, bench: Bench, store: Store, count: int) -> Attribution:
    part = part_of(bench.subject, slice(task.start, min(task.stop, task.start + count)))
    method, maps = bench.methods[label], kept(store.folder.parent, task)
    if maps is None or len(maps) < len(part.image):
        return method.attribute(part.model, part.inputs, part.target, strict=False)
    facts = store.facts(task.key) or {}
    whole = Attribution(maps.values, part.inputs, part.target, maps.score, method, maps.residual, facts["seconds"])
    return samples(whole, slice(len(part.image)))
