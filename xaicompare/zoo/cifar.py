"""CIFAR-10 in two forms: the original, or a copy as JPEG files, which is decoded once."""

import hashlib
import lzma
import tarfile
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import cast

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.datasets import CIFAR10
from torchvision.transforms.functional import pil_to_tensor

from xaicompare.draws import generator
from xaicompare.errors import DataError, SettingError, unknown
from xaicompare.files import replacing
from xaicompare.progress import progress
from xaicompare.zoo.images import Dataset, ImageArray, Scale
from xaicompare.zoo.places import cache_root, root_with, roots_with

_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SCALE = Scale(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
_ARCHIVE = "cifar10-jpeg.tar.xz"
_PARTS = ("train", "test")


def cifar10(classes: tuple[str, ...] | None = None, download: bool = False) -> Dataset:
    """50,000 + 10,000 photographs of 32 x 32 pixels in ten classes (Krizhevsky, 2009).

    The original where it is present, else its copy as JPEG files, whose pixels are not quite the same: the name of the
    data set says which it is.

    Args:
        classes: only the images of these classes, numbered in this order; None: all ten.
        download: fetch the original where neither is present, into the cache.
    """
    copies = [root / _ARCHIVE for root in roots_with([_ARCHIVE])]
    if copies and not roots_with([CIFAR10.base_folder]):
        return _only(classes, _jpeg_copy(copies[0]))
    what = f"CIFAR-10 (or else {_ARCHIVE})"
    return _only(classes, _original(root_with([CIFAR10.base_folder], what, fetch=_fetch if download else None)))


def _only(classes: tuple[str, ...] | None, whole: Dataset) -> Dataset:
    """The images of some classes."""
    if classes is None:
        return whole
    for name in classes:
        if name not in _CLASSES:
            raise unknown("class of CIFAR-10", name, _CLASSES)
    if len(set(classes)) < max(2, len(classes)):
        raise SettingError(f"cifar10: classes={list(classes)}; expected at least two different ones.")
    numbers = torch.tensor([_CLASSES.index(name) for name in classes])
    train, test = (_relabelled(cast(ImageArray, part), numbers) for part in (whole.train, whole.test))
    name = f"{whole.name}, {', '.join(classes)}"
    return replace(whole, name=name, classes=classes, train=train, test=test)


def _relabelled(images: ImageArray, numbers: Tensor) -> ImageArray:
    """The images whose labels are among the numbers; they become the places there."""
    found = images.labels[:, None] == numbers  # (n, classes)
    kept = images.subset(found.any(1).nonzero()[:, 0])
    return replace(kept, labels=found[found.any(1)].int().argmax(1))


def _fetch(root: Path) -> None:
    CIFAR10(root, download=True)


def _original(root: Path) -> Dataset:
    train, test = (_original_part(root, train=train) for train in (True, False))
    return Dataset("cifar10", _CLASSES, _SCALE, train, test)


def _original_part(root: Path, *, train: bool) -> ImageArray:
    try:
        images = CIFAR10(root, train=train)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{root / CIFAR10.base_folder} can't be read ({error}); expected the batches of CIFAR-10 for Python. "
            "Unpack them anew, or remove the folder."
        ) from error
    pixels = torch.from_numpy(images.data).permute(0, 3, 1, 2).contiguous()  # (n, 3, 32, 32)
    return ImageArray(pixels, torch.tensor(images.targets), _SCALE)


def _jpeg_copy(archive: Path) -> Dataset:
    # The digest in the name of the decoded file: another archive is decoded anew.
    digest = hashlib.blake2b(archive.read_bytes(), digest_size=6).hexdigest()
    decoded = cache_root() / f"cifar10-jpeg-{digest}.safetensors"
    if not decoded.exists():
        with replacing(decoded) as temporary:
            save_file(_decoded(archive), temporary)
    tensors = load_file(decoded)
    train, test = (ImageArray(tensors[part], tensors[f"{part}-labels"], _SCALE) for part in _PARTS)
    return Dataset("cifar10 (JPEG copy)", _CLASSES, _SCALE, train, test)


def _decoded(archive: Path) -> dict[str, Tensor]:
    """Pixels (n, 3, 32, 32) and labels (n,) of both parts, in a fixed random order."""
    try:
        found = _images_in(archive)
        tensors = {part: (torch.stack(images), torch.tensor(labels)) for part, (images, labels) in found.items()}
    except (tarfile.TarError, lzma.LZMAError, OSError, EOFError, LookupError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{archive} can't be decoded ({type(error).__name__}: {error}); expected train/<class>/NNNN.jpg and "
            f"test/<class>/NNNN.jpg, where the classes are {', '.join(_CLASSES)}. Fetch it anew."
        ) from error
    shuffled: dict[str, Tensor] = {}
    for part, (pixels, labels) in tensors.items():
        # The archive goes class by class; shuffled, its first images are a fair sample, as they are in the original.
        order = torch.randperm(len(pixels), generator=generator(0))
        shuffled |= {part: pixels[order], f"{part}-labels": labels[order]}
    return shuffled


def _images_in(archive: Path) -> dict[str, tuple[list[Tensor], list[int]]]:
    """The images and labels of `<part>/<class>/NNNN.jpg`, by part."""
    found: dict[str, tuple[list[Tensor], list[int]]] = {part: ([], []) for part in _PARTS}
    with tarfile.open(archive) as files:
        for member in progress(files, f"decoding {archive.name}, this once", unit=" files"):
            if content := files.extractfile(member):
                part, name = PurePosixPath(member.name).parts[-3:-1]
                images, labels = found[part]
                images.append(pil_to_tensor(Image.open(content).convert("RGB")))
                labels.append(_CLASSES.index(name))
    return found
