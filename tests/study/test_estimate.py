"""How long a study takes is told before it begins, from a few images."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from small_cells import Faulty, counted
from torch import Tensor, nn

from xaicompare.core import Values
from xaicompare.metrics import MaxSensitivity, Sparseness
from xaicompare.study import Study, run
from xaicompare.study.cells import Bench, planned
from xaicompare.study.estimate import _judging, estimated
from xaicompare.study.store import Store
from xaicompare.study.subject import prepared


class Slow(Faulty):
    """Takes 20 ms for an image, and as long for a batch."""

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        time.sleep(0.02 + 0.02 * len(inputs))
        return Values(inputs * 2)


def bench_of(study: Study) -> Bench:
    metrics = {"sparseness": Sparseness(), "again": MaxSensitivity(n_samples=3)}
    many = replace(study, images=20, cell_images=10, methods={"slow": Slow()}, metrics=metrics, metric_images={})
    return Bench.of(many, prepared(many))


def test_methods_metrics_and_what_is_explained_again_add_up(study: Study, tmp_path: Path) -> None:
    bench = bench_of(study)
    tasks = planned(bench)
    left = [(task, list(task.cells)) for task in tasks]
    # 20 images at 22 ms each, a batch of ten being 220 ms; and three more explanations of each by the metric.
    found = estimated(bench, Store(tmp_path), tasks, left)
    assert found is not None
    assert 20 * 0.022 * 4 * 0.8 < found < 20 * 0.022 * 4 * 1.5 + 0.5
    assert _judging(bench, "again")[1] == 3
    assert _judging(bench, "sparseness")[1] == 0
    assert estimated(bench, Store(tmp_path), tasks, left[:1]) is None, "ten images are too few for a trial"


def test_what_fails_in_the_trial_costs_nothing(study: Study, tmp_path: Path) -> None:
    bench = bench_of(study)
    bench.methods["slow"] = Faulty()
    tasks = planned(bench)
    assert estimated(bench, Store(tmp_path), tasks, [(task, []) for task in tasks]) == 0


def test_what_was_measured_before_is_not_tried_again(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, store = bench_of(study), Store(tmp_path)
    tasks = planned(bench)
    store.write_maps(tasks[0].key, None, {"seconds": 30.0, "images": 10, "cost": None})
    with counted(monkeypatch, Slow) as calls:
        assert estimated(bench, store, tasks, [(task, []) for task in tasks if task.label == "slow"]) == 60
    assert not calls


def test_a_run_announces_it_once_and_only_where_it_is_worth_it(study: Study, tmp_path: Path) -> None:
    told: list[str] = []
    many = replace(study, images=20, cell_images=10)
    run(study, tmp_path / "few", announce=told.append)
    assert not told
    run(many, tmp_path / "many", announce=told.append)
    assert len(told) == 1
    assert told[0].startswith("about ")
    assert told[0].endswith(" cells, by a trial of a few images")
    run(many, tmp_path / "many", announce=told.append)
    assert len(told) == 1, "nothing is left to do"
