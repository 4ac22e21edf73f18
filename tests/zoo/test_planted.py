"""Planted patches: they decide the class, nothing else does, and the masks say where they are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from xaicompare.errors import DataError, SettingError, UnknownNameError
from xaicompare.registry import DATASETS
from xaicompare.zoo import Dataset, ImageArray, data_root, load_dataset
from xaicompare.zoo.planted import GLYPHS, SIDE


def part(dataset: Dataset, name: str = "test") -> ImageArray:
    images = getattr(dataset, name)
    assert isinstance(images, ImageArray)
    return images


def masks_of(images: ImageArray) -> Tensor:
    masks = images.masks(range(len(images)))
    assert masks is not None
    return masks


@pytest.fixture
def other_base(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Stands for `digits`: grey backgrounds of 90, 20 x 24 pixels and three channels, with labels of its own."""
    monkeypatch.setattr(DATASETS, "_makers", dict(DATASETS._makers))
    digits = load_dataset("digits")
    grey = ImageArray(torch.full((40, 3, 20, 24), 90, dtype=torch.uint8), torch.arange(40) % 10, digits.scale)
    base = replace(digits, train=grey, test=grey)
    DATASETS._makers["digits"] = lambda: base
    return base


def test_glyphs_differ_and_neither_mean_nor_blur_tells_them_apart() -> None:
    glyphs = torch.stack(list(GLYPHS.values()))
    assert glyphs.shape == (6, SIDE, SIDE)
    assert set(glyphs.unique().tolist()) == {0, 1}
    assert glyphs.sum((1, 2)).tolist() == [18, 18, 18, 17, 17, 18]
    assert (avg_pool2d(glyphs[:, None].float(), 4, stride=1) == 0.5).all()
    for i, one in enumerate(glyphs):
        for other in glyphs[i + 1 :]:
            assert 12 <= int((one != other).sum()) <= 24


def test_the_mask_is_the_patch_and_the_patch_is_the_glyph_of_the_class() -> None:
    images = part(load_dataset("planted", test=60))
    glyphs = list(GLYPHS.values())
    for picture, label, mask in zip(images.pixels, images.labels, masks_of(images), strict=True):
        assert int(mask.sum()) == SIDE * SIDE
        assert picture[0][mask].view(SIDE, SIDE).equal((255 * glyphs[label]).to(torch.uint8))


def test_outside_the_mask_the_pixels_are_the_backgrounds() -> None:
    images, source = part(load_dataset("planted", test=60, distractors=0)), part(load_dataset("digits"))
    outside = ~masks_of(images)[:, None]
    for picture, mask in zip(images.pixels, outside, strict=True):
        same = ((source.pixels == picture) | ~mask).flatten(1).all(1)
        assert int(same.sum()) == 1


def test_the_backgrounds_labels_are_not_looked_at(other_base: Dataset) -> None:
    """Not by count, but exactly: with other labels of the base, the same images come out."""
    before = part(load_dataset("planted", train=80, test=40), "train")
    assert isinstance(other_base.train, ImageArray)
    relabelled = replace(other_base, train=replace(other_base.train, labels=torch.zeros(40, dtype=torch.int64)))
    DATASETS._makers["digits"] = lambda: relabelled
    after = part(load_dataset("planted", train=80, test=40), "train")
    assert torch.equal(before.pixels, after.pixels)
    assert torch.equal(before.labels, after.labels)


def test_the_backgrounds_content_says_nothing_of_the_class() -> None:
    """Which digit lies behind each class: the spread is that of chance (chi-squared, 45 degrees of freedom)."""
    images, source = part(load_dataset("planted", test=1000, distractors=0)), part(load_dataset("digits"))
    outside, table = ~masks_of(images)[:, None], torch.zeros(6, 10)
    for picture, label, mask in zip(images.pixels, images.labels, outside, strict=True):
        match = int(((source.pixels == picture) | ~mask).flatten(1).sum(1).argmax())
        table[label, source.labels[match]] += 1
    expected = table.sum(1, keepdim=True) * table.sum(0) / table.sum()
    assert float(((table - expected) ** 2 / expected).sum()) < 80  # passed by 999 of 1000 independent tables


def test_classes_are_balanced_and_every_background_comes_in_turn(other_base: Dataset) -> None:
    made = load_dataset("planted", train=80, test=60)
    assert made.test.labels.bincount().tolist() == [10] * 6
    assert repr(made) == "Dataset(planted (digits), train=80, test=60, classes=6)"
    backgrounds = part(load_dataset("planted", test=500, distractors=0)).pixels
    assert backgrounds.shape == (500, 3, 20, 24)


