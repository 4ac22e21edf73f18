"""Photographs as squares, and masks that go the same way."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import xaicompare as xc
from xaicompare.errors import DataError, SettingError
from xaicompare.study.summary import summary
from xaicompare.zoo import IMAGENET, load_dataset, open_images
from xaicompare.zoo.opening import Box, MaskFile

GREY = {"mean": (0.0,), "std": (1.0,)}


def lesion(path: Path, wide: int = 60, high: int = 30, at: tuple[int, int, int, int] = (0, 10, 8, 20)) -> Path:
    """A dark picture with a white rectangle (x0, y0, x1, y1)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((high, wide), np.uint8)
    x0, y0, x1, y1 = at
    pixels[y0:y1, x0:x1] = 255
    Image.fromarray(pixels).save(path)
    return path


def test_what_lies_at_the_rim_is_cut_off_or_seen(tmp_path: Path) -> None:
    path = lesion(tmp_path / "a.png")
    seen = {fit: open_images([path], size=30, fit=fit, **GREY)[0, 0] for fit in ("crop", "pad", "stretch")}
    assert seen["crop"].max() == 0
    assert seen["pad"].max() > 0.9
    assert seen["stretch"].max() > 0.9
    assert seen["pad"][:7].max() == 0  # bars above and below: 30 x 60 becomes 15 x 30
    assert seen["pad"][7:23, 0].max() > 0.9
    share = (seen["stretch"] > 0.5).float().mean()
    assert share == pytest.approx(8 * 10 / (60 * 30), abs=0.01)


def test_bars_are_zero_as_the_network_takes_them(tmp_path: Path) -> None:
    Image.new("RGB", (20, 60), (255, 255, 255)).save(tmp_path / "a.png")
    inputs = open_images([tmp_path / "a.png"], size=60, fit="pad")
    assert inputs.shape == (1, 3, 60, 60)
    assert (inputs[..., :20] == 0).all()
    assert (inputs[..., 40:] == 0).all()
    assert torch.allclose(inputs[0, :, 30, 30], torch.tensor(IMAGENET.high))


@pytest.mark.parametrize(("sides", "cut"), [((30, 30), False), ((60, 60), True), ((30, 31), True)])
def test_only_what_is_cut_is_told(tmp_path: Path, sides: tuple[int, int], cut: bool) -> None:
    lesion(tmp_path / "pets/cat/a.png", *sides, at=(0, 0, 1, 1))
    data = load_dataset("folder", path=tmp_path / "pets", size=30, mean=[0.0], std=[1.0])
    assert (data.note != "") == cut
    assert (data.test.batch([0])[0].max() < 0.5) == cut
    (tmp_path / "pets/cat/b.png").write_text("no image")
    load_dataset("folder", path=tmp_path / "pets", size=30)  # told when it is asked for


def test_an_unknown_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="fit='cover'; expected 'crop', 'pad' or 'stretch'"):
        open_images([lesion(tmp_path / "a.png")], fit="cover")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    lesion(tmp_path / "images/bad/a.png", at=(20, 10, 40, 20))
    lesion(tmp_path / "images/good/b.png", at=(25, 5, 35, 25))
    lesion(tmp_path / "masks/bad/a.tif", at=(20, 10, 40, 20))
    lesion(tmp_path / "masks/good/b.bmp", at=(25, 5, 35, 25))
    return tmp_path


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_masks_lie_on_what_they_mark(images: Path, fit: str) -> None:
    data = load_dataset(
        "folder", path=images / "images", masks=str(images / "masks"), size=30, fit=fit, mean=[0.0], std=[1.0]
    )
    inputs, _ = data.test.batch([1, 0])
    masks = data.test.masks([1, 0])
    assert masks.shape == (2, 30, 30)
    for image, mask in zip(inputs[:, 0], masks, strict=True):
        bright = image > 0.5
        assert (bright & mask).sum() / (bright | mask).sum() > 0.75
    assert data.test.masks([0]).equal(masks[1:])


