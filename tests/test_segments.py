import pytest
import torch
from torch import Tensor

import xaicompare as xc
from xaicompare.segments import segmented


def two_halves(side: int = 64) -> Tensor:
    """An image (3, side, side) in two colours, left and right."""
    image = torch.zeros(3, side, side)
    image[0, :, side // 2 :] = 1
    return image


@pytest.mark.parametrize(("side", "count", "expected"), [(32, 64, 64), (32, 50, 49), (8, 1000, 64), (28, 1, 1)])
def test_a_grid_is_made_of_near_squares(side: int, count: int, expected: int) -> None:
    cells = segmented("grid", count, torch.zeros(3, side, side))
    sizes = cells.flatten().bincount()
    assert cells.shape == (side, side)
    assert len(sizes) == expected
    rows = round(expected**0.5)
    assert sizes.max() <= (side // rows + 1) ** 2
    assert sizes.min() >= (side // rows) ** 2
    for cell in range(expected):
        height, width = ((cells == cell).any(dim).sum() for dim in (1, 0))
        assert height * width == sizes[cell], "a cell is a rectangle"


def test_a_grid_of_a_wide_image_keeps_its_cells_square() -> None:
    cells = segmented("grid", 8, torch.zeros(3, 10, 20))
    assert cells.unique().tolist() == list(range(8))
    assert cells[:5, :5].eq(0).all()
    assert cells[0, 5] == 1


@pytest.mark.parametrize("how", ["slic", "quickshift", "felzenszwalb"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_superpixels_respect_colours_and_are_numbered_without_gaps(how: str, channels: int) -> None:
    image = two_halves()[:1].expand(channels, -1, -1) if channels < 3 else two_halves()
    found = segmented(how, 16, image)
    labels = found.unique().tolist()
    assert found.shape == (64, 64)
    assert labels == list(range(len(labels)))
    assert len(labels) > 1
    both = set(found[:, :31].unique().tolist()) & set(found[:, 33:].unique().tolist())
    assert not both, "a superpixel reaches over the border between the colours"


@pytest.mark.parametrize("how", ["slic", "quickshift", "felzenszwalb"])
def test_superpixels_do_not_depend_on_the_normalisation(how: str) -> None:
    image = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0)).cumsum(1)
    assert segmented(how, 9, image).equal(segmented(how, 9, image * 4 - 2))


@pytest.mark.parametrize(("side", "means"), [(63, "grid"), (64, "slic")])
def test_auto_is_a_grid_below_64_pixels(side: int, means: str) -> None:
    image = two_halves(side)
    assert segmented("auto", 10, image).equal(segmented(means, 10, image))


def test_every_feature_of_a_vector_is_a_segment() -> None:
    assert segmented("auto", 3, torch.zeros(5)).tolist() == [0, 1, 2, 3, 4]


def test_given_segments_are_renumbered() -> None:
    given = torch.tensor([[7, 7], [3, 9]])
    assert segmented(given, 50, torch.zeros(3, 2, 2)).tolist() == [[1, 1], [0, 2]]


@pytest.mark.parametrize(
    ("segments", "words"),
    [
        (torch.zeros(3, 2), r"segments are torch.float32 of shape \(3, 2\); expected whole numbers \(2, 2\)"),
        (torch.zeros(2, 2), "segments are torch.float32"),
        (torch.zeros(3, 2, 2, dtype=torch.int64), r"shape \(3, 2, 2\)"),
    ],
)
def test_given_segments_must_fit(segments: Tensor, words: str) -> None:
    with pytest.raises(xc.InputError, match=words):
        segmented(segments, 50, torch.zeros(3, 2, 2))
