from dataclasses import fields
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from nets import mlp, net_and_inputs
from safetensors.torch import save_file

import xaicompare as xc
from xaicompare.core import Method
from xaicompare.lrp.rules import Gamma, ZBox, ZPlus
from xaicompare.registry import METHODS

RULES = xc.Composite(
    convolution=Gamma(gamma=0.5), from_top=(ZPlus(),), first=ZBox(low=torch.full((3, 1, 1), -9.0), high=9.0)
)


@pytest.mark.parametrize(
    "method",
    [
        xc.Saliency(absolute=False),
        xc.GradCAM(),
        xc.LRP(composite="epsilon"),
        xc.LRP(composite=RULES),
        xc.IntegratedGradients(n_steps=9, baseline=torch.rand(3)),
    ],
    ids=lambda method: method.label()[:24],
)
def test_every_field_comes_back(method: Method, tmp_path: Path) -> None:
    model, inputs = net_and_inputs("cnn")
    made = xc.attribute(model, inputs, method, strict=False)
    assert made.save(tmp_path / "made.safetensors") == tmp_path / "made.safetensors"
    back = xc.Attribution.load(str(tmp_path / "made.safetensors"))
    for field in fields(made):
        before, after = getattr(made, field.name), getattr(back, field.name)
        if isinstance(before, torch.Tensor):
            assert after.equal(before)
            assert after.dtype == before.dtype
        elif field.name == "method":
            assert type(after) is type(before)
            assert repr(after) == repr(before)
        else:
            assert after == before, field.name
    again = back.method.attribute(model, back.inputs, back.target, strict=False)
    assert again.values.equal(made.values)


def test_every_method_with_its_defaults_can_be_saved(tmp_path: Path) -> None:
    model, inputs = net_and_inputs("mlp")
    made = xc.attribute(model, inputs, "saliency")
    for name in METHODS.names():
        there = xc.Attribution(made.values, made.inputs, made.target, made.score, METHODS[name](), None, 0.1)
        there.save(tmp_path / "made")
        assert repr(xc.Attribution.load(tmp_path / "made")) == repr(there)


def test_a_wrong_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "wrong.safetensors"
    with pytest.raises(xc.DataError, match=r"wrong.safetensors can't be read"):
        xc.Attribution.load(path)
    path.write_bytes(b"no tensors at all")
    with pytest.raises(xc.DataError, match=r"can't be read .* expected a file that Attribution.save wrote"):
        xc.Attribution.load(path)
    save_file(mlp().state_dict(), path)
    with pytest.raises(xc.DataError, match=r"has no values, inputs, target, score"):
        xc.Attribution.load(path)
    made = xc.attribute(*net_and_inputs("mlp"))
    tensors = {name: getattr(made, name) for name in ("values", "inputs", "target", "score")}
    told = {"kind": "xaicompare.Attribution 1", "method": "of_another_package", "settings": "{}", "seconds": "1"}
    save_file(tensors, path, metadata=told)
    with pytest.raises(xc.DataError, match=r"unknown method 'of_another_package'"):
        xc.Attribution.load(path)
    save_file(tensors, path, metadata={**told, "method": "saliency", "settings": "{"})
    with pytest.raises(xc.DataError, match="is damaged"):
        xc.Attribution.load(path)


def test_an_unregistered_method_is_not_saved(tmp_path: Path) -> None:
    class Own(xc.Saliency):
        name = "own"

    made = xc.attribute(*net_and_inputs("mlp"), Own())
    with pytest.raises(xc.XaiCompareError, match="expected a registered method"):
        made.save(tmp_path / "own.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_plot_draws_the_grid() -> None:
    made = xc.attribute(*net_and_inputs("cnn"), "saliency")
    figure = made.plot(outlines=0)
    assert isinstance(figure, Figure)
    assert len(figure.axes) >= 2 * len(made)
    with pytest.raises(xc.SettingError):
        made.plot(outlines=7)
