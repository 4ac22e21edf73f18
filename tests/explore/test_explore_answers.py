"""What the pages tell is what the same calls give in Python."""

import base64
import contextlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from asking import refused, sent, told
from PIL import Image

import xaicompare as xc
from xaicompare.explore.exhibit import Exhibit, of_model, of_photographs
from xaicompare.explore.live import Explorer
from xaicompare.metrics import confidence

METHODS = ["saliency", "gradcam", "lrp:epsilon", "lrp:gamma", "gradient_shap"]
IMAGE = {"example": 3}


def inputs_of(exhibit: Exhibit, number: int = 3) -> torch.Tensor:
    assert exhibit.images is not None
    return exhibit.images.batch([number])[0]


def method_of(exhibit: Exhibit, name: str) -> xc.Method:
    low, high = list(exhibit.scale.low), list(exhibit.scale.high)
    if name == "gradient_shap":
        return xc.GradientSHAP(baselines=exhibit.references)
    kind, _, rule = name.partition(":")
    return (
        xc.LRP(composite=rule, low=low, high=high) if rule else {"saliency": xc.Saliency, "gradcam": xc.GradCAM}[kind]()
    )


def test_top_classes_and_confidence_are_the_softmax(live: Explorer, digits: Exhibit) -> None:
    (said,) = told(live, "/api/look", {"image": IMAGE})
    with torch.no_grad():
        logits = digits.model(inputs_of(digits))
    chances = logits.softmax(1)[0]
    assert [each["class"] for each in said["top"]] == chances.argsort(descending=True)[:5].tolist()
    assert [each["probability"] for each in said["top"]] == pytest.approx(sorted(chances.tolist())[:-6:-1], abs=1e-6)
    first, second = sorted(chances.tolist())[:-3:-1]
    assert said["confidence"] == pytest.approx((first - second) / first, abs=1e-5)
    assert said["label"] == int(digits.images.labels[3])


def test_maps_are_those_of_attribute_cheap_ones_first(live: Explorer, digits: Exhibit) -> None:
    first, *maps = told(live, "/api/maps", {"image": IMAGE, "methods": METHODS, "target": 7})
    assert first["target"] == 7
    passes = [each["forward"] + each["backward"] for each in maps]
    assert passes == sorted(passes)
    assert {each["method"] for each in maps} == set(METHODS)
    for each in maps:
        made = xc.attribute(digits.model, inputs_of(digits), method_of(digits, each["method"]), target=7, strict=False)
        assert each["sum"] == pytest.approx(float(made.total[0]), rel=1e-5, abs=1e-5)
        assert each["score"] == pytest.approx(float(made.score[0]), rel=1e-6)
        shares = made.incompleteness
        assert each["incompleteness"] == (None if shares is None else pytest.approx(float(shares[0]), abs=1e-5))
        assert each["status"] == made.status
        picture = Image.open(io.BytesIO(base64.b64decode(each["map"].partition(",")[2]))).convert("RGBA")
        alpha = np.asarray(picture)[..., 3].astype(float)
        assert picture.size == (32, 32)
        assert np.corrcoef(alpha.ravel(), made.map[0].abs().numpy().ravel())[0, 1] > 0.5  # strong values are opaque


def test_a_contrast_explains_the_difference_of_two_outputs(live: Explorer, digits: Exhibit) -> None:
    asked = {"image": IMAGE, "methods": ["input_x_gradient", "lrp:zero"], "target": 3, "against": 7}
    _, *maps = told(live, "/api/maps", asked)
    inputs = inputs_of(digits).requires_grad_()
    logits = digits.model(inputs)[0]
    ahead = logits[3] - logits[7]
    (slope,) = torch.autograd.grad(ahead, inputs)
    for each in maps:
        assert each["score"] == pytest.approx(float(ahead.detach()), rel=1e-4)
        assert each["sum"] == pytest.approx(
            float((slope * inputs.detach()).sum()), rel=1e-3
        )  # LRP-0 is that on ReLU networks
    assert "itself" in told(live, "/api/maps", {**asked, "against": 3})[0]["stopped"]


