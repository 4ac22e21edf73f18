"""Mosaics: several images side by side, of which the class to explain is in some tiles and in no other."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from xaicompare.draws import generator
from xaicompare.settings import Count, Seed
from xaicompare.zoo._common import Base, base_of
from xaicompare.zoo.images import Dataset, ImageArray

_TILES = 4  # two by two


def mosaic(
    base: Base = "digits",
    images: Count = 500,
    tiles: Literal[1, 2] = 2,
    shrink: bool = False,
    seed: Seed = 0,
    download: bool = False,
) -> Dataset:
    """Four test images of another data set, two by two; some are of the class to explain, the others are not.

    The train part is the other data set's own, single images, so a model is trained as usual. A mosaic has twice their
    side: networks that end in global pooling take it. Masks are the tiles of the label's class. A model may predict
    another class that is there: explain the label.

    Args:
        base: where the tiles come from.
        images: how many mosaics there are.
        tiles: how many of the four are of the label's class.
        shrink: halve the tiles' side, so that a mosaic is as large as an image of the base.
        download: fetch the base where it is absent, into the cache.

    >>> made = mosaic(images=20)
    >>> made.test.batch([0])[0].shape, made.test.masks([0]).float().mean()
    (torch.Size([1, 1, 64, 64]), tensor(0.5000))

    Raises:
        DataError: the base is absent, or can't be read.

    Source: Arias-Duart, Pares, Garcia-Gasulla, Gimenez-Abalos 2022, arXiv:2109.15035 (the mosaics of Focus).
    Differs: one tile on request; half the size on request. Their score is `relevance_mass` on these masks.
    """
    source, _, singles = base_of(base, download=download)
    test = _mosaics(_halved(singles) if shrink else singles, images, tiles, generator(seed))
    return replace(source, name=f"mosaic ({source.name})", test=test)


def _mosaics(source: ImageArray, count: int, tiles: int, draws: torch.Generator) -> ImageArray:
    labels, chosen = _chosen(source.labels, count, tiles, draws)
    place = torch.rand((count, _TILES), generator=draws).argsort(1)  # which of the chosen lies where
    pixels = source.pixels[chosen.gather(1, place)]  # (n, 4, c, h, w)
    decisive = (place < tiles)[:, :, None, None, None].expand(-1, -1, 1, *pixels.shape[3:])
    return replace(source, pixels=_joined(pixels), labels=labels, decisive=_joined(decisive)[:, 0])


def _chosen(classes: Tensor, count: int, tiles: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """The labels (count,), each class as often as any, and the images of each mosaic (count, 4), the label's first."""
    present = classes.unique()
    labels = present[torch.randperm(count, generator=draws) % len(present)]
    chosen = []
    for label in labels:
        own, other = (((classes == label) == side).nonzero()[:, 0] for side in (True, False))
        chosen.append(torch.cat([_some(own, tiles, draws), _some(other, _TILES - tiles, draws)]))
    return labels, torch.stack(chosen)


def _some(indices: Tensor, count: int, draws: torch.Generator) -> Tensor:
    return indices[torch.randperm(len(indices), generator=draws)[:count]]


def _joined(tiles: Tensor) -> Tensor:
    """Four tiles (n, 4, c, h, w) as one image (n, c, 2h, 2w), in reading order."""
    rows = tiles.unflatten(1, (2, 2))  # (n, row, column, c, h, w)
    return rows.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def _halved(images: ImageArray) -> ImageArray:
    """The images at half their side: every pixel is the mean of four."""
    return replace(images, pixels=avg_pool2d(images.pixels.float(), 2).round().to(torch.uint8))
