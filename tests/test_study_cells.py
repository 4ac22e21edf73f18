"""What a study keeps as it goes: whatever stops it, it goes on where it was, and to the same table."""

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
from typing import ClassVar

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import xaicompare.progress
import xaicompare.results
from xaicompare.cli import app
from xaicompare.core import Attribution, Method, Metric, MetricTraits, Traits, Values
from xaicompare.errors import DataError, UnknownNameError, XaiCompareError
from xaicompare.methods import LIME, IntegratedGradients, Saliency, SmoothGrad
from xaicompare.registry import METRICS
from xaicompare.results import Results
from xaicompare.settings import BatchSize, frozen
from xaicompare.study import Study, run
from xaicompare.study.attributions import load_attributions
from xaicompare.study.cells import Bench, planned
from xaicompare.study.fingerprint import digest, of_model
from xaicompare.study.folder import save
from xaicompare.study.status import failures, progress_by
from xaicompare.study.store import Store
from xaicompare.study.subject import prepared
from xaicompare.zoo.images import ImageArray

SMALL = """
images = 5
grid_images = 2
cell_images = 2
methods = ["saliency", "integrated_gradients", "cam", "random"]
metrics = [
  { name = "confidence_removal", order = "most", shares = [0.1, 0.5] },
  { name = "confidence_removal", order = "least", shares = [0.1, 0.5] },
  { name = "sparseness", images = 3 },
]
[data]
name = "digits"
[model]
name = "mlp"
settings = { hidden = [8] }
recipe = { epochs = 1, limit = 100 }
"""
METHODS = ("saliency", "integrated_gradients", "random", "edges", "center", "constant")  # that explain it


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAICOMPARE_CACHE", str(cache))
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def study(file: Path) -> Study:
    return Study.load(file)


@pytest.fixture(scope="module")
def undisturbed(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    path = tmp_path_factory.mktemp("undisturbed") / "small.toml"
    path.write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAICOMPARE_CACHE", str(cache))
        return bare(run(Study.load(path)).results)


def bare(results: Results) -> pd.DataFrame:
    """All but what no two runs have alike."""
    return results.table.drop(columns="seconds")


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, *classes: type) -> Iterator[Counter[str]]:
    """How often the hole of each class is called for how many samples, by its name."""
    calls: Counter[str] = Counter()
    with monkeypatch.context() as patch:
        for cls in classes:

            def seen(self, model, given, *more, plain=cls._values, name=cls.name):  # type: ignore[no-untyped-def]
                calls[name] += len(given)
                return plain(self, model, given, *more)

            patch.setattr(cls, "_values", seen)
        yield calls


@frozen
class Faulty(Method):
    """Divides by zero, for all images or those of one class."""

    name: ClassVar[str] = "faulty"
    traits: ClassVar[Traits] = Traits("control")
    batch_size: BatchSize = 64
    only: int | None = None
    error: ClassVar[type[BaseException]] = ZeroDivisionError

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        if self.only is None or self.only in target:
            raise self.error("by zero")
        return Values(inputs * 2)


@frozen
class Hungry(Method):
    """Has memory for two images."""

    name: ClassVar[str] = "hungry"
    traits: ClassVar[Traits] = Traits("control")
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Values(inputs * 2)


@frozen
class HungryMetric(Metric):
    """Has memory for one image, and says it as torch does on a CPU."""

    name: ClassVar[str] = "hungry_metric"
    traits: ClassVar[MetricTraits] = MetricTraits("complexity")
    higher_is_better = True

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        if len(attribution) > 1:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return attribution.map.flatten(1).sum(1)


