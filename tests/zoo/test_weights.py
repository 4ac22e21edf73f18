"""Weights: what goes in comes out, and every file that does not fit says why."""

import pickle
from collections import OrderedDict
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from xaicompare.errors import DataError, UnknownNameError
from xaicompare.zoo import build_model, data_root, load_dataset, load_weights, save_weights
from xaicompare.zoo.weights import weight_notes


def net(seed: int = 0, classes: int = 3) -> nn.Module:
    return build_model("mlp", classes=classes, in_channels=1, in_features=4, hidden=(5,), seed=seed)


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def real(path: str) -> str:
    if not (data_root() / path).exists():
        pytest.skip(f"needs real data: {path} in the folder that XAICOMPARE_DATA names")
    return path


def test_weights_survive_a_file(tmp_path: Path) -> None:
    model, other = net(), net(seed=1)
    save_weights(model, tmp_path / "deep" / "a.safetensors", {"accuracy": 0.5, "recipe": {"epochs": 3}})
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.safetensors"]
    load_weights(other, tmp_path / "deep" / "a.safetensors")
    assert same(model, other)
    assert weight_notes(tmp_path / "deep" / "a.safetensors") == {"accuracy": 0.5, "recipe": {"epochs": 3}}


def test_shared_and_transposed_tensors_survive_a_file(tmp_path: Path) -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    first.weight.data = first.weight.data.t()
    save_weights(nn.Sequential(first, second), tmp_path / "a.safetensors")
    other = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    load_weights(other, tmp_path / "a.safetensors")
    assert same(nn.Sequential(first, second), other)


def test_half_precision_is_widened(tmp_path: Path) -> None:
    save_file({key: value.half() for key, value in net().state_dict().items()}, tmp_path / "a.safetensors")
    model = net(seed=1)
    load_weights(model, tmp_path / "a.safetensors")
    assert all(value.dtype == torch.float32 for value in model.parameters())
    assert torch.equal(model[1].weight, net()[1].weight.half().float())
    assert weight_notes(tmp_path / "a.safetensors") == {}


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_files_of_torch(tmp_path: Path, suffix: str) -> None:
    state = net().state_dict()
    for content in (state, {"state_dict": OrderedDict(state), "epoch": 3}):
        torch.save(content, tmp_path / f"a{suffix}")
        model = net(seed=1)
        load_weights(model, tmp_path / f"a{suffix}")
        assert same(model, net())


def test_relative_paths_start_from_the_data_root_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAICOMPARE_DATA", str(tmp_path))
    save_weights(net(), tmp_path / "models" / "a.safetensors")
    model = net(seed=1)
    load_weights(model, "models/a.safetensors")
    assert same(model, net())


def test_absent_file() -> None:
    with pytest.raises(DataError, match=r"file of weights 'a\.pth' does not exist below .*XAICOMPARE_DATA"):
        load_weights(net(), "a.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize(
    "content", [b"", b"no weights", pickle.dumps(Path("x"), protocol=2)], ids=["empty", "text", "code"]
)
def test_damaged_file(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"can't be read \(.+\); expected weights"):
        load_weights(net(), path)


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": 3}, {"epoch": 3}])
def test_file_of_something_else(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(DataError, match="something else than weights"):
        load_weights(net(), tmp_path / "a.pt")


def test_weights_of_another_network(tmp_path: Path) -> None:
    model = net()
    save_weights(net(classes=4), tmp_path / "a.safetensors")
    with pytest.raises(DataError, match=r"has 3\.weight \(4, 5\), not \(3, 5\).*2 mismatches.*number of classes"):
        load_weights(model, tmp_path / "a.safetensors")
    save_weights(build_model("small_cnn", 3, 1), tmp_path / "b.safetensors")
    with pytest.raises(
        DataError,
        match=r"lacks 1\.weight; lacks 1\.bias; has \S+, which.*has \S+, which the network lacks \(16 mis",
    ):
        load_weights(model, tmp_path / "b.safetensors")
    assert same(model, net())


def test_name_of_a_file_to_save(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'a\.pt'; expected a name that ends in \.safetensors"):
        save_weights(net(), tmp_path / "a.pt")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="can't be written"):
        save_weights(net(), tmp_path / "file" / "a.safetensors")


def test_notes_of_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't be read"):
        weight_notes(tmp_path / "a.safetensors")


def test_weights_of_torchvision_come_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = build_model("squeezenet1_1", classes=1000, in_channels=3)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(model.state_dict(), tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    other = build_model("squeezenet1_1", classes=1000, in_channels=3, seed=1)
    load_weights(other, "DEFAULT", name="squeezenet1_1")
    assert same(model, other)


def test_weights_of_torchvision_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", offline)
    expected = r"no network.*https://\S+/vgg16-397923af\.pth.*hub/checkpoints/vgg16-397923af\.pth.*`--weights FILE`"
    with pytest.raises(DataError, match=expected):
        load_weights(net(), "IMAGENET1K_V1", name="vgg16")


def test_weights_that_torchvision_does_not_have() -> None:
    with pytest.raises(UnknownNameError, match="weights of vgg16 'IMAGENET1K_V9'; did you mean 'IMAGENET1K_V1'"):
        load_weights(net(), "IMAGENET1K_V9", name="vgg16")
    for name in ("", "mlp"):
        with pytest.raises(DataError, match=r"weights 'DEFAULT' for model .*expected a file"):
            load_weights(net(), "DEFAULT", name=name)


def test_squeezenet_knows_imagenet() -> None:
    model = build_model("squeezenet1_0", classes=1000, in_channels=3)
    load_weights(model, real("models/squeezenet1_0-imagenet.safetensors"))
    real("imagenet-sample")
    inputs, labels = load_dataset("folder", path="imagenet-sample").test.batch(range(50))
    with torch.no_grad():
        assert (model(inputs).argmax(1) == labels).float().mean() > 0.5


def test_vgg16_loads_its_file() -> None:
    model = build_model("vgg16_cifar10", classes=10, in_channels=3)
    before = model.classifier[0].weight.clone()
    load_weights(model, real("models/vgg16-cifar10.safetensors"))
    assert not torch.equal(before, model.classifier[0].weight)
