"""Scale and Images: between pixels and what a network takes."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional

from xaicompare.errors import DataError, InputError
from xaicompare.zoo import ImageArray, Images, Scale
from xaicompare.zoo.images import Indices

SCALE = Scale(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def test_low_and_high_are_black_and_white() -> None:
    ends = torch.stack([torch.zeros(3, 4, 4), torch.full((3, 4, 4), 255)]).to(torch.uint8)
    black, white = SCALE.normalised(ends)
    assert black[:, 0, 0].tolist() == pytest.approx(SCALE.low)
    assert white[:, 0, 0].tolist() == pytest.approx(SCALE.high)


def test_normalised_is_torchvisions() -> None:
    pixels = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    theirs = functional.normalize(pixels.float() / 255, SCALE.mean, SCALE.std)
    assert torch.equal(SCALE.normalised(pixels), theirs)


def test_pictures_undo_the_normalisation() -> None:
    pixels = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    pictures = SCALE.pictures(SCALE.normalised(pixels))
    assert torch.allclose(pictures * 255, pixels.float(), atol=1e-3)
    assert SCALE.pictures(torch.full((1, 3, 1, 1), 100.0)).max() == 1


@pytest.mark.parametrize("pixels", [torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.uint8)])
def test_normalised_takes_bytes_of_its_channels_only(pixels: Tensor) -> None:
    with pytest.raises(InputError, match=r"expected uint8 \(n, 3, h, w\)"):
        SCALE.normalised(pixels)


def array(n: int = 10) -> ImageArray:
    pixels = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, 2, 2)
    return ImageArray(pixels, torch.arange(n), SCALE)


def test_batch_keeps_the_order_of_the_indices() -> None:
    inputs, labels = array().batch([7, 0, 7])
    assert labels.tolist() == [7, 0, 7]
    assert torch.equal(inputs[0], inputs[2])
    assert torch.equal(inputs, SCALE.normalised(array().pixels[[7, 0, 7]]))


def test_drawn_is_fixed_by_the_seed_and_nested() -> None:
    before = torch.get_rng_state()
    few, many = array().drawn(3, seed=1), array().drawn(6, seed=1)
    assert few.labels.tolist() == many.labels[:3].tolist()
    assert len(set(many.labels.tolist())) == 6
    assert few.labels.tolist() != array().drawn(3, seed=2).labels.tolist()
    assert torch.equal(before, torch.get_rng_state())


def test_drawn_says_how_many_there_are() -> None:
    with pytest.raises(DataError, match="11 images are asked for; expected at most 10"):
        array().drawn(11, seed=0)


def test_to_gives_batches_on_the_device() -> None:
    assert array().to("meta").batch([0])[0].device.type == "meta"


def test_masks_follow_the_images() -> None:
    decisive = torch.eye(10, dtype=torch.bool)[:, :4].view(10, 2, 2)
    images = replace(array(), decisive=decisive)
    assert torch.equal(images.masks([7, 0, 2]), decisive[[7, 0, 2]])
    chosen = images.drawn(6, seed=1).subset([5, 3])
    assert torch.equal(chosen.masks(range(2)), decisive[chosen.labels])
    assert images.to("meta").masks([0]).device.type == "meta"


def test_masks_are_absent_where_nobody_knows() -> None:
    class Blank(Images):
        labels = torch.zeros(2, dtype=torch.int64)

        def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
            return torch.zeros(len(indices), 1, 2, 2), self.labels[indices]

        def subset(self, indices: Indices) -> "Blank":
            return self

        def to(self, device: object) -> "Blank":
            return self

    assert Blank().masks([0]) is None
    assert array().masks([0]) is None
    assert array().subset([1, 2]).to("cpu").masks([0]) is None
