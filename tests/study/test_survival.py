"""Whatever stops a study, it goes on where it was, and comes to the same table."""

import errno
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pandas as pd
import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError
from small_cells import METHODS, Deadly, bare, counted

import xaicompare.progress
import xaicompare.results
import xaicompare.study.workers
from xaicompare.errors import DataError, XaiCompareError
from xaicompare.methods import IntegratedGradients, Saliency
from xaicompare.study import Study, run
from xaicompare.study.cells import Bench, Task, planned
from xaicompare.study.crew import Crew
from xaicompare.study.store import Store
from xaicompare.study.subject import prepared
from xaicompare.study.work import Event
from xaicompare.study.workers import carried_out_by


def test_killed_ten_times_at_random_moments_it_comes_to_the_same_table(study: Study, tmp_path: Path) -> None:
    study, out, draws = replace(study, images=12, cell_images=1), tmp_path / "out", Random(0)
    undisturbed = bare(run(study).results)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["xaicompare.study", "sklearn.datasets", "sklearn.model_selection"])
    counts = []
    for _ in range(10):
        enough = finished(out) + draws.randint(0, 16)
        child = context.Process(target=run, args=(study, out))
        child.start()
        while child.is_alive() and finished(out) < enough:
            time.sleep(draws.random() / 100)
        time.sleep(draws.random() / 50)  # anywhere between two cells, or before the first one
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL, "it was to be killed before it was done"
        counts.append(finished(out))
    assert counts == sorted(counts)
    assert counts[0] < counts[5] < counts[-1]
    found = run(study, out)
    assert counts[-1] < finished(out), "something was left to do"
    assert bare(found.results).equals(undisturbed)
    assert not found.broken
    assert not Store(out).attempts.running()


def finished(out: Path) -> int:
    return len(list(out.glob("cells/*.parquet")))


def test_a_full_disk_keeps_what_is_finished(
    study: Study, undisturbed: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, plain, written = tmp_path / "out", xaicompare.results.replacing, Counter[str]()

    def full_after(most: int, until: int):  # type: ignore[no-untyped-def]
        @contextmanager
        def replacing(path: Path, **more: bool) -> Iterator[Path]:
            written["cells"] += 1
            if most < written["cells"] <= until:
                raise OSError(errno.ENOSPC, "No space left on device")
            with plain(path, **more) as temporary:
                yield temporary

        return replacing

    with monkeypatch.context() as patch:
        patch.setattr(xaicompare.results, "replacing", full_after(7, 1000))
        with pytest.raises(DataError, match=r"3 cells in a row were lost.*No space left.*finished ones are kept"):
            run(study, out)
    assert len(list(out.glob("cells/*.parquet"))) == 7
    assert not list(out.glob("cells/.*")), "nothing half-written stays"
    with monkeypatch.context() as patch:
        written.clear()
        patch.setattr(xaicompare.results, "replacing", full_after(5, 6))
        passing = run(study, out)
    assert len(passing.broken) == 1
    assert "No space left" in next(iter(passing.broken.values()))
    assert len(passing.results) < len(undisturbed)
    with counted(monkeypatch, Saliency, IntegratedGradients) as calls:
        found = run(study, out)
    assert sum(calls.values()) <= 2, "one batch"
    assert bare(found.results).equals(undisturbed)


def test_several_processes_come_to_the_same_table(study: Study, undisturbed: pd.DataFrame, tmp_path: Path) -> None:
    found = run(study, tmp_path / "out", jobs=2)
    assert bare(found.results).equals(undisturbed)
    assert list(found.failed) == ["cam"]


@pytest.mark.slow
def test_a_killed_worker_takes_only_its_task_along(study: Study, undisturbed: pd.DataFrame, tmp_path: Path) -> None:
    deadly = replace(study, cell_images=5, methods={"deadly": Deadly(spared=os.getpid())} | study.methods)
    found = run(deadly, tmp_path / "out", jobs=2)
    assert "was killed" in found.broken["deadly"]
    assert list(found.broken) == ["deadly"]
    assert set(found.results.table["method"]) == set(METHODS)


def test_processes_that_die_again_and_again_end_the_run(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def die(crew: Crew, jobs: int, bench: Bench, tasks: list[Task], store: Store) -> Iterator[tuple[str, list[Event]]]:
        tried.append(len(tasks))
        assert len(tried) < 100
        for task in tasks[:2]:  # begun by a process that was killed; no later one comes as far
            path = store.attempts.folder / f"{task.key}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('{"run": "", "key": "", "deaths": {}}')
        raise TerminatedWorkerError
        yield

    monkeypatch.setattr(xaicompare.study.workers, "_at_once", die)
    bench = Bench.of(study, prepared(study))
    tasks = planned(bench)
    with pytest.raises(XaiCompareError, match="a process was killed before it began"):
        list(carried_out_by(Crew(jobs=2), bench, tasks, Store(tmp_path)))
    assert tried == [len(tasks), 1, 1, 1, 1]
