"""The same images on two networks: maps, agreement and metrics, paired over images."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from nets import cnn, net_and_inputs
from PIL import Image
from scipy.stats import spearmanr, t
from torch import nn
from typer.testing import CliRunner

import xaicompare as xc
from xaicompare.cli import app
from xaicompare.registry import METRICS


def twins() -> tuple[nn.Module, nn.Module, torch.Tensor]:
    torch.manual_seed(1)
    first, second = cnn(), cnn()
    return first, second, torch.randn(6, 3, 16, 16)


def test_a_network_agrees_with_itself_and_differs_by_nothing() -> None:
    model, inputs = net_and_inputs("cnn")
    found = xc.compare_models({"a": model, "b": copy.deepcopy(model)}, inputs, methods=["saliency", "gradcam"])
    assert found.agreement["mean"].tolist() == pytest.approx([1, 1])
    assert found.differences["mean"].abs().max() == 0
    assert set(found.differences["metric"]) == {"deletion", "insertion"}


def test_agreement_and_differences_are_what_scipy_and_a_loop_say() -> None:
    first, second, inputs = twins()
    found = xc.compare_models(
        {"a": first, "b": second}, inputs, methods=["saliency"], metrics=["deletion"], target=[1] * 6
    )
    # The images are drawn, so their order is that of the maps.
    a, b = found.maps["a"]["saliency"], found.maps["b"]["saliency"]
    assert torch.equal(a.inputs, b.inputs)
    ranks = [spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a.map, b.map, strict=True)]
    row = found.agreement.iloc[0]
    assert row["mean"] == pytest.approx(np.mean(ranks), abs=1e-5)
    half = t.ppf(0.975, 5) * np.std(ranks, ddof=1) / 6**0.5
    assert (row["low"], row["high"]) == pytest.approx((np.mean(ranks) - half, np.mean(ranks) + half), abs=1e-4)
    gap = xc.score(first, a, "deletion") - xc.score(second, b, "deletion")
    assert found.differences.iloc[0]["mean"] == pytest.approx(float(gap.mean()), abs=1e-6)


def test_all_explain_the_class_that_the_first_predicts_or_the_label() -> None:
    first, second, inputs = twins()
    found = xc.compare_models({"a": first, "b": second}, inputs, methods=["saliency"], metrics=[])
    seen = found.maps["a"]["saliency"]
    assert torch.equal(seen.target, first(seen.inputs).argmax(1))
    assert torch.equal(seen.target, found.maps["b"]["saliency"].target)
    labelled = xc.compare_models({"a": first, "b": second}, inputs, [2] * 6, methods=["saliency"], metrics=[])
    assert labelled.maps["b"]["saliency"].target.tolist() == [2] * 6
    right = (first(inputs).argmax(1) == 2).float().mean()
    assert labelled.accuracy["a"] == pytest.approx(float(right))


def test_a_method_without_an_answer_on_one_network_is_left_out_of_both() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 14 * 14, 5)).eval()
    found = xc.compare_models(
        {"a": cnn(), "b": plain}, torch.randn(3, 3, 16, 16), methods=["saliency", "cam"], metrics=[]
    )
    assert list(found.maps["a"]) == list(found.maps["b"]) == ["saliency"]
    assert "global average pooling" in found.left_out["cam"]
    assert "saliency: maps of a and b agree by" in repr(found)


def test_the_sheet_has_a_column_per_method_and_network() -> None:
    first, second, inputs = twins()
    found = xc.compare_models({"a": first, "b": second}, inputs, methods=["saliency", "gradcam"], metrics=[])
    figure = found.plot(images=2)
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    titles = {text.get_text().replace("\n", " ") for text in texts}
    assert {"Saliency, a", "Saliency, b", "Grad-CAM, a", "Grad-CAM, b"} <= titles


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"models": {"a": cnn()}}, "1 network; expected two or more"),
        ({"models": {"a": cnn(), "b": cnn(classes=3)}}, "classes: a 5, b 3; expected networks with the same classes"),
        ({"models": {"a": cnn(), "b": "resnte18"}}, "did you mean 'resnet18'"),
        ({"metrics": "deletion"}, "expected 'all', or a list of names"),
        ({"methods": ["salency"]}, "did you mean 'saliency'"),
    ],
)
def test_mistakes_are_told(change: dict, words: str) -> None:
    asked = {"models": {"a": cnn(), "b": cnn()}, "images": torch.randn(2, 3, 16, 16), "methods": ["saliency"]} | change
    with pytest.raises(xc.XaiCompareError, match=words):
        xc.compare_models(asked.pop("models"), asked.pop("images"), **asked)


def test_the_command_writes_tables_and_a_sheet(tmp_path: Path) -> None:
    for place in range(3):
        Image.fromarray(np.random.default_rng(place).integers(0, 255, (40, 40, 3), np.uint8)).save(
            tmp_path / f"{place}.png"
        )
    net = tmp_path / "net.py"
    net.write_text(
        "import torch\nfrom torch import nn\nfrom torchvision.transforms import Compose, Resize, ToTensor\n"
        "preprocess = Compose([Resize((16, 16)), ToTensor()])\n"
        "def make(seed=0):\n    torch.manual_seed(seed)\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 3)).eval()\n"
        "def other():\n    return make(1)\n"
    )
    out = tmp_path / "out"
    asked = [
        "compare-models",
        "--model",
        f"{net}:make",
        "--model",
        f"{net}:other",
        "--images",
        str(tmp_path),
        "--out",
        str(out),
    ]
    said = CliRunner().invoke(app, [*asked, "--methods", "saliency,gradcam", "--metrics", "deletion"])
    assert said.exit_code == 0, said.output
    assert len((out / "agreement.csv").read_text().splitlines()) == 3
    assert (out / "maps.png").stat().st_size > 10_000
    wrong = CliRunner().invoke(app, [*asked, "--weights", "one.pt"])
    assert "1 --weights for 2 --model" in str(wrong.exception)


def test_a_spec_keeps_its_preprocessing_beside_weights_of_its_own(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / "image.png")
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\nfrom torchvision.transforms import Compose, Resize, ToTensor\n"
        "preprocess = Compose([Resize((8, 8)), ToTensor()])\n"
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval()\n"
    )
    spec, trained = f"{tmp_path / 'net.py'}:make", nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    torch.save(trained.state_dict(), tmp_path / "net.pt")
    files = [tmp_path / "image.png"]
    found = xc.compare_models(
        {"a": spec, "b": spec}, files, methods=["saliency"], metrics=[], weights={"b": tmp_path / "net.pt"}
    )
    made = found.maps["b"]["saliency"]
    assert made.inputs.shape == (1, 3, 8, 8)
    assert torch.allclose(made.values.flatten(), trained[1].weight[made.target[0]].abs())


def test_all_metrics_are_those_that_need_no_masks() -> None:
    first, second, inputs = twins()
    found = xc.compare_models({"a": first, "b": second}, inputs, methods=["saliency"], metrics="all")
    without = {name for name in METRICS.names() if not METRICS.build(name).traits.masks}
    told = {metric for metric in found.left_out if metric in without}
    assert {label.partition("(")[0] for label in found.differences["metric"]} == without - told
    assert len(told) < 5
    with pytest.raises(xc.SettingError, match="expected 'all', or a list"):
        xc.compare_models({"a": first, "b": second}, inputs, methods=["saliency"], metrics="deletion")