@pytest.mark.parametrize("order", ["most", "least", "random"])
@pytest.mark.parametrize("fill", ["mean", "black", "blur", "noise", "linear"])
def test_removals_are_those_of_curve_and_score(live: Explorer, digits: Exhibit, order: str, fill: str) -> None:
    asked = {"image": IMAGE, "methods": ["saliency", "lrp:gamma"], "order": order, "fill": fill, "target": 3}
    first, *curves = told(live, "/api/remove", asked)
    shares = tuple(first["shares"])
    assert shares[0] == 0
    assert shares[-1] == 1
    given = list(digits.scale.low) if fill == "black" else fill
    if order != "random":
        assert curves.pop()["title"] == "at random"
    for each in curves:
        made = xc.attribute(digits.model, inputs_of(digits), method_of(digits, each["method"]), target=3)
        curve = xc.curve(digits.model, made, "confidence_removal", order=order, shares=shares, fill=given)
        assert each["confidence"] == pytest.approx(curve.values[0].tolist(), abs=1e-6)
        assert each["predicted"] == curve.predicted[0].tolist()
        for at in (4, 20):
            score = xc.score(digits.model, made, "confidence_removal", order=order, share=shares[at], fill=given)
            assert each["confidence"][at] == pytest.approx(float(score[0]), abs=1e-5)


@pytest.mark.parametrize("fill", ["mean", "blur"])
def test_the_image_with_holes_is_what_the_network_was_asked_about(live: Explorer, digits: Exhibit, fill: str) -> None:
    first, *curves = told(live, "/api/remove", {"image": IMAGE, "methods": ["lrp:gamma"], "fill": fill})
    pixels = np.frombuffer(base64.b64decode(first["base"]), np.uint8)
    instead = np.frombuffer(base64.b64decode(first["replacement"]), np.uint8)
    for each in curves:
        steps = np.frombuffer(base64.b64decode(each["steps"]), np.uint8)
        for at, share in enumerate(first["shares"]):
            assert (steps <= at).sum() == round(share * 1024)
            shown = torch.from_numpy(np.where(steps <= at, instead, pixels).reshape(1, 1, 32, 32))
            with torch.no_grad():
                said = confidence(digits.model(digits.scale.normalised(shown)))
            assert each["confidence"][at] == pytest.approx(float(said[0]), abs=0.03)  # what replaces is in 256 steps


def arc(x: float, y: float, wide: float, high: float, start: float, end: float) -> list[list[float]]:
    angles = np.radians(np.linspace(start, end, 31))
    return np.stack([x + wide * np.cos(angles), y + high * np.sin(angles)], 1).tolist()


DRAWN = {
    0: [arc(0.5, 0.5, 0.25, 0.4, 0, 360)],
    1: [[[0.4, 0.2], [0.55, 0.1], [0.55, 0.9]]],
    2: [[*arc(0.5, 0.3, 0.25, 0.2, -180, 40), [0.2, 0.9], [0.8, 0.9]]],
    3: [arc(0.45, 0.3, 0.2, 0.18, -160, 90) + arc(0.45, 0.7, 0.24, 0.22, -90, 160)],
    4: [[[0.55, 0.1], [0.2, 0.6], [0.8, 0.6]], [[0.6, 0.4], [0.6, 0.95]]],
    5: [[[0.75, 0.1], [0.3, 0.1], [0.28, 0.45], *arc(0.45, 0.66, 0.26, 0.24, -120, 150)]],
    6: [[[0.6, 0.1], [0.35, 0.45], *arc(0.5, 0.7, 0.2, 0.2, 180, -180)]],
    7: [[[0.2, 0.1], [0.8, 0.1], [0.4, 0.9]]],
    8: [arc(0.5, 0.3, 0.18, 0.2, 90, 450) + arc(0.5, 0.7, 0.2, 0.2, -90, 270)],
    9: [[*arc(0.5, 0.3, 0.2, 0.2, 0, 360), [0.7, 0.3], [0.6, 0.9]]],
}


def test_drawn_digits_are_read(live: Explorer) -> None:
    read = {
        digit: told(live, "/api/draw", {"image": {"strokes": drawn}})[0]["predicted"] for digit, drawn in DRAWN.items()
    }
    assert sum(digit == found for digit, found in read.items()) >= 9, read


