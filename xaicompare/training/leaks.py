"""Test images among training images: found by what they show, however they were normalised."""

from functools import lru_cache

import torch
from torch import Tensor

from xaicompare.draws import generator
from xaicompare.errors import DataError
from xaicompare.zoo.images import Images

_CHUNK = 1024


def digests(images: Images) -> Tensor:
    """A number for what each image shows, (n,) int64: equal pixels have equal ones, whatever their normalisation.

    The sum of an image's pixels (whole numbers from 0 to 255) times random numbers, modulo 2^64. Images of one shape
    that differ anywhere have the same with probability 2^-57 at most.
    """
    parts = [_digests(images, where) for where in torch.arange(len(images)).split(_CHUNK)]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)


def _digests(images: Images, where: Tensor) -> Tensor:
    pixels = images.scale.pictures(images.batch(where)[0]).mul(255).round().to(torch.int64).flatten(1)  # (n, pixels)
    ends = torch.iinfo(torch.int64)
    factors = torch.randint(ends.min, ends.max, pixels.shape[1:], generator=generator(0)).to(pixels.device)
    return (pixels * factors).sum(1).cpu()


_of_test = lru_cache(maxsize=1)(digests)  # all trainings of an experiment share their test images


def check_apart(train: Images, test: Images) -> None:
    """Makes sure that no test image is among the training images.

    Raises:
        DataError: one is; the message says how many, and where the first one stands.
    """
    leaked = torch.isin(digests(train), _of_test(test))
    if bool(leaked.any()):
        raise DataError(
            f"{int(leaked.sum())} of {len(train)} training images are test images, first number "
            f"{int(leaked.nonzero()[0])}; expected none. Take them out: what was trained on can't be tested on."
        )
