"""Networks by SPEC: names, libraries, files, modules, exported programs; and what careless users write."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import xaicompare as xc
from xaicompare.errors import DataError, SettingError, UnknownNameError
from xaicompare.zoo.spec import open_model

CODE = """
import torch
CLASSES = ["cat", "dog", "newt"]

def preprocess(image):
    return torch.zeros(3, 8, 8)

def make(width=4):
    return torch.nn.Sequential(torch.nn.Conv2d(3, width, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(9, 3))

class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 3)

def broken():
    raise KeyError("weights")

def number():
    return 3
"""


@pytest.fixture
def net_file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(CODE)
    return path


def test_a_function_or_a_class_in_a_file(net_file: Path) -> None:
    made = open_model(f"{net_file}:make", width=6)
    assert made.model[0].out_channels == 6
    assert made.classes == ("cat", "dog", "newt")
    assert made.preprocess is not None
    assert not made.model.training
    assert isinstance(open_model(f"{net_file}:Net").model, nn.Linear)


def test_a_module_that_can_be_imported(net_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(net_file.parent))
    assert isinstance(open_model("net:Net").model, nn.Linear)
    sys.modules.pop("net")


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.module."])
@pytest.mark.parametrize("key", [None, "ema"])
def test_weights_without_their_prefixes(net_file: Path, tmp_path: Path, prefix: str, key: str | None) -> None:
    torch.manual_seed(4)
    state = nn.Linear(4, 3).state_dict()
    named = {prefix + name: value for name, value in state.items()}
    torch.save(named if key is None else {key: named, "epoch": 3}, tmp_path / "w.pt")
    made = open_model(f"{net_file}:Net", weights=tmp_path / "w.pt", key=key)
    assert all(torch.equal(value, made.model.state_dict()[name]) for name, value in state.items())
    assert ("stripped" in made.origin) == bool(prefix)


def test_random_weights_follow_the_seed() -> None:
    first, again, other = (open_model("squeezenet1_1", weights="random", classes=5, seed=s).model for s in (0, 0, 1))
    one, two, three = (next(each.parameters()) for each in (first, again, other))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_a_program_of_torch_export(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    shape = ({0: torch.export.Dim("n")},)
    torch.export.save(torch.export.export(net, (torch.rand(2, 3, 8, 8),), dynamic_shapes=shape), tmp_path / "net.pt2")
    made, inputs = open_model(str(tmp_path / "net.pt2")), torch.rand(3, 3, 8, 8)
    torch.testing.assert_close(made.model(inputs), net(inputs))
    for method in ("saliency", "occlusion"):
        settings = {"window": 4} if method == "occlusion" else {}
        expected = xc.attribute(net, inputs, 1, method, **settings).values
        torch.testing.assert_close(xc.attribute(made.model, inputs, 1, method, **settings).values, expected)


def test_timms_model_with_its_own_preprocessing() -> None:
    pytest.importorskip("timm")
    made = open_model("timm:mobilenetv3_small_050", weights="random", num_classes=7)
    assert made.preprocess is not None
    assert made.preprocess.scale is not None
    assert made.model(torch.rand(1, 3, 64, 64)).shape == (1, 7)


def test_hugging_faces_model_from_a_local_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8
    )
    config.id2label = {0: "cat", 1: "dog", 2: "newt"}
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "vit")
    made = open_model(f"hf:{tmp_path / 'vit'}")
    assert made.classes == ("cat", "dog", "newt")
    assert made.preprocess is not None
    assert made.preprocess.scale is not None
    values = xc.attribute(made.model, torch.rand(1, 3, 16, 16), 1, "lrp").values
    assert values.abs().sum() > 0


CARELESS = {
    "": (SettingError, "expected a SPEC"),
    "resnet81": (UnknownNameError, "did you mean.*resnet"),
    "net.pt": (DataError, "holds weights, no network"),
    "{net}": (SettingError, "lacks the function"),
    "{net}:maker": (UnknownNameError, "it has .*make, Net"),
    "{net}:broken": (DataError, "KeyError"),
    "{net}:number": (DataError, "returned a int"),
    "nowhere.py:make": (DataError, "does not exist"),
    "no_such_package.nets:make": (DataError, "can't be imported"),
    "nowhere.pt2": (DataError, "does not exist"),
    "mlp": (SettingError, "how many classes"),
}


@pytest.mark.parametrize("spec", CARELESS)
def test_a_careless_spec_is_told_what_to_do(spec: str, net_file: Path) -> None:
    kind, words = CARELESS[spec]
    with pytest.raises(kind, match=words):
        open_model(spec.format(net=net_file))


def test_careless_weights(net_file: Path, tmp_path: Path) -> None:
    spec = f"{net_file}:Net"
    torch.save(nn.Linear(4, 9).state_dict(), tmp_path / "other.pt")
    torch.save({"ema": nn.Linear(4, 3).state_dict()}, tmp_path / "nested.pt")
    torch.save(nn.Linear(4, 3), tmp_path / "whole.pt")
    (tmp_path / "torn.pt").write_bytes(b"PK torn")
    for name, key, words in (
        ("other.pt", None, "mismatches"),
        ("nested.pt", None, "--weights-key"),
        ("nested.pt", "emma", "ema"),
        ("whole.pt", None, "not unpickled"),
        ("torn.pt", None, "can't be read"),
        ("gone.pt", None, "does not exist"),
    ):
        with pytest.raises(xc.XaiCompareError, match=words):
            open_model(spec, weights=tmp_path / name, key=key)
    with pytest.raises(xc.XaiCompareError, match=r"saliency failed on inputs \(2, 5\)"):
        xc.attribute(open_model(spec).model, torch.rand(2, 5), 0, "saliency")