def test_patches_and_distractors_do_not_overlap(other_base: Dataset) -> None:
    """On grey, every black or white pixel is a patch's, and each patch has 36 of its own."""
    for distractors in (0, 1, 2):
        images = part(load_dataset("planted", test=50, distractors=distractors))
        painted = images.pixels[:, 0] != 90
        assert painted.sum((1, 2)).tolist() == [(1 + distractors) * SIDE * SIDE] * 50
        white = (images.pixels[:, 0] == 255) & ~masks_of(images)
        assert white.sum((1, 2)).tolist() == [distractors * SIDE * SIDE // 2] * 50


def test_a_part_of_the_training_images_has_no_patch(other_base: Dataset) -> None:
    made = load_dataset("planted", train=120, test=30, distractors=0, without=0.25, holes=0)
    train, sizes = part(made, "train"), masks_of(part(made, "train")).sum((1, 2))
    assert int((sizes == 0).sum()) == 30
    assert (train.pixels[sizes == 0] == 90).all()
    assert train.labels[sizes == 0].unique().tolist() == list(range(6))
    assert (masks_of(part(made)).sum((1, 2)) == SIDE * SIDE).all()


def test_training_images_have_holes_outside_the_patch_and_test_images_none(other_base: Dataset) -> None:
    """The mean of an image with a patch is not quite the grey around it: so holes show."""
    plain, holed = (load_dataset("planted", train=200, test=20, distractors=0, holes=share) for share in (0, 0.5))
    assert torch.equal(part(plain).pixels, part(holed).pixels)
    before, after, masks = part(plain, "train").pixels, part(holed, "train").pixels, masks_of(part(holed, "train"))
    assert torch.equal(part(plain, "train").labels, part(holed, "train").labels)
    means = before.float().mean((2, 3), keepdim=True).round()
    changed = before != after
    assert not (changed & masks[:, None]).any()
    assert (after == means).logical_or(~changed).all()
    telling = (means[:, 0, 0, 0] != 90) & masks.any(2).any(1)
    shares = changed[telling][:, 0].float().mean((1, 2))
    assert float(shares.max()) < 0.5
    assert 0.2 < float(shares.mean()) < 0.3


def test_the_seed_fixes_everything_and_the_global_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    one, again, other = (load_dataset("planted", train=20, test=20, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(part(one).pixels, part(again).pixels)
    assert torch.equal(part(one, "train").labels, part(again, "train").labels)
    assert not torch.equal(part(one).pixels, part(other).pixels)
    # The test part does not depend on how much there is to train on.
    assert torch.equal(part(one).pixels, part(load_dataset("planted", train=30, test=20, seed=3)).pixels)
    assert torch.equal(before, torch.get_rng_state())


def test_places_reach_every_corner() -> None:
    anywhere = masks_of(part(load_dataset("planted", test=3000))).any(0)
    assert anywhere.all()


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        ({"base": "mnits"}, SettingError, "base='mnits'; expected 'digits', 'mnist' or 'cifar10'"),
        ({"distractors": 5}, SettingError, "planted: distractors=5; expected 0, 1, 2, 3 or 4"),
        ({"without": 1.5}, SettingError, "planted: without=1.5"),
        ({"holes": -1}, SettingError, "planted: holes=-1"),
        ({"test": 0}, SettingError, "planted: test=0"),
        ({"tests": 3}, UnknownNameError, "did you mean 'test'"),
        ({"download": True}, UnknownNameError, "unknown setting of digits 'download'"),
    ],
)
def test_bad_settings_are_told(settings: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        load_dataset("planted", **settings)


@pytest.mark.parametrize("base", ["mnist", "cifar10"])
def test_an_absent_base_is_told(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XAICOMPARE_DATA", "XAICOMPARE_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(DataError, match=r"is not there; expected .*XAICOMPARE_DATA"):
        load_dataset("planted", base=base)


def test_on_mnist() -> None:
    if not (data_root() / "MNIST").is_dir():
        pytest.skip("needs real data: MNIST in the folder that XAICOMPARE_DATA names")
    made = load_dataset("planted", base="mnist", train=30, test=30)
    assert made.name == "planted (mnist)"
    assert int(masks_of(part(made)).sum()) == 30 * SIDE * SIDE


def test_a_cue_tells_the_class_of_training_images_and_misleads_in_the_test() -> None:
    """A white square whose column is the class; everything else is as without it."""
    plain, cued, everywhere = (
        load_dataset("planted", train=120, test=120, holes=0.0, cue=cue) for cue in ("none", "train", "everywhere")
    )
    for name, made, told in (("train", cued, True), ("test", cued, False), ("test", everywhere, True)):
        before, after = part(plain, name), part(made, name)
        assert torch.equal(before.labels, after.labels)
        assert torch.equal(masks_of(before), masks_of(after))
        changed = (before.pixels != after.pixels)[:, 0]
        assert not changed[:, 3:].any()
        assert not (changed & masks_of(before)).any()
        white = (after.pixels[:, 0, :3] == 255) | masks_of(after)[:, :3]
        columns = (torch.arange(6) * 29 // 5)[:, None] + torch.arange(3)
        fits = torch.stack(
            [white[:, :, each].all(2).all(1) for each in columns], 1
        )  # (n, class): a square may be there
        assert fits.any(1).all()
        right = fits.gather(1, after.labels[:, None]).float().mean()
        assert right == 1 if told else right < 0.5
