"""What fails leaves the rest of a study as it is."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from small_cells import Faulty, Hungry, HungryMetric, bare
from torch import Tensor, nn

from xaicompare.boundary import fitting
from xaicompare.core import Values
from xaicompare.diagnosis.repair import as_modules as traced
from xaicompare.errors import DataError, XaiCompareError
from xaicompare.methods import Saliency
from xaicompare.study import Study, run
from xaicompare.study.folder import save
from xaicompare.study.subject import prepared


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
    save(found, tmp_path / "out")
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


@pytest.mark.parametrize(
    "raised", [RuntimeError, TypeError, KeyError]
)  # such as "CUDA error: unspecified launch failure"
def test_an_error_of_a_library_is_tried_again(study: Study, tmp_path: Path, raised: type[Exception]) -> None:
    class Unlucky(Faulty):
        error = raised

    class Untraceable(Faulty):
        def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
            return Values(traced(Branching())(inputs))

    class OfTheModel(Faulty):
        def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
            with fitting(model, inputs):
                raise raised("launch failure")

    given = {"unlucky": Unlucky(), "of_the_model": OfTheModel(), "untraceable": Untraceable(), "saliency": Saliency()}
    with_faults = replace(study, methods=given)
    found = run(with_faults, tmp_path / "out")
    assert set(found.broken) == {"unlucky", "of_the_model"}
    assert raised.__name__ in found.broken["unlucky"]
    assert list(found.failed) == ["untraceable"], "a model's own graph stays what it is"
    Unlucky._values = lambda self, model, inputs, target: Values(inputs * 2)  # type: ignore[method-assign]
    again = run(with_faults, tmp_path / "out")
    assert set(again.broken) == {"of_the_model"}
    assert "unlucky" in set(again.results.table["method"])


class Branching(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs if inputs.sum() > 0 else -inputs
