"""The maps that a study leaves in its folder."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_cells import METHODS, counted

from xaicompare.errors import DataError, UnknownNameError
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