def test_boxes_of_the_index(tmp_path: Path) -> None:
    for name, at in (("a.png", (20, 10, 40, 20)), ("b.png", (25, 5, 35, 25))):
        lesion(tmp_path / name, at=at)
    (tmp_path / "index.csv").write_text("file,class_index,x0,y0,x1,y1\na.png,0,20,10,40,20\nb.png,1,25,5,35,25\n")
    data = load_dataset("folder", path=tmp_path, size=30, fit="stretch", mean=[0.0], std=[1.0])
    inputs, masks = data.test.batch([0, 1])[0], data.test.masks([0, 1])
    bright = inputs[:, 0] > 0.5
    assert (bright & masks).sum() / (bright | masks).sum() > 0.85


def two_objects(how: str, path: Path) -> None:
    """A mask of 8 x 8 whose two objects of 4 pixels each have little in the file."""
    marks = np.zeros((8, 8), np.uint16)
    marks[2:4, 2:4], marks[5:7, 5:7] = 1, 2
    if how == "16 bits":
        Image.fromarray(marks * np.uint16(100)).save(path)  # 100 of 65535 is 0 of 255
    elif how == "floating point":
        Image.fromarray(marks.astype(np.float32) * 40).save(path)
    elif how == "colour":
        Image.fromarray(np.stack([0 * marks, 0 * marks, marks], -1).astype(np.uint8)).save(path)  # grey would be 0
    else:
        numbers = Image.fromarray(np.where(marks > 0, 0, 1).astype(np.uint8))
        numbers.putpalette([9, 0, 0, *[0] * 765])  # the object's colour is number 0, the ground's number 1
        numbers.save(path)


@pytest.mark.parametrize("how", ["16 bits", "floating point", "colour", "palette"])
def test_whatever_is_above_zero_is_the_object(how: str, tmp_path: Path) -> None:
    two_objects(how, tmp_path / "a.tif")
    mask = np.asarray(MaskFile(tmp_path / "a.tif")((8, 8)))
    assert np.unique(mask).tolist() == [0, 255]
    assert (mask > 0).sum() == 8
    assert mask[2:4, 2:4].all()
    assert mask[5:7, 5:7].all()