@frozen
class Deadly(Method):
    """Kills the process that it runs in, unless that is the one that runs the tests."""

    name: ClassVar[str] = "deadly"
    traits: ClassVar[Traits] = Traits("control")
    batch_size: BatchSize = 64
    spared: int = 0

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        assert os.getpid() != self.spared
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_second_run_does_nothing_and_says_the_same(
    study: Study, undisturbed: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(study, tmp_path / "out")
    assert bare(first.results).equals(undisturbed)
    with counted(monkeypatch, Saliency, METRICS["sparseness"]) as calls:
        again = run(study, tmp_path / "out")
    assert not calls
    assert again.results.table.equals(first.results.table), "seconds are those of the first run"
    assert again.costs.equals(first.costs)
    assert again.failed == first.failed
    assert list(again.failed) == ["cam"]
    for label in METHODS:
        assert torch.equal(again.examples[label].values, first.examples[label].values)
        assert len(again.examples[label]) == 2


def test_killed_at_random_moments_it_comes_to_the_same_table(
    study: Study, undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    out, draws = tmp_path / "out", Random(0)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["xaicompare.study"])
    counts = []
    for _ in range(4):
        enough = len(list(out.glob("cells/*.parquet"))) + draws.randint(1, 15)
        child = context.Process(target=run, args=(study, out))
        child.start()
        while child.is_alive() and len(list(out.glob("cells/*.parquet"))) < enough:
            time.sleep(draws.random() / 100)
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL, "it was to be killed before it was done"
        counts.append(len(list(out.glob("cells/*.parquet"))))
    assert counts == sorted(counts)
    assert counts[-1] < len(METHODS) * 8, "something is left to do"
    found = run(study, out)
    assert bare(found.results).equals(undisturbed)
    assert not found.broken


def test_a_file_that_is_no_longer_whole_is_made_again(study: Study, undisturbed: pd.DataFrame, tmp_path: Path) -> None:
    run(study, tmp_path / "out")
    cells = sorted((tmp_path / "out" / "cells").glob("*.parquet"))
    cells[0].write_bytes(cells[0].read_bytes()[:-20])
    cells[1].write_bytes(b"")
    assert bare(run(study, tmp_path / "out").results).equals(undisturbed)


def test_a_change_redoes_only_what_depends_on_it(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    run(study, out)
    measures = [METRICS["sparseness"], METRICS["complexity"], METRICS["confidence_removal"]]
    classes = (Saliency, IntegratedGradients, *measures)

    changed = replace(study, methods=study.methods | {"integrated_gradients": IntegratedGradients(n_steps=60)})
    with counted(monkeypatch, *classes) as calls:
        run(changed, out)
    # 5 images are explained, and 2 more twice to measure the cost; 3 are judged.
    assert calls == {"integrated_gradients": 5 + 2 * 2, "sparseness": 3}

    added = replace(study, metrics=study.metrics | {"complexity": METRICS["complexity"]()})
    with counted(monkeypatch, *classes) as calls:
        run(added, out)
    assert calls == {"saliency": 5, "integrated_gradients": 5, "complexity": 5 * len(METHODS)}

    with counted(monkeypatch, *classes) as calls:
        run(replace(added, metric_images=study.metric_images | {"complexity": 3}), out)
    # Of the second batch one image of two is judged now, for which both are explained.
    assert calls == {"saliency": 2, "integrated_gradients": 2, "complexity": len(METHODS)}

    with counted(monkeypatch, *classes) as calls:
        renamed = run(replace(study, methods={"plain": Saliency()}), out)
    assert not calls, "a label is no setting"
    assert set(renamed.results.table["method"]) == {"plain"}

    with counted(monkeypatch, *classes) as calls:
        run(replace(study, seed=1), out)
    assert calls["saliency"] >= 5, "other images"


def test_a_method_with_a_fault_leaves_the_rest(
    study: Study, undisturbed: pd.DataFrame, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_fault = replace(study, methods={"faulty": Faulty()} | study.methods)
    found = run(with_fault, tmp_path / "out")
    assert bare(found.results).equals(undisturbed)
    assert list(found.broken) == ["faulty"]
    assert found.broken["faulty"] == "on 3 of 3 batches of images: ZeroDivisionError: by zero"
    assert "faulty" not in found.failed
    assert isinstance(found.examples["faulty"], XaiCompareError)
    assert "by zero" in next((tmp_path / "out" / "cells").glob("*.failed.json")).read_text()
    save(found, tmp_path / "out", file)
    with monkeypatch.context() as patch:  # once it is mended
        patch.setattr(Faulty, "_values", lambda self, model, inputs, target: Values(inputs * 2))
        mended = run(with_fault, tmp_path / "out")
    assert not mended.broken
    assert not list((tmp_path / "out" / "cells").glob("*.failed.json"))
    assert "faulty" in set(mended.results.table["method"])


def test_what_fails_for_some_images_keeps_the_others(study: Study, tmp_path: Path) -> None:
    study, batches = replace(study, explain="label"), [range(0, 2), range(2, 4), range(4, 5)]
    targets = prepared(study).target.tolist()
    some = next(
        target for target in targets if any(target not in targets[batch[0] : batch[-1] + 1] for batch in batches)
    )
    with_fault = replace(study, methods=study.methods | {"faulty": Faulty(only=some)})
    found = run(with_fault, tmp_path / "out")
    whole = [batch for batch in batches if some not in targets[batch[0] : batch[-1] + 1]]
    assert found.broken["faulty"].startswith(f"on {3 - len(whole)} of 3 batches")
    images = found.results.where(method="faulty").table["image"]
    assert set(images) == {int(found.subject.image[index]) for batch in whole for index in batch}


def test_out_of_memory_halves_the_images(study: Study, tmp_path: Path) -> None:
    hungry = replace(
        study,
        cell_images=5,
        methods=study.methods | {"hungry": Hungry()},
        metrics=study.metrics | {"hungry_metric": HungryMetric()},
    )
    found = run(hungry, tmp_path / "out")
    assert not found.broken
    assert "hungry: out of memory with 5 images at once; explained in 3 parts." in found.notes
    assert "saliency, hungry_metric: out of memory with 5 images at once; judged in 5 parts." in found.notes
    rows = found.results.where(method="hungry", metric="hungry_metric").table
    assert rows["image"].tolist() == found.subject.image.tolist()
    expected = (found.subject.inputs * 2).flatten(1).sum(1)
    torch.testing.assert_close(torch.tensor(rows["value"].to_numpy()), expected, check_dtype=False)


@pytest.mark.parametrize("raised", [MemoryError, DataError])  # also for a single image; a file that can't be read now
def test_a_failure_that_may_pass_is_no_reason_to_leave_a_method_out(
    study: Study, tmp_path: Path, raised: type[Exception]
) -> None:
    class Never(Faulty):
        error = raised

    found = run(replace(study, methods={"never": Never(), "saliency": Saliency()}), tmp_path / "out")
    assert f"{raised.__name__}: " in found.broken["never"]
    assert "never" not in found.failed


def test_a_full_disk_keeps_what_is_finished(
    study: Study, undisturbed: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, plain, written = tmp_path / "out", xaicompare.results.replacing, Counter[str]()

    def full_after(most: int, until: int):  # type: ignore[no-untyped-def]
        @contextmanager
        def replacing(path: Path) -> Iterator[Path]:
            written["cells"] += 1
            if most < written["cells"] <= until:
                raise OSError(errno.ENOSPC, "No space left on device")
            with plain(path) as temporary:
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


def test_the_images_of_a_cell_change_values_by_rounding_only(study: Study, undisturbed: pd.DataFrame) -> None:
    whole = bare(run(replace(study, cell_images=100)).results)
    assert whole.drop(columns="value").equals(undisturbed.drop(columns="value"))
    torch.testing.assert_close(
        torch.tensor(whole["value"].to_numpy()), torch.tensor(undisturbed["value"].to_numpy()), rtol=1e-5, atol=1e-6
    )


def test_no_more_than_a_batch_of_images_is_in_memory(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    run(study)  # trains
    plain, sizes = ImageArray.batch, list[int]()

    def batch(self: ImageArray, indices: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(indices))
        return plain(self, indices)

    monkeypatch.setattr(ImageArray, "batch", batch)
    found = run(replace(study, images=150, cell_images=20, methods={"saliency": Saliency()}, references=2))
    assert max(sizes) == 64, "the look at the start is at 64"
    assert sizes.count(20) == 7, "one method's seven batches"
    assert len(found.results.where(metric="sparseness", method="saliency").table) == 3


def test_maps_are_kept_as_asked(study: Study, tmp_path: Path) -> None:
    out = {keep: tmp_path / keep for keep in ("all", "examples", "none")}
    found = {keep: run(replace(study, keep=keep), folder) for keep, folder in out.items()}
    subject = found["all"].subject
    expected = IntegratedGradients().attribute(subject.model, subject.inputs, subject.target)
    maps = load_attributions(out["all"])
    assert list(maps) == list(METHODS)
    kept = maps["integrated_gradients"]
    torch.testing.assert_close(kept.values, expected.values)
    torch.testing.assert_close(kept.residual, expected.residual)
    assert torch.equal(kept.image, subject.image)
    assert torch.equal(kept.target, subject.target)
    assert maps["saliency"].residual is None
    assert list(load_attributions(out["all"], ["random"])) == ["random"]
    with pytest.raises(UnknownNameError, match="did you mean 'saliency'"):
        load_attributions(out["all"], ["salency"])
    assert len(load_attributions(out["examples"])["saliency"]) == 2
    assert load_attributions(out["none"]) == {}
    again = run(replace(study, keep="none"), out["none"])
    assert torch.equal(again.examples["saliency"].values, found["none"].examples["saliency"].values)
    with pytest.raises(DataError, match="holds no study"):
        load_attributions(tmp_path)


def test_maps_asked_for_later_are_made_then(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(study, tmp_path / "out")
    with counted(monkeypatch, Saliency, METRICS["sparseness"]) as calls:
        run(replace(study, keep="all"), tmp_path / "out")
    assert calls == {"saliency": 3}, "two were kept, no metric is needed again"
    assert len(load_attributions(tmp_path / "out")["saliency"]) == 5


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


def test_digests_differ_wherever_anything_does() -> None:
    scale = torch.tensor([0.5])
    parts = [
        1,
        1.0,
        "1",
        True,
        None,
        (1,),
        [1],
        {"a": 1},
        {"a": 2},
        scale,
        scale.double(),
        scale[:, None],
        scale + 1e-7,
    ]
    parts += [Saliency(), Saliency(absolute=False), SmoothGrad(), SmoothGrad(seed=1), {1, 2}, scale.numpy()]
    digests = [digest(part) for part in parts]
    assert len(set(digests)) == len(parts)
    assert digests == [digest(part) for part in parts]
    assert digest(1, 2) != digest(12)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = of_model(model)
    assert of_model(model) == before
    model[1].running_mean[0] += 1e-6
    assert of_model(model) != before
