"""Test images among the training images are found, and nothing else is."""

from dataclasses import replace

import pytest
import torch
from courses import quarters

from xaicompare.errors import DataError
from xaicompare.training.leaks import check_apart, digests
from xaicompare.zoo import ImageArray, Scale

OTHERWISE = Scale(mean=(0.1307,), std=(0.3081,))


def joined(one: ImageArray, other: ImageArray) -> ImageArray:
    return replace(one, pixels=torch.cat([one.pixels, other.pixels]), labels=torch.cat([one.labels, other.labels]))


def test_digests_are_equal_where_pixels_are() -> None:
    images = quarters(40)
    twice = digests(joined(images, images.subset([7, 3])))
    assert twice.unique().numel() == 40
    assert torch.equal(twice[40:], digests(images)[[7, 3]])
    assert digests(images.subset([])).shape == (0,)


def test_one_pixel_by_one_step_makes_another_image() -> None:
    """All 64 positions, and all 256 values of one of them."""
    image = quarters(1).pixels.clamp_max(254)
    moved = image.repeat(64, 1, 1, 1)
    moved.view(64, 64)[torch.arange(64), torch.arange(64)] += 1
    values = image.repeat(256, 1, 1, 1)
    values[:, 0, 0, 0] = torch.arange(256).to(torch.uint8)
    for pixels, known in ((torch.cat([image, moved]), 65), (values, 256)):
        assert digests(ImageArray(pixels, torch.zeros(len(pixels)).long(), OTHERWISE)).unique().numel() == known


def test_the_order_of_pixels_matters() -> None:
    images = quarters(5)
    assert not torch.isin(digests(replace(images, pixels=images.pixels.flip(-1))), digests(images)).any()


def test_normalisation_and_labels_hide_nothing() -> None:
    images = quarters(40)
    disguised = replace(images, scale=OTHERWISE, labels=images.labels.flip(0))
    assert not torch.allclose(images.batch([0])[0], disguised.batch([0])[0])
    assert torch.equal(digests(images), digests(disguised))


def test_a_leak_is_told() -> None:
    train, test = quarters(50), quarters(20, seed=1)
    check_apart(train, test)
    poisoned = joined(train, replace(test.subset([4, 9]), scale=OTHERWISE))
    with pytest.raises(DataError, match="2 of 52 training images are test images, first number 50; expected none"):
        check_apart(poisoned, test)
