from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import mlp, net_and_inputs
from PIL import Image

import xaicompare as xc
from xaicompare.comparison import attempted, labels
from xaicompare.registry import METHODS


def test_attribute_takes_a_name_with_settings_or_a_method() -> None:
    model, inputs = net_and_inputs("mlp")
    named = xc.attribute(model, inputs, 1, "integrated_gradients", n_steps=7)
    given = xc.attribute(model, inputs, 1, xc.IntegratedGradients(n_steps=7))
    assert named.values.equal(given.values)
    assert named.method == given.method
    assert xc.attribute(model, inputs).method == xc.Saliency()


def test_attribute_tells_the_method_from_the_target_in_either_order() -> None:
    model, inputs = net_and_inputs("cnn")
    third = xc.attribute(model, inputs, "gradcam")
    assert third.method == xc.GradCAM()
    assert third.target.equal(model(inputs).argmax(1))
    named = xc.attribute(model, inputs, "gradcam", target=[4, 0, 1])
    assert named.target.tolist() == [4, 0, 1]
    for given in (("gradcam", [4, 0, 1]), ([4, 0, 1], "gradcam"), ([4, 0, 1], xc.GradCAM())):
        assert xc.attribute(model, inputs, *given).values.equal(named.values)
    assert xc.attribute(model, inputs, 2).target.tolist() == [2, 2, 2]
    with pytest.raises(xc.InputError, match="two methods, 'gradcam' and 'lrp'"):
        xc.attribute(model, inputs, "gradcam", "lrp")
    with pytest.raises(xc.XaiCompareError, match="two targets, 1 and 2"):
        xc.attribute(model, inputs, 1, 2)


def test_compare_takes_one_name_or_all_that_can_explain_the_model() -> None:
    model, inputs = net_and_inputs("mlp")
    assert list(xc.compare(model, inputs, methods="saliency")) == ["saliency"]
    with pytest.warns(UserWarning, match=r"left out on this model: .*\bgradcam\b") as seen:
        many = xc.compare(model, inputs, methods="all")
    assert len(seen) == 1
    message = str(seen[0].message)
    left_out = message.partition(": ")[2].partition(";")[0].split(", ")
    assert "\n" not in message
    assert sorted([*many, *left_out]) == sorted(METHODS.names())
    assert {"saliency", "lrp", "random"} <= set(many)


def test_compare_explains_one_target_by_each_method() -> None:
    model, inputs = net_and_inputs("cnn")
    many = xc.compare(model, inputs, ["saliency", xc.LRP(composite="zero"), "random"])
    assert list(many) == ["saliency", "lrp", "random"]
    for made in many.values():
        assert made.target.equal(model(inputs).argmax(1))
        assert made.inputs.equal(inputs)
    alone = xc.attribute(model, inputs, method="lrp", composite="zero")
    assert many["lrp"].values.equal(alone.values)
    assert xc.compare(model, inputs, ["edges"], target=[4, 0, 1])["edges"].target.tolist() == [4, 0, 1]


def test_compare_resolves_the_target_once() -> None:
    model, inputs = mlp(), torch.randn(2, 12)
    batches = []
    model.register_forward_hook(lambda *call: batches.append(len(call[-1])))
    xc.compare(model, inputs, ["saliency", "input_x_gradient"])
    assert batches == [2, 2, 2]


def test_compare_raises_the_first_error_and_attempted_keeps_each_in_its_place() -> None:
    model, inputs = net_and_inputs("mlp")
    methods = ["saliency", "gradcam", "edges"]
    with pytest.raises(xc.InputError, match=r"^gradcam: "):
        xc.compare(model, inputs, methods)
    many = attempted(model, inputs, methods)
    assert list(many) == methods
    assert isinstance(many["saliency"], xc.Attribution)
    assert isinstance(many["gradcam"], xc.InputError)
    assert isinstance(many["edges"], xc.InputError)


