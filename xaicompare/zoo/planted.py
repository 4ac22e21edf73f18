"""Images whose class a small planted patch decides, so that it is known what an explanation has to find."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from xaicompare.draws import generator
from xaicompare.settings import Count, Seed, Share
from xaicompare.zoo._common import Base, base_of
from xaicompare.zoo.images import Dataset, ImageArray

SIDE = 6
"""Of a patch, in pixels."""

_ROW, _COLUMN = torch.arange(SIDE)[:, None], torch.arange(SIDE)

CUE = 3
"""The side of a cue, in pixels."""

GLYPHS = {
    "rows": _ROW % 2 + 0 * _COLUMN,
    "columns": 0 * _ROW + _COLUMN % 2,
    "checks": (_ROW + _COLUMN) % 2,
    "rising": (_ROW + _COLUMN) % 4 // 2,
    "falling": (_ROW - _COLUMN) % 4 // 2,
    "bricks": (_ROW + _COLUMN // 2) % 2,
}
"""The patches by class, (6, 6) of 0 (black) and 1 (white).

Of each, 17 or 18 pixels are white, half of any 4 x 4 among them: neither mean nor blur tells which it is.
"""


def planted(
    base: Base = "digits",
    train: Count = 4000,
    test: Count = 500,
    distractors: Literal[0, 1, 2, 3, 4] = 1,
    without: Share = 0.2,
    holes: Share = 0.5,
    cue: Literal["none", "train", "everywhere"] = "none",
    seed: Seed = 0,
    download: bool = False,
) -> Dataset:
    """Images of another data set, each with a patch of 6 x 6 pixels at a random place; the patch alone is the class.

    The backgrounds' own labels are not looked at. Masks are the places of the patches. What removal leaves of an image
    is nothing new to a model trained on these: a part of the training images has no patch, and any class, and all have
    pixels removed elsewhere. Else it would be sure of another class where the patch is gone.

    Args:
        base: where the backgrounds come from; train from its train part, test from its test part, in turn.
        train: how many images there are to train on.
        test: how many there are to explain and judge by.
        distractors: patches beside it, in train and test, whose 18 white pixels lie at random: as striking, and without
            meaning.
        without: the share of the training images without a patch; their classes are drawn at random.
        holes: up to this share of a training image's pixels, outside the patch, are replaced by the image's mean.
        cue: "train": a white square of 3 x 3 pixels at the upper rim tells the class of every training image by its
            place, on test images the place is drawn at random: who learnt it is misled. "everywhere": it tells the
            class of test images, too. It is not in the masks, and a patch may cover it.
        download: fetch the base where it is absent, into the cache.

    >>> made = planted(train=100, test=20)
    >>> made
    Dataset(planted (digits), train=100, test=20, classes=6)
    >>> made.test.masks([3, 5]).sum((1, 2))
    tensor([36, 36])

    Raises:
        DataError: the base is absent, or can't be read.
    """
    source, train_images, test_images = base_of(base, download=download)
    draws = generator(2 * seed)
    lessons = _planted(train_images, train, round(without * train), distractors, draws)
    exam = _planted(test_images, test, 0, distractors, generator(2 * seed + 1))
    if cue != "none":
        told = exam.labels if cue == "everywhere" else torch.randint(len(GLYPHS), (test,), generator=generator(seed))
        lessons, exam = _cued(lessons, lessons.labels), _cued(exam, told)
    return replace(
        source,
        name=f"planted ({source.name})",
        classes=tuple(GLYPHS),
        train=_holed(lessons, holes, draws),
        test=exam,
    )


def _planted(backgrounds: ImageArray, count: int, blank: int, distractors: int, draws: torch.Generator) -> ImageArray:
    """So many backgrounds, all but the first few of them with a patch, all with distractors."""
    rounds = -(-count // len(backgrounds))
    order = torch.cat([torch.randperm(len(backgrounds), generator=draws) for _ in range(rounds)])[:count]
    pixels = backgrounds.pixels[order]  # (n, c, h, w), a copy
    labels = torch.arange(count)[torch.randperm(count, generator=draws)] % len(GLYPHS)
    height, width = pixels.shape[-2:]
    first, *others = _places(count, 1 + distractors, height - SIDE + 1, width - SIDE + 1, draws)
    for place in others:
        shuffled = torch.rand((count, SIDE * SIDE), generator=draws).argsort(1) % 2
        _put(pixels, place, 255 * shuffled.view(count, 1, SIDE, SIDE))
    glyphs = torch.stack(list(GLYPHS.values()))[labels][:, None]
    decisive = torch.zeros((count, height, width), dtype=torch.bool)
    planted_in = slice(blank, None)
    _put(pixels[planted_in], first[planted_in], 255 * glyphs[planted_in])
    _put(decisive[planted_in, None], first[planted_in], torch.ones_like(glyphs[planted_in]))
    return replace(backgrounds, pixels=pixels, labels=labels, decisive=decisive)


def _cued(images: ImageArray, classes: Tensor) -> ImageArray:
    """The images with a white square, as far as the patch leaves room, at the place that stands for a class (n,)."""
    assert images.decisive is not None
    pixels, width = images.pixels.clone(), images.pixels.shape[-1]
    columns = (classes * (width - CUE) // (len(GLYPHS) - 1))[:, None] + torch.arange(CUE)  # (n, side)
    square = torch.zeros_like(images.decisive)
    square[torch.arange(len(pixels))[:, None, None], torch.arange(CUE)[:, None], columns[:, None]] = True
    return replace(images, pixels=pixels.masked_fill_((square & ~images.decisive)[:, None], 255))


def _holed(images: ImageArray, most: float, draws: torch.Generator) -> ImageArray:
    """The images with a share of their pixels, 0 to `most`, replaced by the channel means; the patch stays whole."""
    assert images.decisive is not None
    count, _, height, width = images.pixels.shape
    share = most * torch.rand((count, 1, 1), generator=draws)
    gone = (torch.rand((count, height, width), generator=draws) < share) & ~images.decisive
    means = images.pixels.float().mean((2, 3), keepdim=True).round().to(torch.uint8)
    return replace(images, pixels=torch.where(gone[:, None], means, images.pixels))


def _places(n: int, count: int, rows: int, columns: int, draws: torch.Generator) -> list[Tensor]:
    """Upper left corners of patches that don't overlap: `count` times (n, 2), row and column."""
    keys = torch.rand((n, rows, columns), generator=draws)
    found: list[Tensor] = []
    for _ in range(count):
        best = keys.flatten(1).argmax(1)
        row, column = best // columns, best % columns
        near_row = (torch.arange(rows) - row[:, None]).abs() < SIDE  # (n, rows)
        near_column = (torch.arange(columns) - column[:, None]).abs() < SIDE  # (n, columns)
        keys.masked_fill_(near_row[:, :, None] & near_column[:, None, :], -1)
        found.append(torch.stack([row, column], 1))
    return found


def _put(onto: Tensor, place: Tensor, patches: Tensor) -> None:
    """Writes patches (n, 1, side, side) over images (n, c, h, w), in place."""
    image = torch.arange(len(onto))[:, None, None]
    rows, columns = place[:, :1, None] + _ROW, place[:, 1:, None] + _COLUMN  # (n, side, 1), (n, 1, side)
    onto[image, :, rows, columns] = patches.movedim(1, -1).to(onto.dtype).expand(-1, -1, -1, onto.shape[1])
