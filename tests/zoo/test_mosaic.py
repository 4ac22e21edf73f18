"""Mosaics: which tiles are of the class, and that the masks say so."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_planted import masks_of, part

from xaicompare.errors import DataError, SettingError
from xaicompare.zoo import build_model, load_dataset


def quarters(images: torch.Tensor) -> torch.Tensor:
    """(n, ..., 2h, 2w) -> (n, 4, ..., h, w), by slices."""
    h, w = images.shape[-2] // 2, images.shape[-1] // 2
    return torch.stack([images[..., r : r + h, c : c + w] for r in (0, h) for c in (0, w)], 1)


@pytest.mark.parametrize("tiles", [1, 2])
def test_the_masks_are_the_tiles_of_the_class_and_no_other_tile_is_of_it(tiles: int) -> None:
    images, source = part(load_dataset("mosaic", images=40, tiles=tiles)), part(load_dataset("digits"))
    assert images.pixels.shape == (40, 1, 64, 64)
    for pictures, label, masks in zip(quarters(images.pixels), images.labels, quarters(masks_of(images)), strict=True):
        found = [int((source.pixels == picture).flatten(1).all(1).nonzero()) for picture in pictures]
        assert len(set(found)) == 4
        of_class = source.labels[found] == label
        assert int(of_class.sum()) == tiles
        assert masks.flatten(1).all(1).tolist() == of_class.tolist()
        assert masks.flatten(1).any(1).tolist() == of_class.tolist()


def test_labels_are_balanced_and_any_tile_may_be_the_one() -> None:
    images = part(load_dataset("mosaic", images=200, tiles=1))
    assert images.labels.bincount().tolist() == [20] * 10
    where = quarters(masks_of(images)).flatten(2).all(2).sum(0)
    assert where.min() > 25


def test_shrunk_tiles_are_means_of_four_pixels_and_a_network_of_fixed_size_takes_them() -> None:
    images, full = (part(load_dataset("mosaic", images=12, shrink=side)) for side in (True, False))
    assert images.pixels.shape == (12, 1, 32, 32)
    means = full.pixels.float().unflatten(2, (32, 2)).unflatten(4, (32, 2)).mean((3, 5))
    assert (images.pixels - means).abs().max() <= 0.5
    assert torch.equal(masks_of(images), masks_of(full)[:, ::2, ::2])
    assert torch.equal(images.labels, full.labels)
    assert build_model("mlp", classes=10, in_channels=1)(images.batch(range(3))[0]).shape == (3, 10)


def test_the_train_part_is_the_bases_own_and_global_pooling_takes_both_sizes() -> None:
    made, base = load_dataset("mosaic", images=4), load_dataset("digits")
    assert repr(made) == "Dataset(mosaic (digits), train=1297, test=4, classes=10)"
    assert torch.equal(part(made, "train").pixels, part(base, "train").pixels)
    assert made.train.masks([0, 1]) is None
    network = build_model("small_cnn", classes=10, in_channels=1)
    for images in (made.train, made.test):
        assert network(images.batch([0, 1])[0]).shape == (2, 10)


def test_the_seed_fixes_everything_and_the_global_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    one, again, other = (part(load_dataset("mosaic", images=20, seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(one.pixels, again.pixels)
    assert torch.equal(masks_of(one), masks_of(again))
    assert not torch.equal(one.pixels, other.pixels)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"base": "imagenet"}, "mosaic: base='imagenet'; expected 'digits', 'mnist' or 'cifar10'"),
        ({"tiles": 3}, "mosaic: tiles=3; expected 1 or 2"),
        ({"images": 0}, "mosaic: images=0"),
    ],
)
def test_bad_settings_are_told(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        load_dataset("mosaic", **settings)


def test_an_absent_base_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XAICOMPARE_DATA", "XAICOMPARE_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(DataError, match="MNIST is not there"):
        load_dataset("mosaic", base="mnist")