@pytest.mark.parametrize("call", [xc.compare, attempted])
def test_what_is_wrong_for_all_methods_is_raised_at_once(call: object) -> None:
    model, inputs = net_and_inputs("mlp")
    with pytest.raises(xc.UnknownNameError, match="did you mean 'saliency'"):
        call(model, inputs, ["salency"])
    with pytest.raises(xc.InputError, match="inputs hold NaN"):
        call(model, inputs / 0 * 0, ["saliency"])


def test_labels_say_what_tells_methods_of_one_name_apart() -> None:
    many = [xc.LRP(), xc.LRP(composite="zero", epsilon=0.1), xc.Saliency()]
    assert labels(many) == ["lrp", "lrp(composite=zero, epsilon=0.1)", "saliency"]
    with pytest.raises(xc.XaiCompareError, match="lrp is given twice; expected each method once"):
        labels([xc.LRP(), xc.Saliency(), xc.LRP()])


def test_labels_tell_tensors_apart() -> None:
    many = [xc.IntegratedGradients(baseline=torch.full((3,), value)) for value in (0.0, 1.0)]
    assert len(set(labels(many))) == 2


def test_score_takes_a_name_with_settings_or_a_metric() -> None:
    model, inputs = net_and_inputs("cnn")
    made = xc.attribute(model, inputs)
    named = xc.score(model, made, metric="confidence_removal", order="least", share=0.3)
    assert named.shape == (3,)
    assert named.equal(xc.score(model, made, xc.ConfidenceRemoval(order="least", share=0.3)))
    with pytest.raises(xc.UnknownNameError, match=r"unknown metric 'removal'; .*Known: aopc, .*confidence_removal"):
        xc.score(model, made, "removal")
    with pytest.raises(xc.UnknownNameError, match="did you mean 'share'"):
        xc.score(model, made, "confidence_removal", shar=0.3)


def test_an_attribution_says_what_it_is() -> None:
    made = xc.attribute(*net_and_inputs("cnn"), target=[4, 0, 1], method="center")
    assert len(made) == 3
    assert repr(made).startswith(
        "Attribution(Center(width=0.25, batch_size=64), values=(3, 1, 16, 16), target=[4, 0, 1],"
    )


NET = """
from torch import nn
from torchvision.transforms import Compose, Resize, ToTensor
import torch
preprocess = Compose([Resize((16, 16)), ToTensor()])
def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 3)).eval()
"""


def test_a_model_by_its_spec_and_images_as_files(tmp_path: Path) -> None:
    """The same as by hand: the network made, its preprocessing called."""
    pixels = [np.random.default_rng(seed).integers(0, 255, (20, 20, 3), np.uint8) for seed in range(3)]
    files = [tmp_path / f"{place}.png" for place in range(3)]
    for array, file in zip(pixels, files, strict=True):
        Image.fromarray(array).save(file)
    (tmp_path / "net.py").write_text(NET)
    spec, scope = f"{tmp_path / 'net.py'}:make", dict[str, Any]()
    exec(NET, scope)
    model, inputs = scope["make"](), torch.stack([scope["preprocess"](Image.fromarray(array)) for array in pixels])
    expected = xc.attribute(model, inputs, 1, "saliency").values
    assert torch.equal(xc.attribute(spec, files, 1, "saliency").values, expected)
    assert torch.equal(xc.attribute(spec, inputs, 1, "saliency").values, expected)
    assert torch.allclose(xc.attribute(spec, str(files[1]), 1, "saliency").values, expected[1:2], atol=1e-6)
    assert torch.equal(xc.compare(spec, [str(file) for file in files], ["saliency"], 1)["saliency"].values, expected)
    with pytest.raises(xc.XaiCompareError, match="did you mean 'resnet18'"):
        xc.attribute("resnet81", inputs)
    with pytest.raises(xc.XaiCompareError, match="preprocess"):
        xc.attribute(model, files)