@pytest.mark.parametrize(
    ("box", "rows", "columns"), [((3.2, 3, 3.9, 5), (3, 5), (3, 4)), ((2, 1, 5, 3), (1, 3), (2, 5))]
)
def test_a_box_has_all_pixels_that_it_touches(
    box: tuple[float, ...], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    mask = np.asarray(Box(*box)((8, 6))) > 0
    assert mask[slice(*rows), slice(*columns)].all()
    assert mask.sum() == (rows[1] - rows[0]) * (columns[1] - columns[0])


def test_masks_below_the_folder_of_the_images_are_no_class(images: Path) -> None:
    (images / "masks").rename(images / "images/masks")
    data = load_dataset("folder", path=images / "images", masks=str(images / "images/masks"), size=30)
    assert (data.classes, len(data.test)) == (("bad", "good"), 2)
    assert data.test.masks([0, 1]).any((1, 2)).all()
    with pytest.raises(DataError, match="is the folder of the images; expected another"):
        load_dataset("folder", path=images / "images", masks=str(images / "images"))


def test_a_mask_of_the_same_ending_comes_first(images: Path) -> None:
    lesion(images / "masks/bad/a.png", at=(30, 10, 40, 20))
    data = load_dataset("folder", path=images / "images", masks=str(images / "masks"), size=30)
    assert [place.path.name for place in data.test.objects] == ["a.png", "b.bmp"]


def test_an_index_of_images_elsewhere(images: Path) -> None:
    (images / "list").mkdir()
    (images / "list/index.csv").write_text(f"file,class_index\n{images / 'images/bad/a.png'},0\n")
    data = load_dataset("folder", path=images / "list", masks=str(images / "masks/bad"), size=30)
    assert data.test.masks([0]).any()


def test_some_corners_are_no_box(tmp_path: Path) -> None:
    lesion(tmp_path / "a.png")
    (tmp_path / "index.csv").write_text("file,class_index,x0,y0\na.png,0,1,2\n")
    with pytest.raises(DataError, match="has the columns x0, y0; expected x0, y0, x1, y1 for boxes, or none"):
        load_dataset("folder", path=tmp_path)


def test_a_mask_of_an_image_that_a_camera_turned(tmp_path: Path) -> None:
    path = lesion(tmp_path / "images/x/a.png", wide=30, high=60, at=(0, 0, 30, 20))
    image = Image.open(path)
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(path, exif=exif)
    upright = open_images([path], size=60, fit="stretch", **GREY)[0, 0]
    lesion(tmp_path / "masks/x/a.png", wide=60, high=30, at=(40, 0, 60, 30))
    data = load_dataset("folder", path=tmp_path / "images", masks=str(tmp_path / "masks"), size=60, fit="stretch")
    assert ((upright > 0.5) == data.test.masks([0])[0]).float().mean() > 0.97


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "masks/bad/a.tif").unlink(), r"no mask for 1 of 2 images, such as bad/a"),
        (lambda root: lesion(root / "masks/bad/a.tif", wide=50), r"a\.tif has \(50, 30\) pixels; expected \(60, 30\)"),
        (lambda root: lesion(root / "masks/bad/a.tif", at=(0, 0, 2, 2)), r"the object is nowhere .* fit = 'pad'"),
        (lambda root: lesion(root / "masks/bad/a.tif", at=(0, 0, 60, 30)), r"the object is everywhere"),
        (lambda root: (root / "masks/bad/a.tif").write_text("no image"), r"a\.tif is no image"),
    ],
)
def test_masks_that_do_not_fit(images: Path, spoil, message: str) -> None:
    spoil(images)
    with pytest.raises(DataError, match=message):
        load_dataset("folder", path=images / "images", masks=str(images / "masks"), size=30).test.masks([0, 1])


@pytest.mark.parametrize(
    ("row", "message"),
    [("20,10,70,20", r"the box is \(20.0, 10.0, 70.0, 20.0\); expected"), ("20,,40,20", "a box can't be read")],
)
def test_boxes_that_do_not_fit(tmp_path: Path, row: str, message: str) -> None:
    lesion(tmp_path / "a.png")
    (tmp_path / "index.csv").write_text(f"file,class_index,x0,y0,x1,y1\na.png,0,{row}\n")
    with pytest.raises(DataError, match=message):
        load_dataset("folder", path=tmp_path, size=30).test.masks([0])


def test_a_study_judges_by_masks_of_ones_own_and_says_what_was_seen(tmp_path: Path) -> None:
    for number in range(4):
        for name, at in (("bad", (20, 10, 40, 20)), ("good", (25, 5, 35, 25))):
            for root in ("images", "masks"):
                lesion(tmp_path / root / name / f"{number}.png", at=at)
    data = {"name": "folder", "path": str(tmp_path / "images"), "masks": str(tmp_path / "masks"), "train": 0.5}
    study = xc.Study.from_dict(
        {
            "images": 4,
            "explain": "label",
            "methods": ["saliency"],
            "metrics": ["pointing_game", "relevance_mass"],
            "data": {**data, "size": 32, "mean": [0.0], "std": [1.0]},
            "model": {"name": "mlp", "settings": {"hidden": [8]}, "recipe": {"epochs": 1}},
        }
    )
    outcome = xc.run(study, tmp_path / "run")
    judged = outcome.results.table.query("method == 'saliency' and metric == 'relevance_mass'")["value"]
    assert len(judged) == 4
    assert judged.between(0, 1).all()
    assert "the rim is not seen" in summary(outcome)
    assert load_dataset("folder", **(study.data_settings | {"fit": "pad"})).note == ""
