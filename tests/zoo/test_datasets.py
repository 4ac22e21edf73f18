"""Data sets by name: what loads, and what is said when it does not."""

import io
import pickle
import tarfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, MNIST

from xaicompare.errors import DataError, SettingError, UnknownNameError, XaiCompareError
from xaicompare.registry import DATASETS
from xaicompare.zoo import Dataset, ImageArray, Scale, data_root, load_dataset


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XAICOMPARE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root."""
    monkeypatch.setenv("XAICOMPARE_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def write_mnist(root: Path, n: int = 20) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        images = np.full((n, 28, 28), 255, dtype=np.uint8)
        header = b"".join(size.to_bytes(4, "big") for size in (2051, n, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = (np.arange(n) % 10).astype(np.uint8)
        header = b"".join(size.to_bytes(4, "big") for size in (2049, n))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


def write_cifar_original(root: Path) -> None:
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    batch = {"data": np.zeros((2, 3072), dtype=np.uint8), "labels": [3, 7]}
    for name, _ in CIFAR10.train_list + CIFAR10.test_list:
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["airplane"]}))


def write_cifar_archive(root: Path, classes: tuple[str, ...] = ("airplane", "cat", "truck"), n: int = 4) -> Path:
    path = root / "cifar10-jpeg.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        for part in ("train", "test"):
            for grey, name in enumerate(classes):
                for number in range(n):
                    content = io.BytesIO()
                    Image.new("RGB", (32, 32), (80 * grey,) * 3).save(content, "JPEG")
                    entry = tarfile.TarInfo(f"{part}/{name}/{number:04}.jpg")
                    entry.size = len(content.getvalue())
                    archive.addfile(entry, io.BytesIO(content.getvalue()))
    return path


def test_digits_are_stratified_and_fixed() -> None:
    data = load_dataset("digits")
    inputs, labels = data.test.batch(range(500))
    assert (len(data.train), len(data.test), data.channels) == (1297, 500, 1)
    assert inputs.shape == (500, 1, 32, 32)
    assert inputs.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert 48 <= labels.bincount().min() <= labels.bincount().max() <= 52
    assert torch.equal(labels, load_dataset("digits").test.labels)


def test_digits_are_normalised_by_what_trains() -> None:
    data = load_dataset("digits")
    inputs, _ = data.train.batch(range(len(data.train)))
    assert abs(float(inputs.mean())) < 1e-3
    assert float(inputs.std()) == pytest.approx(1, abs=1e-3)


def test_mnist_is_padded(root: Path) -> None:
    write_mnist(root)
    inputs, labels = load_dataset("mnist").train.batch([0, 1])
    assert inputs.shape == (2, 1, 32, 32)
    assert labels.tolist() == [0, 1]
    assert inputs[0, 0, 1, 1] == pytest.approx(-0.1307 / 0.3081)
    assert inputs[0, 0, 2, 2] == pytest.approx((1 - 0.1307) / 0.3081)


def test_mnist_absent(root: Path) -> None:
    with pytest.raises(DataError, match="MNIST/raw/train-images-idx3-ubyte") as error:
        load_dataset("mnist")
    assert str(root) in str(error.value)
    assert "XAICOMPARE_DATA" in str(error.value)
    assert "download=True" in str(error.value)


def test_mnist_truncated(root: Path) -> None:
    write_mnist(root)
    (root / "MNIST/raw/t10k-labels-idx1-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match="can't be read"):
        load_dataset("mnist")


@pytest.mark.parametrize(("name", "source"), [("mnist", MNIST), ("cifar10", CIFAR10)])
def test_download_without_a_network(root: Path, name: str, source: type, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(_: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(source, "download", offline)
    with pytest.raises(DataError, match=r"can't be downloaded .*no network.*XAICOMPARE_DATA"):
        load_dataset(name, download=True)


def test_download_goes_to_the_cache(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "download", lambda self: write_mnist(Path(self.root)))
    assert len(load_dataset("mnist", download=True).train) == 20
    assert (cache / "data" / "MNIST").is_dir()
    assert not any(root.iterdir())
    assert len(load_dataset("mnist").train) == 20


def test_cifar10_original_comes_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    write_cifar_archive(root)
    write_cifar_original(root)
    data = load_dataset("cifar10")
    assert data.name == "cifar10"
    assert (len(data.train), len(data.test)) == (10, 2)
    assert data.test.batch([1])[1].tolist() == [7]


def test_cifar10_original_damaged(root: Path) -> None:
    write_cifar_original(root)
    with pytest.raises(DataError, match="cifar-10-batches-py can't be read"):
        load_dataset("cifar10")


def test_cifar10_copy_is_decoded_once(root: Path, cache: Path) -> None:
    archive = write_cifar_archive(root)
    data = load_dataset("cifar10")
    assert data.name == "cifar10 (JPEG copy)"
    assert sorted(data.train.labels.tolist()) == [0] * 4 + [3] * 4 + [9] * 4
    assert data.train.labels.tolist() != sorted(data.train.labels.tolist())
    # Which grey level belongs to which label survives the shuffle.
    pixels = data.scale.pictures(data.test.batch(range(12))[0])[:, 0, 0, 0] * 255
    grey = {0: 0, 3: 80, 9: 160}
    assert pixels.round().tolist() == [grey[label] for label in data.test.labels.tolist()]

    (decoded,) = cache.iterdir()
    written = decoded.stat().st_mtime_ns
    assert torch.equal(load_dataset("cifar10").train.labels, data.train.labels)
    assert decoded.stat().st_mtime_ns == written
    assert archive.is_file()


def test_cifar10_of_some_classes(root: Path) -> None:
    write_cifar_archive(root)
    whole, some = load_dataset("cifar10"), load_dataset("cifar10", classes=("truck", "airplane"))
    assert some.classes == ("truck", "airplane")
    assert some.name == "cifar10 (JPEG copy), truck, airplane"
    for part in ("train", "test"):
        every, chosen = getattr(whole, part), getattr(some, part)
        names = [whole.classes[label] for label in every.labels]
        assert [some.classes[label] for label in chosen.labels] == [name for name in names if name in some.classes]
        assert chosen.pixels.equal(every.pixels[[name in some.classes for name in names]])
    for given, words in ((("truck", "car"), "unknown class of CIFAR-10 'car'"), (("cat", "cat"), "two different")):
        with pytest.raises(XaiCompareError, match=words):
            load_dataset("cifar10", classes=given)


def test_another_archive_is_decoded_anew(root: Path) -> None:
    write_cifar_archive(root)
    assert len(load_dataset("cifar10").train) == 12
    write_cifar_archive(root, n=5)
    assert len(load_dataset("cifar10").train) == 15


@pytest.mark.parametrize("classes", [(), ("airplane", "zebra")])
def test_archive_of_something_else(root: Path, cache: Path, classes: tuple[str, ...]) -> None:
    write_cifar_archive(root, classes)
    with pytest.raises(DataError, match=r"can't be decoded .* expected train/<class>"):
        load_dataset("cifar10")
    assert not list(cache.iterdir())


def test_archive_cut_short(root: Path) -> None:
    archive = write_cifar_archive(root)
    archive.write_bytes(archive.read_bytes()[:500])
    with pytest.raises(DataError, match="can't be decoded"):
        load_dataset("cifar10")


def test_cifar10_absent_names_both_forms(root: Path) -> None:
    with pytest.raises(DataError, match=r"cifar10-jpeg\.tar\.xz.*cifar-10-batches-py"):
        load_dataset("cifar10")


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown dataset 'cifar'; did you mean 'cifar10'"):
        load_dataset("cifar")
    with pytest.raises(UnknownNameError, match="unknown setting of folder 'sise'; did you mean 'size'"):
        load_dataset("folder", path="x", sise=3)


def test_settings_are_checked() -> None:
    with pytest.raises(SettingError, match="folder lacks 'path'"):
        load_dataset("folder")
    with pytest.raises(SettingError, match="folder: size=0; expected greater than or equal to 1"):
        load_dataset("folder", path="x", size=0)
    with pytest.raises(SettingError, match="mnist: download='perhaps'"):
        load_dataset("mnist", download="perhaps")


def test_others_may_register_a_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DATASETS, "_makers", dict(DATASETS._makers))

    def mine(n, **_: object) -> Dataset:  # without annotations, as others may write it
        scale = Scale((0.5,), (0.5,))
        images = ImageArray(torch.zeros(n, 1, 2, 2, dtype=torch.uint8), torch.zeros(n, dtype=torch.int64), scale)
        return Dataset("mine", ("a",), scale, images, images)

    DATASETS.add("mine", mine)
    assert len(load_dataset("mine", n=4).test) == 4
    with pytest.raises(UnknownNameError, match="Known: n"):
        load_dataset("mine", n=4, m=5)


def test_mnist_is_the_published_one() -> None:
    if not (data_root() / "MNIST").is_dir():
        pytest.skip("needs real data: MNIST in the folder that XAICOMPARE_DATA names")
    data = load_dataset("mnist")
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert data.test.batch(range(5))[1].tolist() == [7, 2, 1, 0, 4]


@pytest.mark.slow
def test_cifar10_copy_is_whole() -> None:
    if not (data_root() / "cifar10-jpeg.tar.xz").is_file():
        pytest.skip("needs real data: cifar10-jpeg.tar.xz in the folder that XAICOMPARE_DATA names")
    data = load_dataset("cifar10")
    assert data.train.labels.bincount().tolist() == [5_000] * 10
    assert data.test.labels.bincount().tolist() == [1_000] * 10
    inputs, _ = data.test.batch(range(1_000))
    assert inputs.mean().abs() < 0.1
    assert inputs.std() == pytest.approx(1, abs=0.1)
