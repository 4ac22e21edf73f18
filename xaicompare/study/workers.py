"""Carries all tasks out by a crew, of whom one may be killed without ending the study."""

import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError
from torch import Tensor

from xaicompare.errors import DataError, XaiCompareError
from xaicompare.study.attempts import DEATHS
from xaicompare.study.cells import Bench, Task, basis
from xaicompare.study.crew import Crew
from xaicompare.study.devices import devices, own
from xaicompare.study.fingerprint import digest, of_samples
from xaicompare.study.spec import Study
from xaicompare.study.store import Store
from xaicompare.study.subject import KNOWN, Subject, data_of, model_of, part_of
from xaicompare.study.work import Event, carried_out

_IN_VAIN = DEATHS + 1  # in a row: more, and a process does not live to say what it is at, nor that it gives that up
_PATIENCE = 10.0  # seconds until a file is seen on every machine of a shared file system


def carried_out_by(crew: Crew, bench: Bench, tasks: Sequence[Task], store: Store) -> Iterator[Event]:
    """Carries tasks out, and tells what became of their cells as they finish."""
    if not tasks:
        return
    if not crew.alone:
        with crew.at_work() as jobs:
            yield from _by_others(crew, jobs, bench, tasks, store)
        return
    for task in tasks:
        part = part_of(bench.subject, slice(task.start, task.stop))
        with store.attempts.at(task, store.run) as attempt:
            yield from carried_out(bench, part, task, store, attempt)


def _by_others(crew: Crew, jobs: int, bench: Bench, tasks: Sequence[Task], store: Store) -> Iterator[Event]:
    """By processes of their own; where one is killed, those that worked then have their tasks done one by one.

    loky ends all processes with the one that was killed; a cluster sends its task to another one by itself.
    """
    left = {task.key: task for task in tasks}
    alone: list[Task] = []  # that were begun when a process was killed, one of which may be the reason
    in_vain = 0  # deaths in a row
    while left:
        chosen = alone[:1] or list(left.values())
        try:
            for key, events in _at_once(crew, jobs, bench, chosen, store):
                del left[key]
                in_vain = 0
                yield from events
            alone = alone[1:]
        except TerminatedWorkerError as error:
            begun = [task for task in chosen if task.key in left and store.attempts.was_begun(task.key)]
            in_vain += 1
            if not begun or in_vain > _IN_VAIN:
                raise XaiCompareError(
                    "a process was killed before it began, as systems do that run out of memory; expected room for a "
                    "model in each. Use fewer jobs; the finished cells are kept."
                ) from error
            alone = alone or begun


def _at_once(
    crew: Crew, jobs: int, bench: Bench, tasks: Sequence[Task], store: Store
) -> Iterator[tuple[str, list[Event]]]:
    """The key and events of every task, as they finish."""
    sent = _sent(crew, bench, store)
    parallel = joblib.Parallel(n_jobs=jobs, batch_size=1, return_as=crew.return_as)
    yield from parallel(joblib.delayed(_remote)(sent, _known(bench.subject, task), task, store) for task in tasks)


def _known(subject: Subject, task: Task) -> dict[str, Tensor]:
    """What a worker can't know of a task's images without looking at them first."""
    return {name: getattr(subject, name)[task.start : task.stop].clone() for name in KNOWN}


@dataclass(frozen=True)
class _Sent:
    """A study that is equal to another with the same digest, so that a worker keeps what it made of it."""

    study: Study = field(compare=False)
    first: tuple[int, list[int]] = field(compare=False)  # number and digest of the first image
    basis: str = field(compare=False)
    threads: int
    device: str
    digest: str  # of the study and the run


def _sent(crew: Crew, bench: Bench, store: Store) -> _Sent:
    study, subject = bench.study, bench.subject
    first = (int(subject.image[0]), subject.content[0].tolist())
    return _Sent(study, first, basis(study, subject.model), crew.threads, crew.device, digest(study, store.run))


def _remote(sent: _Sent, known: dict[str, Any], task: Task, store: Store) -> tuple[str, list[Event]]:
    _look_for(store)
    torch.set_num_threads(sent.threads)  # of this thread: a cluster's worker may have several, one after the other
    with store.attempts.at(task, store.run) as attempt:
        bench = _received(sent)
        part = replace(bench.subject, **known)
        return task.key, list(carried_out(bench, part, task, store, attempt))


def _look_for(store: Store) -> None:
    """Waits a moment for the run's folder.

    Raises:
        DataError: this machine does not see it.
    """
    until = time.monotonic() + _PATIENCE
    while not store.is_seen():
        if time.monotonic() > until:
            raise DataError(
                f"the worker on {platform.node()} does not see the run in {store.folder.parent}; expected a folder on "
                "a file system that all machines share, by the same path. Choose another one."
            )
        time.sleep(0.2)


@lru_cache(maxsize=1)
def _received(sent: _Sent) -> Bench:
    """The study's bench on this process's own device.

    Raises:
        DataError: the data or weights here are others than where the study was begun, or the package's code is.
    """
    study = sent.study
    dataset, _ = data_of(study)
    model, origin = model_of(study.model, dataset)
    number, content = sent.first
    image = torch.tensor([number])
    same_image = (
        number < len(dataset.test)
        and content == of_samples(dataset.test.batch(image)[0], dataset.test.masks(image))[0].tolist()
    )
    for what, same in (("images", same_image), ("model, code or libraries", basis(study, model) == sent.basis)):
        if not same:
            raise DataError(
                f"the worker on {platform.node()} has other {what} than the process that began the study; expected the "
                "same on every machine. Share XAICOMPARE_DATA and XAICOMPARE_CACHE, and install the same versions."
            )
    nothing = torch.empty(0, dtype=torch.int64)
    model.to(own(devices(sent.device)))
    image, label, logits, target, digests = [nothing] * len(KNOWN)
    return Bench.of(study, Subject(model, dataset, origin, image, label, logits, target, digests))
