"""A drawing as the two data sets of digits would have it."""

import pytest
import torch

from xaicompare.errors import InputError
from xaicompare.zoo import load_dataset
from xaicompare.zoo.strokes import read_strokes

SEVEN = [[[10, 10], [80, 10], [40, 90]]]


@pytest.mark.parametrize("hand", ["digits", "mnist"])
def test_size_and_place_of_a_drawing_do_not_matter(hand: str) -> None:
    near = read_strokes(SEVEN, hand)
    far = read_strokes([[[5 * x + 300, 5 * y - 20] for x, y in stroke] for stroke in SEVEN], hand)
    assert near.shape == (1, 32, 32)
    assert near.dtype == torch.uint8
    assert (near.float() - far.float()).abs().max() <= 64  # a pixel's quarter


def test_as_in_mnist_the_mass_is_in_the_middle_of_a_box_of_twenty() -> None:
    ink = read_strokes(SEVEN, "mnist")[0].double()
    places = torch.arange(32, dtype=torch.float64) + 0.5
    assert float((ink.sum(0) * places).sum() / ink.sum()) == pytest.approx(16, abs=0.3)
    assert float((ink.sum(1) * places).sum() / ink.sum()) == pytest.approx(16, abs=0.3)
    rows = (ink.sum(1) > 0).nonzero()[:, 0]
    assert 19 <= int(rows[-1] - rows[0]) + 1 <= 21


@pytest.mark.parametrize("hand", ["digits", "mnist"])
def test_ink_is_as_much_as_in_the_data(hand: str) -> None:
    # MNIST's mean intensity is 0.1307 on 28 x 28 pixels.
    expected = 0.1307 * (28 / 32) ** 2 if hand == "mnist" else load_dataset("digits").scale.mean[0]
    drawn = [SEVEN, [[[0, 0], [0, 9], [5, 9], [5, 0], [0, 0]]], [[[0, 0], [6, 3], [0, 6]], [[0, 6], [6, 9], [0, 12]]]]
    mean = sum(float(read_strokes(each, hand).float().mean()) / 255 for each in drawn) / len(drawn)
    assert 0.6 * expected < mean < 1.6 * expected


def test_a_dot_is_a_drawing() -> None:
    assert int(read_strokes([[[5, 5]]], "digits").max()) > 0


@pytest.mark.parametrize(
    "given", [None, [], [[]], "strokes", [[["a", "b"]]], [[[1, 2, 3]]], [[[1, float("nan")]]], [[[1e9, 0]]]]
)
def test_what_is_no_drawing_is_told(given: object) -> None:
    with pytest.raises(InputError, match="expected strokes"):
        read_strokes(given, "digits")


def test_limits() -> None:
    with pytest.raises(InputError, match="at most"):
        read_strokes([[[i, i] for i in range(5000)]], "digits")
    with pytest.raises(InputError, match="reads no digits"):
        read_strokes(SEVEN, None)
