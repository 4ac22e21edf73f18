"""Data sets by name: what a study file may call for, and how each is read."""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad
from torchvision.datasets import MNIST

from xaicompare.errors import DataError
from xaicompare.registry import DATASETS
from xaicompare.zoo._common import checked_settings
from xaicompare.zoo.cifar import cifar10
from xaicompare.zoo.folders import folder
from xaicompare.zoo.images import Dataset, ImageArray, Scale
from xaicompare.zoo.mosaic import mosaic
from xaicompare.zoo.places import root_with
from xaicompare.zoo.planted import planted

_DIGITS = tuple("0123456789")
_MNIST_PARTS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def load_dataset(name: str, **settings: object) -> Dataset:
    """The data set of that name, with its settings.

    >>> load_dataset("digits")
    Dataset(digits, train=1297, test=500, classes=10)

    Raises:
        UnknownNameError: no such data set, or no such setting of it.
        SettingError: a setting of the wrong type or out of range.
        DataError: its files are not there, or can't be read; the message says where they belong.
    """
    maker = DATASETS[name]
    return cast(Dataset, maker(**checked_settings(name, maker, settings)))


def digits() -> Dataset:
    """1,797 handwritten digits of 8 x 8 pixels, enlarged to 32 x 32; they come with scikit-learn, so they always load.

    Always the same 1,297 train and the same 500 test, with all classes in proportion.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    small = torch.from_numpy(bunch.images)[:, None]  # (n, 1, 8, 8), from 0 to 16
    pixels = interpolate(small * (255 / 16), size=(32, 32), mode="bilinear").round().to(torch.uint8)
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    parts = train_test_split(range(len(labels)), test_size=500, stratify=labels, random_state=0)
    scale = Scale(mean=(0.3052,), std=(0.3235,))  # of the enlarged training images
    train, test = (ImageArray(pixels[part], labels[part], scale) for part in parts)
    return Dataset("digits", _DIGITS, scale, train, test)


def mnist(download: bool = False) -> Dataset:
    """60,000 + 10,000 handwritten digits (LeCun et al., 1998), padded with black from 28 x 28 to 32 x 32 pixels.

    Args:
        download: fetch the files where they are absent, into the cache.
    """
    files = [f"MNIST/raw/{part}-ubyte" for part in _MNIST_PARTS]
    root = root_with(files, "MNIST", fetch=_fetch_mnist if download else None)
    scale = Scale(mean=(0.1307,), std=(0.3081,))  # the customary ones, of the images before padding
    train, test = (_mnist_part(root, scale, train=train) for train in (True, False))
    return Dataset("mnist", _DIGITS, scale, train, test)


def _mnist_part(root: Path, scale: Scale, *, train: bool) -> ImageArray:
    try:
        images = MNIST(root, train=train)
    except (RuntimeError, OSError, ValueError, AssertionError) as error:
        raise DataError(
            f"{root / 'MNIST'} can't be read ({error}); expected the published files. Fetch them anew."
        ) from error
    pixels: Tensor = pad(images.data, (2, 2, 2, 2))[:, None]  # (n, 1, 32, 32)
    return ImageArray(pixels, images.targets, scale)


def _fetch_mnist(root: Path) -> None:
    MNIST(root, download=True)


for _maker in (digits, mnist, cifar10, folder, planted, mosaic):
    DATASETS.add(_maker.__name__, _maker)
