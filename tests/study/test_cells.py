"""What a study keeps as it goes, under a digest of all that it depends on, and what it does again."""

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from small_cells import METHODS, bare, counted
from torch import Tensor, nn

from xaicompare.methods import IntegratedGradients, Saliency, SmoothGrad
from xaicompare.registry import METRICS
from xaicompare.study import Study, fingerprint, run
from xaicompare.study.cells import Bench, planned
from xaicompare.study.fingerprint import digest, of_logits, of_model
from xaicompare.study.status import failures
from xaicompare.study.subject import prepared
from xaicompare.zoo.images import ImageArray


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


def test_a_file_that_is_no_longer_whole_is_made_again(study: Study, undisturbed: pd.DataFrame, tmp_path: Path) -> None:
    run(study, tmp_path / "out")
    cells = sorted((tmp_path / "out" / "cells").glob("*.parquet"))
    cells[0].write_bytes(cells[0].read_bytes()[:-20])
    cells[1].write_bytes(b"")
    assert bare(run(study, tmp_path / "out").results).equals(undisturbed)


def test_a_damaged_file_is_removed_and_made_again(study: Study, undisturbed: pd.DataFrame, tmp_path: Path) -> None:
    run(study, tmp_path / "out")
    cells = sorted((tmp_path / "out" / "cells").glob("*.parquet"))
    for number in (0, -1):  # nothing between the marks at both ends, as after a loss of power
        cells[number].write_bytes(b"PAR1" + bytes(cells[number].stat().st_size - 8) + b"PAR1")
    found = run(study, tmp_path / "out")
    assert found.broken
    assert all("damaged, and removed; run the study again" in reason for reason in found.broken.values())
    assert len(found.results) < len(undisturbed)
    assert "damaged" in " ".join(failures(tmp_path / "out").values())
    again = run(study, tmp_path / "out")
    assert not again.broken
    assert bare(again.results).equals(undisturbed)


def test_a_cell_that_begins_with_nothing_is_made_again_at_once(
    study: Study, undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    run(study, tmp_path / "out")
    cell = next((tmp_path / "out" / "cells").glob("*.parquet"))
    cell.write_bytes(bytes(cell.stat().st_size - 4) + b"PAR1")
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


PLUG_IN = """
import torch
from torch import nn

class Twice(nn.Module):
    def forward(self, inputs):
        return torch.add(inputs, inputs)
"""


def module_of(file: Path, name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # where `inspect` looks for a class's file
    found.loader.exec_module(module)
    return module


def test_a_changed_forward_is_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, digests = tmp_path / "plug_in.py", list[str]()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for text in (PLUG_IN, PLUG_IN.replace("inputs, inputs", "inputs, inputs, alpha=2"), PLUG_IN):
        file.write_text(text)
        importlib.invalidate_caches()
        plug_in = module_of(file, "plug_in")
        inherited = type("Inherited", (plug_in.Twice,), {"__module__": "builtins"})  # whose own file says nothing
        digests += [of_model(nn.Sequential(nn.ReLU(), made())) for made in (plug_in.Twice, inherited)]
    assert digests[:2] == digests[4:]
    assert len(set(digests)) == 4


def test_what_the_model_says_is_in_the_key(study: Study) -> None:
    subject = prepared(study)
    tasks = planned(Bench.of(study, subject))
    keys = {task.key for task in tasks}
    for changed in (subject.logits * 1.001, subject.logits + 0.01, subject.logits.roll(1, 1), -subject.logits):
        said = replace(subject, logits=changed)
        assert keys.isdisjoint(task.key for task in planned(Bench.of(study, said)))
    rounded = replace(subject, logits=subject.logits * (1 + 1e-7))
    assert {task.key for task in planned(Bench.of(study, rounded))} == keys
    assert keys.isdisjoint(task.key for task in planned(Bench.of(study, subject), "cuda"))


def test_outlines_of_logits_move_with_them_and_not_with_rounding() -> None:
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 8, 100, generator=draws)
    same = sum(bool((of_logits(each) == of_logits(each * (1 + 2e-7))).all()) for each in logits)
    assert same >= 495
    other = [
        bool((of_logits(each) == of_logits(each + 0.01 * torch.randn(8, 100, generator=draws))).all())
        for each in logits
    ]
    assert not any(other)
    assert len(of_logits(torch.full((2, 3), torch.inf))) == len(of_logits(torch.zeros(2, 3))) == 5


def test_what_has_weights_or_objects_counts_with_them() -> None:
    branch = nn.Linear(2, 2)
    before = digest({"branch": branch})
    assert digest({"branch": branch}) == before
    with torch.no_grad():
        branch.weight[0, 0] += 1
    assert digest({"branch": branch}) != before, "its repr is the same"
    objects = [np.array([number, "a"], dtype=object) for number in (1000, 1000, 1001)]
    assert digest(objects[0]) == digest(objects[1]) != digest(objects[2])


# What methods and metrics import without getting their values from it.
TELLING = {"_torchvision", "colours", "errors", "files", "notebook", "progress", "registry", "turns"}


def test_the_code_that_computes_values_is_in_every_key() -> None:
    root = Path(fingerprint.__file__).parents[1]
    rooms = {name.partition("/")[0].removesuffix(".py") for name in fingerprint._COMPUTING}
    files = [file for room in ("methods", "metrics", "zoo", "core.py") for file in python_files(root / room)]
    seen: set[Path] = set()
    while files:
        file = files.pop()
        if file in seen:
            continue
        seen.add(file)
        needed = re.findall(r"^\s*(?:from|import) xaicompare\.(\w+)", file.read_text(encoding="utf-8"), flags=re.M)
        needed = [name for name in needed if name not in TELLING]
        assert not set(needed) - rooms, f"{file} computes with {set(needed) - rooms}"
        files += [more for name in needed for place in (name, f"{name}.py") for more in python_files(root / place)]


def python_files(place: Path) -> list[Path]:
    return sorted(place.rglob("*.py")) if place.is_dir() else [place] if place.exists() else []
