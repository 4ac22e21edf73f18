"""A study on the workers of a cluster: two processes of their own behind a scheduler, of whom one is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from small_cells import METHODS, Deadly, bare

import xaicompare.study.workers
from xaicompare.errors import DataError, StudyError
from xaicompare.study import Study, run
from xaicompare.study.cells import Bench, planned
from xaicompare.study.crew import Crew
from xaicompare.study.store import Store
from xaicompare.study.subject import prepared
from xaicompare.study.workers import _remote, _sent

distributed: ModuleType = pytest.importorskip("distributed", reason="the extra `dask` is not installed")


@contextmanager
def started(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of Dask's, ended afterwards with the process that it watches."""
    paths = os.pathsep.join([str(Path(xaicompare.__file__).parents[1]), str(Path(__file__).parent)])
    known = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *arguments]
    process = subprocess.Popen(command, env=os.environ | known | variables, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()  # a nanny then ends its worker
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def scheduler(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("dask")
    told = ["--scheduler-file", str(folder / "scheduler.json")]
    quiet = ["--no-dashboard"]
    worker = ["distributed.cli.dask_worker", *told, *quiet, "--nthreads", "1", "--local-directory", str(folder)]
    with (
        started("distributed.cli.dask_scheduler", *told, *quiet, "--host", "127.0.0.1", "--port", "0"),
        started(*worker, XAICOMPARE_CACHE=str(cache)),
        started(*worker, XAICOMPARE_CACHE=str(cache)),
    ):
        told_in = folder / "scheduler.json"
        while not told_in.exists() or not told_in.read_text():  # it is there before it is written
            time.sleep(0.05)
        yield json.loads(told_in.read_text())["address"]


def await_workers(scheduler: str) -> None:
    with distributed.Client(scheduler, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)


def finishers(log: Path) -> list[int]:
    """The process of each line of a log, as far as it is written."""
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return [int(json.loads(line)["worker"].rpartition(":")[2]) for line in lines]


def killed_at(out: Path, cells: int, log: Path) -> threading.Thread:
    """Kills the worker that finished the last cell, of so many or more: one without a turn yet would not be missed."""

    def kill() -> None:
        while len(list(out.glob("cells/*.parquet"))) < cells or not finishers(log):
            time.sleep(0.01)
        os.kill(finishers(log)[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(
    study: Study, undisturbed: pd.DataFrame, scheduler: str, tmp_path: Path
) -> None:
    await_workers(scheduler)
    out, log = tmp_path / "out", tmp_path / "log"
    killer = killed_at(out, 12, log)
    found = run(study, out, backend="dask", scheduler=scheduler, log=log)
    assert not killer.is_alive()
    assert bare(found.results).equals(undisturbed)
    assert list(found.failed) == ["cam"]
    assert not found.broken
    assert len(set(finishers(log))) >= 2, "both worked"
    assert os.getpid() not in finishers(log)


@pytest.mark.slow
def test_what_kills_its_worker_is_given_up(study: Study, scheduler: str, tmp_path: Path) -> None:
    deadly = replace(study, cell_images=5, methods={"deadly": Deadly(spared=os.getpid())} | study.methods)
    await_workers(scheduler)
    found = run(deadly, tmp_path / "out", backend="dask", scheduler=scheduler)
    assert "was killed" in found.broken["deadly"]
    assert list(found.broken) == ["deadly"]
    assert set(found.results.table["method"]) == set(METHODS)


def test_who_does_not_see_the_folder_says_so(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, here, elsewhere = Bench.of(study, prepared(study)), Store(tmp_path / "here"), Store(tmp_path / "elsewhere")
    tasks = planned(bench)
    here.plan(tasks)
    elsewhere.run = here.run  # as on a machine whose folder of that name is another one
    monkeypatch.setattr(xaicompare.study.workers, "_PATIENCE", 0.0)
    with pytest.raises(DataError, match=r"does not see the run in .*elsewhere; expected a folder on a file system"):
        _remote(None, {}, tasks[0], elsewhere)
    elsewhere.plan(tasks)
    elsewhere.run = here.run
    with pytest.raises(DataError, match="does not see the run"):
        _remote(None, {}, tasks[0], elsewhere)


def test_who_has_other_weights_or_images_says_so(study: Study, tmp_path: Path) -> None:
    subject = prepared(study)
    for changed, what in (
        (replace(subject, content=subject.content + 1), "images"),
        (replace(subject, model=prepared(replace(study, seed=1)).model.double()), "model"),
    ):
        bench, store = Bench.of(study, changed), Store(tmp_path / what)
        tasks = planned(bench)[:1]
        store.plan(tasks)
        with pytest.raises(DataError, match=rf"has other {what}.*Share XAICOMPARE_DATA"):
            _remote(_sent(Crew(), bench, store), {}, tasks[0], store)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"backend": "slurm"}, "expected one of loky, dask, ray"),
        ({"jobs": 0}, "expected a whole number of at least 1"),
        ({"scheduler": "tcp://there:1"}, 'expected backend="dask" beside it'),
        ({"backend": "dask"}, "expected its address"),
        ({"backend": "dask", "scheduler": "tcp://there:1", "jobs": 2}, "expected jobs for this machine alone"),
        ({"device": "tpu"}, "expected one of cpu, cuda, auto"),
    ],
)
def test_settings_of_a_crew_that_do_not_go_together(settings: dict[str, object], text: str) -> None:
    with pytest.raises(StudyError, match=text):
        Crew(**settings)  # type: ignore[arg-type]


def test_no_scheduler_is_told(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xaicompare.study.crew._PATIENCE", 0.2)
    with pytest.raises(StudyError, match=r"no scheduler answers at tcp://127.0.0.1:9 .*dask scheduler"):
        run(study, tmp_path / "out", backend="dask", scheduler="tcp://127.0.0.1:9")
