"""Carries out one task: explains a batch of images, judges the maps by every metric that is missing, keeps each."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import torch

from xaicompare.core import Attribution, Method
from xaicompare.cost import measured as measured_cost
from xaicompare.errors import DataError, InputError, LibraryError, XaiCompareError
from xaicompare.progress import hushed
from xaicompare.results import Results
from xaicompare.study.attempts import Attempt
from xaicompare.study.attributions import keep, keeps
from xaicompare.study.cells import Bench, Cell, Task
from xaicompare.study.rows import completeness, judged, who
from xaicompare.study.store import Store, told
from xaicompare.study.subject import Subject, joined, part_of

T = TypeVar("T")

_COST_IMAGES = 2  # enough: what a method does is the same for each


class Event(NamedTuple):
    """What became of a cell, or of the maps of a task."""

    label: str
    metric: str | None  # None: the maps
    key: str
    images: tuple[int, int] = (0, 0)  # from and to which, in the study's order
    error: str = ""  # why it failed, where it did
    refused: str = ""  # why there can be nothing, where that is so
    unwritten: bool = False  # it failed because the folder can't be written to
    note: str = ""  # what a user should know all the same
    example: Attribution | None = None  # of the first images, as many as the study shows
    time: float = 0.0  # when it was finished, in seconds since 1970
    seconds: float = 0.0  # that it took
    worker: str = ""  # host and process


def missing(bench: Bench, store: Store, task: Task) -> list[Cell] | None:
    """The cells of a task that are left to do, none where only its maps are; None where nothing is."""
    if store.refused(task.key) is not None:
        return None
    left = [cell for cell in task.cells if not store.finished(cell.key)]
    whole = store.has_maps(task.key) and keeps(bench.study, store.folder.parent, task)
    return None if whole and not left else left


def carried_out(bench: Bench, part: Subject, task: Task, store: Store, attempt: Attempt) -> Iterator[Event]:
    """Does what is missing of a task, on the part of the subject with its images, and tells cell by cell.

    Nothing but an interruption ends it early: an error is kept beside the cell, and the rest goes on.
    """
    cells = missing(bench, store, task)
    if cells is None:
        return
    at = _Place(bench, part, task, store, attempt)
    with hushed():
        explained, event = _explain(at)
        yield _stamped(event, attempt)
        if explained is None:
            return
        for cell in cells:
            yield _stamped(_judge(at, explained, cell), attempt)


class _Place(NamedTuple):
    """Where a task is carried out."""

    bench: Bench
    part: Subject
    task: Task
    store: Store
    attempt: Attempt


def _stamped(event: Event, attempt: Attempt) -> Event:
    return event._replace(time=time.time(), seconds=attempt.seconds, worker=attempt.worker)


def _explain(at: _Place) -> tuple[Attribution | None, Event]:
    bench, part, task, store, attempt = at
    method, event = bench.methods[task.label], Event(task.label, None, task.key, (task.start, task.stop))
    try:
        attempt.begins(task.key, None)
        parts = attributed(method, part)
        explained = joined(parts)
        first = not store.has_maps(task.key)  # what was measured the first time stays
        cost = _cost(method, part) if first and task.start == 0 else None
    except Exception as error:
        return None, _dealt_with(error, event, store)
    try:
        if first:
            rows = completeness(who(bench.study, part, task.label, explained), part, explained)
            store.write_maps(task.key, rows, {"seconds": explained.seconds, "images": len(explained), "cost": cost})
        keep(bench.study, store.folder.parent, task, part, explained)
    except DataError as error:
        return explained, event._replace(error=told(error), unwritten=True)
    shown = bench.study.grid_images - task.start
    example = explained.part(slice(shown)) if shown > 0 else None
    return explained, event._replace(example=example, note=_note(task.label, "explained", parts, part))


def _judge(at: _Place, explained: Attribution, cell: Cell) -> Event:
    bench, part, task, store, attempt = at
    event = Event(task.label, cell.metric, cell.key, (task.start, task.start + cell.images))
    made, metric = who(bench.study, part, task.label, explained), bench.metrics[cell.metric]

    def rows_of(some: Subject, chosen: slice) -> Results:
        return judged(made, some, explained.part(chosen), cell.metric, metric)

    try:
        attempt.begins(cell.key, cell.metric)
        parts = list(_halving(part, cell.images, rows_of))
    except Exception as error:
        return _dealt_with(error, event, store)
    try:
        store.write_rows(cell.key, parts[0] if len(parts) == 1 else Results.joined(parts))
    except DataError as error:
        return event._replace(error=told(error), unwritten=True)
    return event._replace(note=_note(f"{task.label}, {cell.metric}", "judged", parts, part))


def _dealt_with(error: Exception, event: Event, store: Store) -> Event:
    """What follows of an error: ours say that it can't be, others may be a fault of the method, or pass."""
    if isinstance(error, XaiCompareError) and not _may_pass(error):
        try:
            store.refuse(event.key, error)
        except DataError as unwritten:
            return event._replace(error=told(unwritten), unwritten=True)
        return event._replace(refused=told(error))
    store.fail(event.key, error)
    return event._replace(error=told(error))


def _may_pass(error: XaiCompareError) -> bool:
    """Whether another run may have more luck: no error is a refusal that began as one of a library, or of a file.

    A graph that can't be traced begins as one of torch.fx, and is a refusal: it lies in the model.
    """
    step: BaseException | None = error
    while isinstance(step, XaiCompareError):
        ours = step.__cause__ is None or isinstance(step.__cause__, XaiCompareError)
        # Inputs that torch finds unfit: the model took these images before.
        if isinstance(step, (DataError, LibraryError)) or (isinstance(step, InputError) and not ours):
            return True
        step = step.__cause__
    return _out_of_memory(error)


def _halving(part: Subject, n: int, do: Callable[[Subject, slice], T]) -> Iterator[T]:
    """Does something for the first n images, at once, or where memory does not suffice by halves, and halves of them.

    Raises:
        Exception: what `do` raised; want of memory only for a single image.
    """
    waiting = [slice(0, n)]
    while waiting:
        chosen = waiting.pop(0)
        size = chosen.stop - chosen.start
        try:
            yield do(part if size == len(part.image) else part_of(part, chosen), chosen)
        except Exception as error:
            if size == 1 or not _out_of_memory(error):
                raise
            middle = chosen.start + (size + 1) // 2
            waiting[:0] = [slice(chosen.start, middle), slice(middle, chosen.stop)]
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether want of memory is at the bottom of an error; on a CPU torch has no class of its own for it."""
    while error is not None:
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error):
            return True
        error = error.__cause__
    return False


def _note(what: str, done: str, parts: list[T], part: Subject) -> str:
    if len(parts) <= 1:
        return ""
    return f"{what}: out of memory with {len(part.image)} images at once; {done} in {len(parts)} parts."


def attributed(method: Method, part: Subject) -> list[Attribution]:
    """What a method says of a part's images, however incomplete: in one piece where memory suffices."""

    def of(some: Subject, _: slice) -> Attribution:
        return method.attribute(some.model, some.inputs, some.target, strict=False)

    return list(_halving(part, len(part.image), of))


def _cost(method: Method, part: Subject) -> dict[str, float] | None:
    """What a method costs; None where that takes more memory than there is."""
    try:
        found = measured_cost(method, part.model, part.inputs[:_COST_IMAGES], part.target[:_COST_IMAGES])
    except Exception as error:
        if not _out_of_memory(error):
            raise
        return None
    return found._asdict()