def test_a_drawing_is_read_and_every_class_explained(live: Explorer, digits: Exhibit) -> None:
    three = [[[30, 20], [50, 12], [63, 22], [57, 38], [44, 44], [57, 46], [67, 58], [63, 75], [48, 84], [30, 76]]]
    read, *rules = told(
        live, "/api/draw", {"image": {"strokes": three}, "methods": ["lrp:zero", "lrp:gamma", "saliency"]}
    )
    assert read["predicted"] == 3
    assert sum(read["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert [each["method"] for each in rules] == ["lrp:zero", "lrp:gamma"]
    for each in rules:
        assert len(each["maps"]) == 10
        assert each["starts"] == pytest.approx(read["logits"], abs=1e-4)


def test_layers_conserve_what_they_begin_with(live: Explorer) -> None:
    (flow,) = told(live, "/api/layers", {"image": IMAGE, "composite": "epsilon", "inside": "features.5"})
    absorbed = sum(each["absorbed"] for each in flow["layers"])
    assert flow["input"] + absorbed == pytest.approx(flow["start"], rel=1e-4)
    sums = {each["layer"]: each["sum"] for each in flow["layers"]}
    assert abs(sum(each["sum"] for each in flow["channels"])) <= abs(sums["features.5"]) * 3
    assert all(each["map"].startswith("data:image/png") for each in flow["channels"])


def test_two_networks_agree_with_themselves_only(exhibits: tuple[Exhibit, Exhibit], live: Explorer) -> None:
    first, *rows = told(live, "/api/two", {"image": IMAGE, "methods": ["saliency", "random"]})
    assert len(first["networks"]) == 2
    with Explorer((exhibits[0], exhibits[0])) as twins:
        _, *alike = told(twins, "/api/two", {"image": IMAGE, "methods": ["saliency"]})
    assert alike[0]["spearman"] == pytest.approx(1, abs=1e-4)
    assert next(row for row in rows if row["method"] == "saliency")["spearman"] < 0.9


@pytest.mark.parametrize("view", ["photo", "remove", "draw", "two", "layers"])
def test_the_code_runs_and_gives_the_same(live: Explorer, digits: Exhibit, view: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = {"image": IMAGE, "methods": METHODS, "target": 3, "fill": "black", "share": 0.3, "inside": "features.5"}
    code = sent(live, f"/api/code/{view}", asked)[1].decode()
    printed, names = io.StringIO(), {}
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    if view in ("photo", "two"):
        _, *maps = told(live, "/api/maps", asked)
        assert {each["title"]: each["sum"] for each in maps} == {
            title: pytest.approx(float(made.total[0]), rel=1e-5) for title, made in names["many"].items()
        }
    elif view == "remove":
        _, *curves = told(live, "/api/remove", asked)
        assert names["curve"].values[0].tolist() == pytest.approx(curves[-2]["confidence"], abs=1e-6)
        assert re.search(r"tensor\(0\.3000\)", printed.getvalue())
    elif view == "layers":
        (flow,) = told(live, "/api/layers", asked)
        sums = {name: float(total[0]) for name, total in names["made"].sums.items()}
        assert sums == pytest.approx({each["layer"]: each["sum"] for each in flow["layers"]}, rel=1e-4, abs=1e-4)
    else:
        assert (tmp_path / "gamma.png").exists()


def test_the_code_of_a_contrast_runs(live: Explorer) -> None:
    asked = {"image": IMAGE, "methods": ["gradcam", "lrp:zero"], "target": 3, "against": 7, "layer": "features.8"}
    names: dict = {}
    code = sent(live, "/api/code/photo", asked)[1].decode().rpartition("xc.grid")[0]
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)
    _, *maps = told(live, "/api/maps", asked)
    for each in maps:
        assert each["sum"] == pytest.approx(float(names["many"][each["title"]].total[0]), rel=1e-4)


@pytest.mark.parametrize("view", ["photo", "remove", "draw", "two", "layers"])
def test_every_view_gives_a_picture(live: Explorer, view: str) -> None:
    asked = {"image": IMAGE, "methods": ["saliency", "lrp:epsilon", "attention"], "inside": None}
    if view == "remove":
        asked["methods"] = asked["methods"][:2]
    status, body, headers = sent(live, f"/api/picture/{view}", asked)
    assert status == 200, body
    assert headers["content-type"] == "image/png"
    picture = np.asarray(Image.open(io.BytesIO(body)).convert("L"))
    assert min(picture.shape) > 100
    assert picture.std() > 10


def test_an_upload_gives_the_numbers_of_open_images(tmp_path, digits: Exhibit) -> None:
    photo = Image.effect_mandelbrot((200, 150), (-2, -1.5, 1, 1.5), 60).convert("RGB")
    (tmp_path / "folder").mkdir()
    photo.save(tmp_path / "folder" / "photo.png")
    exhibit = of_photographs("squeezenet1_0", tmp_path / "folder", size=64)
    assert "Random weights" in exhibit.note
    with Explorer((exhibit,)) as live:
        made = json.loads(sent(live, "/api/upload", (tmp_path / "folder" / "photo.png").read_bytes())[1])
        square = {"square": made["square"].partition(",")[2]}
        own, known = (told(live, "/api/look", {"image": image})[0] for image in (square, {"example": 0}))
        assert own["predicted"] == known["predicted"]
        assert own["confidence"] == pytest.approx(known["confidence"], abs=1e-6)
        inputs = xc.zoo.open_images([tmp_path / "folder" / "photo.png"], size=64)
        with torch.no_grad():
            chances = exhibit.model(inputs).softmax(1)[0]
        assert own["top"][0]["probability"] == pytest.approx(float(chances.max()), abs=1e-6)
        code = sent(live, "/api/code/photo", {"image": {"example": 0}, "methods": ["saliency"]})[1].decode()
        assert "open_images(['photo.png'], size=64, fit='crop')" in code
        assert str(tmp_path) not in code
        told_about = sent(live, "/api/about", verb="GET")[1].decode()
        assert str(tmp_path) not in told_about


def test_a_model_of_ones_own(digits: Exhibit) -> None:
    images = inputs_of(digits)
    own = of_model(digits.model, images, scale=digits.scale, classes=[f"<b>{i}</b>" for i in range(10)])
    assert torch.allclose(own.inputs(own.pixels(0)), images, atol=1e-6)
    with pytest.raises(xc.InputError, match="names of classes"):
        of_model(digits.model, images, classes=["a"])
    with pytest.raises(xc.InputError, match="expected"):
        of_model(digits.model, images[:, :, :16])
    with xc.explore(digits.model, images, scale=digits.scale) as live:
        assert "<iframe" in live._repr_html_()
        assert told(live, "/api/look", {"image": {"example": 0}})[0]["predicted"] == int(digits.model(images).argmax())


def test_what_can_not_be_asked_is_told_in_a_sentence(live: Explorer) -> None:
    for asked, words in (
        ({"image": {"example": 10_000}}, "expected one of"),
        ({"image": {"example": "3"}}, "expected example"),
        ({"image": {"square": "!!"}}, "base64"),
        ({"image": {}}, "nothing"),
        ({"image": {"example": 1}, "target": -1}, "target"),
        ({"image": {"example": 1}, "colour": 1}, "colour"),
        ({"image": {"example": 1}, "methods": ["saliency"] * 30}, "at most"),
        ([], "list"),
    ):
        assert words in refused(live, "/api/maps", asked)
    for asked, words in (({"target": 10}, "class"), ({"against": 99}, "class")):
        assert words in told(live, "/api/maps", {"image": IMAGE, **asked})[0]["stopped"]
    _, one, two = told(live, "/api/maps", {"image": IMAGE, "methods": ["lrp:nonsense", "saliency"]})
    assert {"error" in one, "error" in two} == {True, False}


def test_a_network_by_its_spec_has_its_own_scale_and_classes(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\nfrom torchvision.transforms import Compose, Normalize, Resize, ToTensor\n"
        "CLASSES = ['cat', 'dog', 'owl']\n"
        "preprocess = Compose([Resize((64, 64)), ToTensor(), Normalize([0.5] * 3, [0.25] * 3)])\n"
        "def make():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), "
        "nn.Linear(4, 3)).eval()\n"
    )
    exhibit = of_photographs(f"{tmp_path / 'net.py'}:make", None, size=64)
    assert exhibit.scale.mean == (0.5, 0.5, 0.5)
    assert exhibit.classes == ("cat", "dog", "owl")
    assert any("open_model" in line for line in exhibit.opening)
