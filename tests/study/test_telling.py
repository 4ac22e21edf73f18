"""What a study tells of itself: status, progress, exit status, log."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from small_cells import METHODS, Faulty
from torch import Tensor, nn
from typer.testing import CliRunner

import xaicompare.progress
import xaicompare.results
from xaicompare.cli import app
from xaicompare.core import Values
from xaicompare.methods import LIME, IntegratedGradients, Saliency
from xaicompare.study import Study, run
from xaicompare.study.cells import Bench, planned
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
    run(replace(study, methods={"lime": LIME(n_samples=20)}))
    assert shown["judging"] == 1
    assert "LIME" in shown
    assert shown["LIME"] == 0
    assert shown["looking"] == 1
