"""The nouns of data: a Dataset, its Images, and the Scale between pixels and what a network takes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from xaicompare.draws import generator
from xaicompare.errors import DataError, InputError

Indices = Tensor | Sequence[int]
"""Which images: (n,) whole numbers from 0 up."""


@dataclass(frozen=True)
class Scale:
    """Pixels to inputs and back: each channel less its mean, in units of its standard deviation.

    Mean and standard deviation count pixels from 0 (black) to 1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def low(self) -> tuple[float, ...]:
        """The least value of a valid input, per channel: a black pixel."""
        return tuple((0 - mean) / std for mean, std in zip(self.mean, self.std, strict=True))

    @property
    def high(self) -> tuple[float, ...]:
        """The greatest value of a valid input, per channel: a white pixel."""
        return tuple((1 - mean) / std for mean, std in zip(self.mean, self.std, strict=True))

    def normalised(self, pixels: Tensor) -> Tensor:
        """Inputs (n, c, h, w) float32 from pixels (n, c, h, w) uint8.

        Raises:
            InputError: pixels of another type, or with another number of channels.
        """
        if pixels.dtype != torch.uint8 or pixels.shape[-3:-2] != (len(self.mean),):
            raise InputError(
                f"pixels are {pixels.dtype} of shape {tuple(pixels.shape)}; "
                f"expected uint8 (n, {len(self.mean)}, h, w), from 0 to 255."
            )
        return pixels.to(torch.float32).div_(255).sub_(_column(self.mean, pixels)).div_(_column(self.std, pixels))

    def pictures(self, inputs: Tensor) -> Tensor:
        """Pixels from 0 to 1, for showing: inputs (n, c, h, w) with the normalisation undone."""
        pixels = inputs.detach() * _column(self.std, inputs) + _column(self.mean, inputs)
        return pixels.clamp(0, 1)


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None, None]  # (c, 1, 1)


class Images(ABC):
    """Labelled images, one part of a data set; `batch` gives them as a network takes them."""

    labels: Tensor  # (n,) int64
    scale: Scale  # how pixels became what `batch` gives

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Normalised images (n, c, h, w) float32 and their labels (n,), in the order of the indices."""

    @abstractmethod
    def subset(self, indices: Indices) -> Self:
        """Only these images, in the order of the indices."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """The same images, whose batches come on that device."""

    def masks(self, indices: Indices) -> Tensor | None:
        """Where what decides the class lies, (n, h, w) bool, in the order of the indices; None where nobody knows."""
        return None

    def drawn(self, n: int, seed: int) -> Self:
        """A fair sample of n images without replacement, in the order in which the seed draws them.

        Of two samples with one seed, the smaller is the beginning of the larger.

        Raises:
            DataError: there are fewer images than that.
        """
        if n > len(self):
            raise DataError(f"{n} images are asked for; expected at most {len(self)}, which is all there are.")
        return self.subset(torch.randperm(len(self), generator=generator(seed))[:n])


@dataclass(frozen=True, eq=False)
class ImageArray(Images):
    """Images in memory, as bytes."""

    pixels: Tensor  # (n, c, h, w) uint8
    labels: Tensor  # (n,) int64
    scale: Scale
    decisive: Tensor | None = None  # (n, h, w) bool, True where what decides the class lies

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Normalised images (n, c, h, w) float32 and their labels (n,), in the order of the indices."""
        chosen = self.subset(indices)
        return self.scale.normalised(chosen.pixels), chosen.labels

    def subset(self, indices: Indices) -> Self:
        """Only these images, in the order of the indices."""
        where = torch.as_tensor(indices, dtype=torch.int64, device=self.pixels.device)
        decisive = None if self.decisive is None else self.decisive[where]
        return replace(self, pixels=self.pixels[where], labels=self.labels[where], decisive=decisive)

    def to(self, device: torch.device | str) -> Self:
        """The same images, stored on that device."""
        decisive = None if self.decisive is None else self.decisive.to(device)
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device), decisive=decisive)

    def masks(self, indices: Indices) -> Tensor | None:
        """Where what decides the class lies, (n, h, w) bool, in the order of the indices; None where nobody knows."""
        return self.subset(indices).decisive


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images to train on and images to explain and judge by, with the names of their classes."""

    name: str  # what results say: "cifar10 (JPEG copy)"
    classes: tuple[str, ...]
    scale: Scale
    train: Images  # empty where a data set is for explaining only
    test: Images
    note: str = ""  # what was done to the images that a reader of results should know

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return len(self.scale.mean)

    def __repr__(self) -> str:
        return f"Dataset({self.name}, train={len(self.train)}, test={len(self.test)}, classes={len(self.classes)})"
