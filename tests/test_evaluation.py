"""One call from a network and images to the answer: what images, models and mistakes it takes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import Compose, Normalize, Resize, ToTensor

import xaicompare as xc
from xaicompare.errors import DataError, InputError, SettingError, UnknownNameError
from xaicompare.zoo.given import given_dataset
from xaicompare.zoo.preprocessing import given_preprocess

QUICK: dict[str, Any] = {"budget": "quick", "methods": ["saliency"], "metrics": ["sparseness"]}
HOW = Compose([Resize((8, 8)), ToTensor(), Normalize([0.5] * 3, [0.25] * 3)])


def net(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, classes))


def pixels(n: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 10, 10, 3), dtype=np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for place, picture in enumerate(pixels()):
        folder = tmp_path / "photos" / ("cat", "dog", "newt")[place % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{place}.png")
    return tmp_path / "photos"


def test_the_call_of_the_readme(tmp_path: Path) -> None:
    inputs = torch.rand(12, 3, 8, 8)
    told: list[str] = []
    made = xc.evaluate(net(), inputs, folder=tmp_path / "mine", **QUICK, announce=told.append)
    assert made.report() == tmp_path / "mine" / "report.html"
    assert set(made.standings["metric"]) == {"sparseness"}
    assert made.verdict
    assert "12 images, 1 methods" in repr(made)
    before = sorted((tmp_path / "mine" / "cells").rglob("*.parquet"))
    again = xc.evaluate(net(), inputs, folder=tmp_path / "mine", **QUICK)
    assert sorted((tmp_path / "mine" / "cells").rglob("*.parquet")) == before  # nothing was done twice
    assert again.standings.equals(made.standings)


def test_values_are_those_of_score(tmp_path: Path) -> None:
    model, inputs = net(), torch.rand(5, 3, 8, 8)
    made = xc.evaluate(model, inputs, folder=tmp_path / "mine", **QUICK)
    table = made.results.table
    rows = table[(table["method"] == "saliency") & (table["metric"] == "sparseness")].set_index("image")["value"]
    expected = xc.score(model, xc.attribute(model, inputs, method="saliency"), "sparseness")
    assert [rows[place] for place in range(5)] == pytest.approx(expected.tolist(), rel=1e-5)


def test_images_in_every_form_are_the_same_inputs(photos: Path) -> None:
    pictures = [Image.fromarray(each) for each in pixels()]
    inputs = torch.stack([HOW(each) for each in pictures])
    labels = [0, 1, 2, 0, 1, 2]
    names, how = ("cat", "dog", "newt"), given_preprocess(HOW)
    paths = [photos / names[place % 3] / f"{place}.png" for place in range(6)]
    forms: dict[str, tuple[Any, Any]] = {
        "tensor": (inputs, labels),
        "array": (inputs.numpy(), labels),
        "pictures": (pictures, labels),
        "paths": (paths, labels),
        "bytes": (pixels(), labels),
        "dataset": (TensorDataset(inputs, torch.tensor(labels)), None),
        "loader": (DataLoader(TensorDataset(inputs, torch.tensor(labels)), batch_size=4), None),
    }
    for form, (images, given) in forms.items():
        made = given_dataset(images, labels=given, classes=names, preprocess=how, most=6, shuffled=False)
        found, told = made.test.batch(range(6))
        torch.testing.assert_close(found, inputs, msg=form)
        assert told.tolist() == labels, form
        assert made.scale.mean == (0.5, 0.5, 0.5)
    folder = given_dataset(photos, labels=None, classes=names, preprocess=how, most=6, shuffled=False)
    assert folder.test.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_split_of_hugging_faces_datasets() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    pictures = [Image.fromarray(each) for each in pixels(4)]
    split = datasets.Dataset.from_dict({"image": pictures, "label": [0, 1, 1, 0]}, features=features)
    made = given_dataset(split, labels=None, classes=None, preprocess=given_preprocess(HOW), most=4, shuffled=False)
    torch.testing.assert_close(made.test.batch([2])[0][0], HOW(pictures[2]))
    assert made.test.labels.tolist() == [0, 1, 1, 0]
    assert made.classes == ("cat", "dog")


def test_pictures_show_the_images_before_normalisation(photos: Path, tmp_path: Path) -> None:
    from xaicompare.study.examples import Examples

    made = xc.evaluate(net(), photos, folder=tmp_path / "mine", preprocess=HOW, **QUICK)
    shown = Examples.load(made.folder)
    assert shown is not None
    first = shown.told[0].image
    expected = ToTensor()(Resize((8, 8))(Image.open(sorted(photos.rglob("*.png"))[first % 6])))
    assert shown.pictures[0].shape == (3, 8, 8)
    assert min(float((shown.pictures[0] / 255 - other).abs().max()) for other in _all(photos)) < 0.01
    assert expected.shape == (3, 8, 8)


def _all(photos: Path) -> list[Tensor]:
    return [ToTensor()(Resize((8, 8))(Image.open(path))) for path in sorted(photos.rglob("*.png"))]


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # of torch.compile's own imports
@pytest.mark.parametrize("form", ["tuple", "dict", "key", "callable", "binary", "half", "compiled", "parallel"])
def test_whatever_a_model_returns(form: str, tmp_path: Path) -> None:
    inside, inputs = net(1 if form == "binary" else 3), torch.rand(4, 3, 8, 8)

    class Returning(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = inside

        def forward(self, x: Tensor) -> Any:
            z = self.inside(x)
            return {"tuple": (z, x), "dict": {"logits": z}, "key": {"scores": z, "aux": z[:, :2]}}.get(form, [x, z])

    wrapped = form in ("tuple", "dict", "key", "callable")
    model: nn.Module = Returning() if wrapped else inside
    output: Any = {"key": "scores", "callable": lambda returned: returned[1]}.get(form)
    if form == "half":
        model = net().half()
    if form == "parallel":
        model = nn.DataParallel(inside)
    if form == "compiled":
        model = torch.compile(inside)
    made = xc.evaluate(model, inputs, folder=tmp_path / "mine", output=output, **QUICK)
    logits = made.outcome.subject.logits
    with torch.no_grad():
        expected = inside.eval()(made.outcome.subject.inputs)
    torch.testing.assert_close(logits, expected, rtol=1e-2 if form == "half" else 1e-5, atol=1e-3)
    if form == "half":
        assert "float32" in made.outcome.subject.note


def test_methods_and_metrics_as_people_choose_them(tmp_path: Path) -> None:
    methods = ["gradcam", {"name": "lrp", "composite": "epsilon"}, xc.IntegratedGradients(n_steps=8)]
    made = xc.evaluate(
        net(), torch.rand(4, 3, 8, 8), folder=tmp_path / "m", budget="quick", methods=methods, metrics="deletion"
    )
    found = set(made.standings["method"])
    assert {"gradcam", "lrp", "integrated_gradients"} <= {label.partition(" ")[0].partition("(")[0] for label in found}
    assert 'name = "integrated_gradients"' in (tmp_path / "m" / "study.toml").read_text()


def test_a_study_of_given_images_says_how_to_run_it_again(tmp_path: Path) -> None:
    xc.evaluate(net(), torch.rand(3, 3, 8, 8), folder=tmp_path / "m", **QUICK)
    with pytest.raises(xc.StudyError, match=r"xaicompare\.evaluate"):
        xc.run(xc.Study.load(tmp_path / "m" / "study.toml"))


CARELESS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no model": ({"model": 3}, InputError, "expected an nn.Module"),
    "budget": ({"budget": "huge"}, SettingError, "quick, normal, thorough"),
    "method": ({"methods": ["salency"]}, xc.XaiCompareError, "saliency"),
    "metric": ({"metrics": ["spareness"]}, xc.XaiCompareError, "sparseness"),
    "no methods": ({"methods": []}, SettingError, "usual"),
    "nothing": ({"images": None}, InputError, "expected a tensor"),
    "empty": ({"images": []}, InputError, "empty"),
    "shape": ({"images": torch.rand(3, 8)}, InputError, r"\(n, c, h, w\)"),
    "no preprocess": ({"images": pixels()}, InputError, "preprocess="),
    "bad preprocess": ({"images": pixels(), "preprocess": lambda image: image.sizes}, InputError, "preprocess failed"),
    "wrong shape": (
        {"images": pixels(), "preprocess": lambda image: torch.rand(8, 8)},
        InputError,
        "expected floating",
    ),
    "sizes": ({"images": [torch.rand(3, 8, 8), torch.rand(3, 9, 9)]}, InputError, "several shapes"),
    "grey": ({"images": torch.rand(3, 1, 8, 8)}, InputError, "channel|shape"),
    "labels": ({"labels": [0, 1]}, InputError, "expected 4 whole numbers"),
    "far labels": ({"labels": [0, 1, 2, 7]}, InputError, "expected 0 to 2"),
    "names": ({"classes": ["cat"]}, InputError, "1 names of classes for a network with 3"),
    "no folder": ({"images": "no/such/folder"}, DataError, "does not exist"),
    "nan": ({"images": torch.full((4, 3, 8, 8), torch.nan)}, InputError, "NaN"),
    "weights beside": ({"weights": "w.pt"}, SettingError, "for a SPEC alone"),
    "spec": ({"model": "resnet1"}, UnknownNameError, "resnet"),
    "key": ({"output": "scores"}, InputError, "scores"),
}


@pytest.mark.parametrize("mistake", CARELESS)
def test_a_careless_user_is_told_what_to_do(mistake: str, tmp_path: Path) -> None:
    given, kind, words = CARELESS[mistake]
    call = {"model": net(), "images": torch.rand(4, 3, 8, 8), "folder": tmp_path / "mine", **QUICK, **given}
    with pytest.raises(kind, match=words):
        xc.evaluate(call.pop("model"), call.pop("images"), **call)


def test_a_folder_with_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds mine\.txt"):
        xc.evaluate(net(), torch.rand(3, 3, 8, 8), folder=tmp_path, **QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_corrupt_file_in_the_folder_is_named(photos: Path, tmp_path: Path) -> None:
    (photos / "cat" / "torn.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"torn\.png"):
        xc.evaluate(net(), photos, folder=tmp_path / "mine", preprocess=HOW, **QUICK)
