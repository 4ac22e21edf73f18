"""The maps that a study leaves in its folder."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_cells import METHODS, counted
from torch import Tensor, nn

from xaicompare.core import Values
from xaicompare.errors import DataError, UnknownNameError, XaiCompareError
from xaicompare.methods import IntegratedGradients, Saliency
from xaicompare.registry import METRICS
from xaicompare.study import Study, run
from xaicompare.study.attributions import load_attributions


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
    assert list(load_attributions(out["all"], "random")) == ["random"]
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


def test_damaged_maps_are_made_again(study: Study, tmp_path: Path) -> None:
    run(study, tmp_path)
    expected = load_attributions(tmp_path, "saliency")["saliency"].values
    for path in (tmp_path / "attributions").iterdir():
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="can't be read"):
        load_attributions(tmp_path)
    assert torch.equal(run(study, tmp_path).examples["saliency"].values, expected)
    assert torch.equal(load_attributions(tmp_path, "saliency")["saliency"].values, expected)


@pytest.mark.parametrize(("most", "lost"), [(1, False), (0, True)])
def test_examples_made_again_need_not_fit_into_memory(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, lost: bool
) -> None:
    study = replace(study, keep="none")
    first = run(study, tmp_path)
    plain = Saliency._values

    def hungry(self: Saliency, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        if len(inputs) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, model, inputs, target)

    monkeypatch.setattr(Saliency, "_values", hungry)
    found = run(study, tmp_path)
    assert found.results.table.equals(first.results.table)
    example = found.examples["saliency"]
    if lost:
        assert "CUDA out of memory" in str(example)
        assert isinstance(example, XaiCompareError)
    else:
        torch.testing.assert_close(example.values, first.examples["saliency"].values)
