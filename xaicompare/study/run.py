"""Carries a study out: every method explains the images, every metric judges it, and what it cost is measured."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xaicompare.core import Attribution
from xaicompare.errors import DataError, StudyError, XaiCompareError
from xaicompare.progress import board, duration
from xaicompare.results import Results, Table
from xaicompare.stats import is_control, leaderboard, standings
from xaicompare.study.cells import Bench, planned
from xaicompare.study.crew import Crew
from xaicompare.study.devices import devices, own
from xaicompare.study.estimate import estimated
from xaicompare.study.findings import found
from xaicompare.study.lock import locked
from xaicompare.study.log import at_work, begun, logged
from xaicompare.study.spec import Study
from xaicompare.study.store import Store
from xaicompare.study.subject import Subject, prepared
from xaicompare.study.work import Event, missing
from xaicompare.study.workers import carried_out_by

_IN_VAIN = 3  # cells in a row that can't be written: the disk is full, and further work would be lost


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a study found, and what it needs to be shown."""

    study: Study
    subject: Subject
    results: Results
    costs: Table  # a row per method: method, name, budget, passes and mebibytes (see `cost.Cost`), seconds
    examples: Mapping[str, Attribution | XaiCompareError]  # of the first images, by label
    failed: Mapping[str, str]  # label: why that method has no rows; "label, metric": why it has none of that metric
    incomplete: Mapping[str, str]  # label: by how much its values miss what they must sum to, where that is too much
    broken: Mapping[str, str] = field(default_factory=dict)  # like failed: errors that are no answer; run again
    notes: tuple[str, ...] = ()  # what happened in this run, such as that memory did not suffice

    @property
    def leaderboard(self) -> Table:
        """A row per method, the best first; see `xaicompare.leaderboard`."""
        return leaderboard(self.results)

    @property
    def standings(self) -> Table:
        """A row per metric and method; see `xaicompare.standings`."""
        return standings(self.results)


def run(
    study: Study,
    folder: str | Path | None = None,
    *,
    jobs: int = 1,
    backend: str = "loky",
    scheduler: str | None = None,
    device: str = "cpu",
    log: str | Path | None = None,
    announce: Callable[[str], object] | None = None,
    subject: Subject | None = None,
) -> Outcome:
    """Trains or loads the model, explains the images by every method, and measures every metric.

    What the folder holds already is not done again: every finished cell (a method and a metric on some of the images)
    is kept there under a digest of all that determines it, whatever ends the run. A method that can't explain the
    model is left out, as is a metric that can't judge it, and the outcome says why; so it does of cells that failed
    for other reasons, which the next run tries again.

    Args:
        folder: None: nothing is kept. All workers of a cluster must see it by the same path.
        jobs: how many processes work at once, each with its share of the cores; values do not depend on it, seconds do.
        backend: where they are: "loky" (here), or a cluster of "dask" or "ray", with as many as were started there.
        scheduler: the address of the cluster's scheduler, such as tcp://host:8786.
        device: "cpu", "cuda", or "auto" for whichever is there; each process takes a CUDA device for itself.
        log: a file that a line of JSON is added to for each finished cell; see `logged`.
        announce: is told about how long the work will take, before it; in this process alone, and for 16 images or
            more, a few of which are explained and judged to find out. None: nothing is tried.
        subject: the model and its images, looked at already; for one process alone. None: as the study names them.

    Raises:
        DataError: data or weights are absent, or the folder or the log can't be written to, or a worker doesn't see it.
        StudyError: a metric asks for masks, and the data set has none; or there is no such cluster or device; or
            another run is at work in the folder.
        XaiCompareError: no method but controls could explain the model.
    """
    crew = Crew(jobs, backend, scheduler, device)
    if subject is not None and not crew.alone:
        raise StudyError(f"a model given in Python beside jobs={jobs}, backend={backend!r}; expected one process.")
    if log is not None:
        begun(log)
    if folder is not None:
        with locked(folder):
            return _carried_out(study, Path(folder), crew, log, announce, subject)
    with tempfile.TemporaryDirectory() as passing:
        return _carried_out(study, Path(passing), crew, log, announce, subject)


def _carried_out(
    study: Study,
    folder: Path,
    crew: Crew,
    log: str | Path | None,
    announce: Callable[[str], object] | None,
    given: Subject | None,
) -> Outcome:
    place = own(devices(crew.device)) if crew.backend == "loky" else "cpu"
    bench = Bench.of(study, prepared(study, place) if given is None else given)
    store, tasks = Store(folder), planned(bench, crew.kind)
    store.plan(tasks)
    left = {task.key: (task, cells) for task in tasks if (cells := missing(bench, store, task)) is not None}
    total = sum(1 + len(cells) for _, cells in left.values())
    if announce is not None and crew.alone and (seconds := estimated(bench, store, tasks, left.values())) is not None:
        announce(f"about {duration(seconds)} for {total:,} cells, by a trial of a few images")
    events = logged(carried_out_by(crew, bench, [task for task, _ in left.values()], store), log)
    told = [
        event
        for event in board(_watched(events), "judging", total=total, unit="cell", lines=lambda: at_work(store))
        if event.error or event.note or event.example
    ]
    findings = found(bench, store, tasks, told)
    reasons = [*findings.refused.values(), *findings.broken.values()]
    methods = [label for label in study.methods if not is_control(label)]
    if methods and not any(label in findings.rows for label in methods):
        raise XaiCompareError(f"no method could explain {study.model.shown}: {reasons[0]}")
    if not any(rows.table["family"].notna().any() for rows in findings.rows.values()):
        raise XaiCompareError(f"no metric could judge: {reasons[0]}")
    return Outcome(
        study,
        bench.subject,
        Results.joined(findings.rows.values()),
        Table(findings.costs),
        findings.examples,
        findings.refused,
        findings.incomplete,
        findings.broken,
        tuple(dict.fromkeys(note for note in (bench.subject.note, *(event.note for event in told)) if note)),
    )


def _watched(events: Iterator[Event]) -> Iterator[Event]:
    """The events, until it is plain that the folder takes no more."""
    in_vain = 0
    for event in events:
        in_vain = in_vain + 1 if event.unwritten else 0
        if in_vain == _IN_VAIN:
            raise DataError(
                f"{in_vain} cells in a row were lost: {event.error} The finished ones are kept; run the study again."
            )
        yield event
