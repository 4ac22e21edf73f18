"""What a study tells of itself: status, progress, exit status, log."""

import io
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from small_cells import METHODS, Faulty
from torch import Tensor, nn
from typer.testing import CliRunner

import xaicompare.progress
import xaicompare.results
from xaicompare.cli import app
from xaicompare.core import Values
from xaicompare.errors import DataError
from xaicompare.methods import LIME, IntegratedGradients, Saliency
from xaicompare.progress import board
from xaicompare.study import Study, run
from xaicompare.study.cells import Bench, planned
from xaicompare.study.log import at_work
from xaicompare.study.status import failures, progress_by
from xaicompare.study.store import Store
from xaicompare.study.subject import prepared


def test_status_counts_cells(study: Study, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(replace(study, methods=study.methods | {"faulty": Faulty()}), out)
    by_method = progress_by(out, "method").set_index("method")
    # 3 batches: maps, two removals; sparseness is for 3 images, so 2 batches.
    assert by_method.loc["saliency"].to_dict() == {
        "done": 11, "running": 0, "left out": 0, "failed": 0, "missing": 0
    }  # fmt: skip
    assert by_method.loc["cam", "left out"] == 11
    assert by_method.loc["faulty"].to_dict() == {"done": 0, "running": 0, "left out": 0, "failed": 3, "missing": 8}
    by_metric = progress_by(out, "metric").set_index("metric")
    assert by_metric.loc["sparseness", "done"] == 2 * len(METHODS)
    assert by_metric.loc["all"].equals(by_method.loc["all"])
    assert failures(out) == {"faulty": "ZeroDivisionError: by zero"}
    told = CliRunner().invoke(app, ["status", str(out)]).output
    assert "integrated_gradients" in told
    assert "failed faulty: ZeroDivisionError: by zero" in told


def test_status_tells_who_works_and_who_was_killed(study: Study, tmp_path: Path) -> None:
    bench = Bench.of(study, prepared(study))
    store, tasks = Store(tmp_path), planned(bench)
    store.plan(tasks)
    assert progress_by(tmp_path, "method").set_index("method").loc["all", "missing"] == 7 * 11
    with store.attempts.at(tasks[0], store.run):
        assert progress_by(tmp_path, "method").set_index("method").loc["saliency", "running"] == 4
        marker = store.attempts.folder / f"{tasks[0].key}.json"
        marker.write_text(marker.read_text().replace(str(os.getpid()), str(2**22 + 1)))  # a process that is no more
        assert progress_by(tmp_path, "method").set_index("method").loc["saliency", "running"] == 0


def test_the_command_says_what_failed_by_its_exit_status(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["run", str(file), "--out", str(tmp_path / "out")]

    def raising(error: type[BaseException]):  # type: ignore[no-untyped-def]
        def values(self: Saliency, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
            raise error

        return values

    with monkeypatch.context() as patch:
        patch.setattr(IntegratedGradients, "_values", raising(KeyboardInterrupt))
        stopped = CliRunner().invoke(app, arguments)
        assert stopped.exit_code == 130
        assert "finished cells are kept" in stopped.output
    assert len(list((tmp_path / "out" / "cells").glob("*.parquet"))) == 3, "saliency's first batch"
    with monkeypatch.context() as patch:
        patch.setattr(Saliency, "_values", raising(ZeroDivisionError))
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "failed saliency: on 2 of 3 batches of images: ZeroDivisionError" in result.output
    assert (tmp_path / "out" / "results.parquet").exists()
    assert CliRunner().invoke(app, arguments).exit_code == 0


def test_one_bar_for_the_whole_study(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Counter[str]()

    def bar(steps, *, desc: str, disable: bool | None, **more: object):  # type: ignore[no-untyped-def]
        shown[desc] += disable is None  # then tqdm looks whether there is a terminal
        return steps

    monkeypatch.setattr(xaicompare.progress, "tqdm", bar)
    monkeypatch.setattr(xaicompare.progress, "_told_in_lines", lambda: False)
    run(replace(study, methods={"lime": LIME(n_samples=20)}))
    assert shown["judging"] == 1
    assert "LIME" in shown
    assert shown["LIME"] == 0
    assert shown["looking"] == 1


def test_a_line_of_json_for_each_cell(study: Study, tmp_path: Path) -> None:
    file = tmp_path / "logs" / "cells.jsonl"
    with_fault = replace(study, methods=study.methods | {"faulty": Faulty()})
    before = datetime.now(UTC)
    run(with_fault, tmp_path / "out", log=file)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {tuple(line) for line in lines} == {
        ("time", "method", "metric", "batch", "seconds", "status", "error", "worker")
    }
    assert Counter(line["status"] for line in lines) == {"done": 6 * 11, "left out": 3, "failed": 3}
    told = {line["method"]: line for line in lines}
    assert told["faulty"]["error"] == "ZeroDivisionError: by zero"
    assert told["cam"]["error"].startswith("UnsupportedModelError: cam: Sequential does not end")
    assert told["saliency"]["error"] is None
    assert [line["batch"] for line in lines if line["method"] == "random" and line["metric"] == "sparseness"] == [
        [0, 2],
        [2, 3],
    ]
    assert all(before <= datetime.fromisoformat(line["time"]) <= datetime.now(UTC) for line in lines)
    whole = (datetime.now(UTC) - before).total_seconds()
    assert 0 < sum(line["seconds"] for line in lines) < whole, "one after the other"
    assert {line["worker"] for line in lines} == {f"{platform.node()}:{os.getpid()}"}
    run(with_fault, tmp_path / "out", log=file)
    more = file.read_text().splitlines()[len(lines) :]
    assert {json.loads(line)["status"] for line in more} == {"failed"}, "only what failed is tried again"
    with pytest.raises(DataError, match="expected a file for the log"):
        run(study, tmp_path / "new", log=tmp_path)


def test_a_worker_tells_what_it_does(study: Study, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    class Looking(Faulty):
        def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
            seen.append(at_work(Store(tmp_path)))
            return Values(inputs * 2)

    run(replace(study, methods={"looking": Looking()}), tmp_path)
    here = f"{platform.node()}:{os.getpid()}"
    assert seen[-1] == [f"{here}  looking, (maps), images 4 to 4"]
    assert at_work(Store(tmp_path)) == []


def test_a_board_shows_its_lines_below_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, plain = io.StringIO(), xaicompare.progress.tqdm

    def bar(*given: object, **more: object):  # type: ignore[no-untyped-def]
        return plain(*given, **{**more, "disable": False, "file": screen, "delay": 0})

    monkeypatch.setattr(xaicompare.progress, "tqdm", bar)
    monkeypatch.setattr(xaicompare.progress, "_told_in_lines", lambda: False)
    told = iter([["a:1  lime"], ["a:1  lime", "b:2  lrp"]])

    def steps() -> Iterator[int]:
        for number in range(4):
            time.sleep(0.1)
            yield number

    shown = board(steps(), "judging", total=4, unit="cell", lines=lambda: next(told, []), every=0.03)
    assert list(shown) == [0, 1, 2, 3]
    assert all(text in screen.getvalue() for text in ("judging: ", "a:1  lime", "b:2  lrp", "4/4"))


def test_no_board_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    asked: list[None] = []
    steps = board(iter(range(3)), "judging", total=3, unit="cell", lines=lambda: asked.append(None) or [], every=0.0)
    assert list(steps) == [0, 1, 2]
    assert not asked
    assert capfd.readouterr().err == ""


def test_a_log_that_can_not_be_written_is_told_before_any_work(study: Study, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a file for the log"):
        run(study, tmp_path / "out", log=tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_log_that_fails_later_is_a_note(study: Study, tmp_path: Path) -> None:
    file = tmp_path / "logs" / "cells.jsonl"

    class Clumsy(Faulty):
        def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
            if file.is_file():
                file.unlink()
                file.mkdir()  # as good as a full disk
            return Values(inputs * 2)

    found = run(replace(study, methods={"saliency": Saliency(), "clumsy": Clumsy()}), tmp_path / "out", log=file)
    assert not found.broken
    assert len(found.notes) == 1
    assert "lacks lines of this run" in found.notes[0]


def test_a_method_called_all_is_not_the_total(study: Study, tmp_path: Path) -> None:
    run(replace(study, methods={"all": Saliency(), "saliency": Saliency(absolute=False)}), tmp_path)
    told = progress_by(tmp_path, "method")
    assert told["method"].tolist() == ["all", "saliency", "all"]
    assert told["done"].tolist() == [11, 11, 22]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell when a process was started")
def test_a_later_process_of_the_same_number_does_not_run(study: Study, tmp_path: Path) -> None:
    store, task = Store(tmp_path), planned(Bench.of(study, prepared(study)))[0]
    with store.attempts.at(task, "run"):
        assert store.attempts.is_running(task.key)
        marker = store.attempts.folder / f"{task.key}.json"
        told = json.loads(marker.read_text())
        for born, runs in ((told["born"] - 1, False), (None, True)):  # None: where the system did not tell
            marker.write_text(json.dumps(told | {"born": born}))
            assert store.attempts.is_running(task.key) is runs


def test_on_windows_nobody_gets_a_signal(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, task = Store(tmp_path), planned(Bench.of(study, prepared(study)))[0]
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "kill", lambda *given: pytest.fail("which ends the process there"))
    with store.attempts.at(task, "run"):
        assert store.attempts.is_running(task.key)
        os.utime(store.attempts.folder / f"{task.key}.json", (0, 0))
        assert not store.attempts.is_running(task.key)
