"""Image files: folders of them, single ones, and what is said of bad ones."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from xaicompare.errors import DataError, SettingError
from xaicompare.zoo import Scale, data_root, load_dataset, open_images

SCALE = Scale(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root."""
    monkeypatch.setenv("XAICOMPARE_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def saved(path: Path, size: tuple[int, int] = (40, 30), colour: tuple[int, int, int] = (255, 0, 0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def write_index(folder: Path, rows: list[list[str]], header: tuple[str, ...] = ("file", "class_index", "class_name")):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def test_folder_of_class_folders(root: Path) -> None:
    saved(root / "pets/dog/b.png", colour=(0, 0, 255))
    saved(root / "pets/cat/a.jpg")
    saved(root / "pets/cat/deep/c.jpg")
    saved(root / "pets/.thumbnails/a.jpg")
    (root / "pets/cat/notes.txt").write_text("no image")
    data = load_dataset("folder", path="pets", size=16)
    assert (data.name, data.classes) == ("pets", ("cat", "dog"))
    assert data.test.labels.tolist() == [0, 0, 1]
    assert len(data.train) == 0
    inputs, labels = data.test.batch([2, 0])
    assert inputs.shape == (2, 3, 16, 16)
    assert labels.tolist() == [1, 0]
    assert data.scale.pictures(inputs)[0, :, 8, 8].tolist() == pytest.approx([0, 0, 1], abs=1e-6)


def test_folder_to_train_on(root: Path) -> None:
    for number in range(10):
        saved(root / "cars" / "van" / f"{number}.png")
        if number < 5:
            saved(root / "cars" / "bus" / f"{number}.png", colour=(0, 255, 0))
    made, again, other = (load_dataset("folder", path="cars", size=8, train=0.8, seed=seed) for seed in (0, 0, 1))
    assert (made.train.labels.bincount().tolist(), made.test.labels.bincount().tolist()) == ([4, 8], [1, 2])
    assert not set(made.train.paths) & set(made.test.paths)
    assert len({*made.train.paths, *made.test.paths}) == 15
    assert made.train.paths == again.train.paths != other.train.paths
    assert made.train.batch([0])[0].shape == (1, 3, 8, 8)


def test_folder_with_an_index(root: Path) -> None:
    saved(root / "some/a.png")
    write_index(root / "some", [["a.png", "2", "lynx"]])
    data = load_dataset("folder", path=str(root / "some"), size=8, classes=4)
    assert data.classes == ("0", "1", "lynx", "3")
    assert data.test.batch([0])[1].tolist() == [2]


def test_an_index_of_imagenet_knows_its_thousand(root: Path) -> None:
    saved(root / "some/a.png")
    write_index(root / "some", [["a.png", "7", "cock"]])
    names = load_dataset("folder", path="some").classes
    assert len(names) == 1000
    assert names[8] == "hen"


def test_folder_in_grey(root: Path) -> None:
    saved(root / "pets/cat/a.jpg")
    data = load_dataset("folder", path="pets", size=8, mean=[0.5], std=[0.5])  # lists, as TOML has them
    assert data.channels == 1
    assert data.test.batch([0])[0].shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([["a.png", "x"]], ("file", "class_index"), r"line 2: file='a.png', class_index='x'; expected"),
        ([["a.png", "-1"]], ("file", "class_index"), "class_index='-1'"),
        ([["", "1"]], ("file", "class_index"), "file=''"),
        ([["a.png", "1"]], ("path", "class_index"), "lacks file"),
        ([], ("file", "class_index"), "lacks class_index, file"),
    ],
)
def test_bad_index(root: Path, rows: list[list[str]], header: tuple[str, ...], message: str) -> None:
    write_index(root / "some", rows, header)
    with pytest.raises(DataError, match=message):
        load_dataset("folder", path="some")


def test_index_that_is_no_text(root: Path) -> None:
    (root / "index.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="can't be read"):
        load_dataset("folder", path=root)


def test_folder_absent_or_empty(root: Path) -> None:
    with pytest.raises(DataError, match=r"folder of images 'pets' does not exist below .*XAICOMPARE_DATA"):
        load_dataset("folder", path="pets")
    with pytest.raises(DataError, match="holds no images"):
        load_dataset("folder", path=root)


def test_folder_with_more_classes_than_the_network(root: Path) -> None:
    saved(root / "pets/cat/a.jpg")
    saved(root / "pets/dog/a.jpg")
    with pytest.raises(SettingError, match="classes=1; expected at least 2"):
        load_dataset("folder", path="pets", classes=1)


def test_imagenet_sample_loads_through_folder() -> None:
    if not (data_root() / "imagenet-sample").is_dir():
        pytest.skip("needs real data: imagenet-sample in the folder that XAICOMPARE_DATA names")
    data = load_dataset("folder", path="imagenet-sample")
    inputs, labels = data.test.batch([0, 49])
    assert inputs.shape == (2, 3, 224, 224)
    assert len(data.classes) == 1000
    assert data.classes[int(labels[0])] == "cock"


def test_open_images_preprocesses_as_torchvision(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    theirs = functional.center_crop(functional.resize(Image.open(tmp_path / "a.png"), 256), 224)
    pixels = functional.pil_to_tensor(theirs)[None]
    imagenet = Scale(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert torch.equal(open_images([tmp_path / "a.png"]), imagenet.normalised(pixels))


def test_a_file_of_the_right_size_is_taken_as_it_is(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    inputs = open_images([str(tmp_path / "a.png")], size=32, mean=SCALE.mean, std=SCALE.std)
    assert torch.equal(inputs, SCALE.normalised(torch.from_numpy(noise).permute(2, 0, 1)[None]))


def test_a_camera_held_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (20, 20))
    image.paste((255, 255, 255), (0, 0, 20, 10))  # white above
    exif = image.getexif()
    exif[0x0112] = 3  # "turned by 180 degrees"
    image.save(tmp_path / "a.png", exif=exif)
    inputs = open_images([tmp_path / "a.png"], size=20)
    assert inputs[0, 0, 0, 0] < inputs[0, 0, 19, 0]


def test_files_that_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"a\.jpg is no image"):
        open_images([tmp_path / "a.jpg"])
    with pytest.raises(DataError, match=r"b\.jpg can't be opened"):
        open_images([tmp_path / "b.jpg"])
    with pytest.raises(DataError, match="can't be opened"):
        open_images([tmp_path])
    whole = saved(tmp_path / "c.png", size=(200, 200)).read_bytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"c\.png can't be opened"):
        open_images([tmp_path / "c.png"])
    with pytest.raises(DataError, match="no image files"):
        open_images([])


def test_mean_for_two_channels(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="expected one value each"):
        open_images([saved(tmp_path / "a.png")], mean=(0.5, 0.5), std=(0.5, 0.5))
