"""What the table [model] of a study may name beside a registered network: random weights, and a SPEC."""

from pathlib import Path

import pytest

from xaicompare.errors import XaiCompareError
from xaicompare.study import Study, run

FEW = {"images": 4, "data": {"name": "digits"}, "methods": ["saliency"], "metrics": ["deletion"]}


def test_random_weights_are_asked_for_and_told(tmp_path: Path) -> None:
    outcome = run(Study.from_dict(FEW | {"model": {"name": "small_cnn", "weights": "random"}}), tmp_path)
    assert "random weights" in str(outcome.subject.origin)


def test_a_study_file_names_its_network_by_a_spec(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def make(width=4):\n    return nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), "
        "nn.Flatten(), nn.Linear(width, 10))\n"
    )
    model = {"name": f"{tmp_path / 'net.py'}:make", "settings": {"width": 6}}
    outcome = run(Study.from_dict(FEW | {"model": model}), tmp_path / "out")
    assert outcome.subject.model[0].out_channels == 6
    assert len(outcome.standings) > 1
    with pytest.raises(XaiCompareError, match="no_such"):
        run(Study.from_dict(FEW | {"model": f"{tmp_path / 'net.py'}:no_such"}))
