"""Who carries tasks out: this process, or several, of which one may be killed without ending the study."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError
from torch import Tensor

from xaicompare.errors import XaiCompareError
from xaicompare.study.cells import Bench, Task
from xaicompare.study.fingerprint import digest
from xaicompare.study.spec import Study
from xaicompare.study.store import Store, told
from xaicompare.study.subject import KNOWN, Subject, model_of, part_of
from xaicompare.study.work import Event, carried_out, missing
from xaicompare.zoo import load_dataset


def carried_out_by(jobs: int, bench: Bench, tasks: Sequence[Task], store: Store) -> Iterator[Event]:
    """Carries tasks out by so many processes, and tells what became of their cells as they finish."""
    if jobs > 1:
        yield from _by_others(jobs, bench, tasks, store)
        return
    for task in tasks:
        yield from carried_out(bench, part_of(bench.subject, slice(task.start, task.stop)), task, store)


def _by_others(jobs: int, bench: Bench, tasks: Sequence[Task], store: Store) -> Iterator[Event]:
    """By processes of their own; where one is killed, those that worked then have their tasks done one by one."""
    left = {task.key: task for task in tasks}
    while left:
        try:
            for key, events in _at_once(jobs, bench, list(left.values()), store):
                del left[key]
                yield from events
        except TerminatedWorkerError as error:
            begun = [task for task in left.values() if store.was_begun(task.key)]
            if not begun:
                raise XaiCompareError(
                    "a process was killed before it began, as systems do that run out of memory; expected room for a "
                    "model in each. Use fewer jobs."
                ) from error
            for task in begun:
                del left[task.key]
                yield from _alone(jobs, bench, task, store)


def _alone(jobs: int, bench: Bench, task: Task, store: Store) -> Iterator[Event]:
    """One task in a process of its own, again without the cell in which it was killed."""
    deadly: set[str] = set()
    while True:
        try:
            for _, events in _at_once(jobs, bench, [task], store, deadly):
                yield from events
            return
        except TerminatedWorkerError:
            places: list[tuple[str, str | None]] = [
                (cell.key, cell.metric) for cell in missing(bench, store, task) or ()
            ]
            if not store.has_maps(task.key):
                places = [(task.key, None)]
            key, metric = next(((key, metric) for key, metric in places if key not in deadly), (task.key, None))
            error = MemoryError("the process was killed, as systems do that run out of memory. Use fewer --jobs.")
            store.fail(key, error)
            yield Event(task.label, metric, key, told(error))
            if metric is None:
                return
            deadly.add(key)


def _at_once(
    jobs: int, bench: Bench, tasks: Sequence[Task], store: Store, without: Collection[str] = ()
) -> Iterator[tuple[str, list[Event]]]:
    """The key and events of every task, as they finish."""
    sent = _Sent(bench.study, digest(bench.study), max(1, joblib.cpu_count() // jobs))
    parallel = joblib.Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")
    known = (_known(bench.subject, task) for task in tasks)
    yield from parallel(
        joblib.delayed(_remote)(sent, of_task, task, store, frozenset(without))
        for task, of_task in zip(tasks, known, strict=True)
    )


def _known(subject: Subject, task: Task) -> dict[str, Tensor]:
    """What a worker can't know of a task's images without looking at them first."""
    return {name: getattr(subject, name)[task.start : task.stop].clone() for name in KNOWN}


@dataclass(frozen=True)
class _Sent:
    """A study that is equal to another with the same digest, so that a worker keeps what it made of it."""

    study: Study = field(compare=False)
    digest: str
    threads: int


@lru_cache(maxsize=1)
def _received(sent: _Sent) -> Bench:
    torch.set_num_threads(sent.threads)
    study = sent.study
    dataset = load_dataset(study.data, **study.data_settings)
    model, origin = model_of(study.model, dataset)
    nothing = torch.empty(0, dtype=torch.int64)
    return Bench.of(study, Subject(model, dataset, origin, *[nothing] * len(KNOWN)))


def _remote(
    sent: _Sent, known: dict[str, Tensor], task: Task, store: Store, without: frozenset[str]
) -> tuple[str, list[Event]]:
    bench = _received(sent)
    held = bench.subject
    part = Subject(held.model, held.dataset, held.origin, **known)
    return task.key, list(carried_out(bench, part, task, store, without))
