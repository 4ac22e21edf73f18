"""Images in whatever form a person has them, as a data set to explain: tensors, pictures, paths, folders, datasets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from xaicompare.boundary import finite
from xaicompare.draws import generator
from xaicompare.errors import InputError
from xaicompare.zoo.classes import UNKNOWN
from xaicompare.zoo.folders import INDEX, by_folder, images_below, indexed
from xaicompare.zoo.images import Dataset, Images, Indices, Scale
from xaicompare.zoo.opening import opened
from xaicompare.zoo.places import located
from xaicompare.zoo.preprocessing import Preprocess

_PICTURES = ("image", "img", "pixel_values", "picture")  # what columns of images are called, the likeliest first
_LABELS = ("label", "labels", "fine_label", "target", "class")


@dataclass(frozen=True, eq=False)
class GivenImages(Images):
    """Images in memory as the network takes them."""

    inputs: Tensor  # (n, c, h, w) floating point
    labels: Tensor  # (n,) int64, `zoo.classes.UNKNOWN` where nobody knows
    scale: Scale

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Inputs (n, c, h, w) and their labels (n,), in the order of the indices."""
        chosen = self.subset(indices)
        return chosen.inputs, chosen.labels

    def subset(self, indices: Indices) -> Self:
        """Only these images, in the order of the indices."""
        where = torch.as_tensor(indices, dtype=torch.int64, device=self.inputs.device)
        return replace(self, inputs=self.inputs[where], labels=self.labels[where])

    def to(self, device: torch.device | str) -> Self:
        """The same images, stored on that device."""
        return replace(self, inputs=self.inputs.to(device), labels=self.labels.to(device))


class Source(NamedTuple):
    """Images one by one, before they are looked at."""

    items: Sequence[Any]  # of each, what `_item` takes
    labels: Sequence[int] | None
    names: tuple[str, ...] | None  # of classes, if the source tells
    name: str
    folders: bool = False  # whether labels are numbers of class folders


def given_dataset(
    images: object,
    *,
    labels: Sequence[int] | Tensor | None,
    classes: Sequence[str] | None,
    preprocess: Preprocess | None,
    most: int,
    extra: int = 0,
    seed: int = 0,
    shuffled: bool = True,
) -> Dataset:
    """At most so many images, drawn by the seed, as a data set whose test part they are.

    Args:
        images: a tensor (n, c, h, w) as the network takes it; an array (n, c, h, w) of floating point, or pictures
            (n, h, w, 3) uint8; a list of PIL images, paths or tensors; a folder; a Dataset or DataLoader of images or
            (image, label); a split of Hugging Face's datasets.
        labels: (n,) true classes; None: those that come with the images, if any do.
        classes: names of the network's classes; None: those that come with the images, or numbers.
        preprocess: from a picture to an input. None: images must be inputs already.
        shuffled: False: the first ones, in their order.
        extra: how many more are kept as the training part, for methods that compare with references.

    Raises:
        InputError: nothing that can be read as images, labels that don't fit, or images of several sizes.
        DataError: a file is missing or is no image.
    """
    source = _source(images, most + extra)
    known = source.labels if labels is None else _checked_labels(labels, len(source.items))
    names = source.names if classes is None else tuple(map(str, classes))
    known, names, note = _matched(source, known, names, classes, labels is not None)
    order = _drawn(len(source.items), most, extra, seed if shuffled else None)
    found = [_item(source.items[place], preprocess, place, source.name) for place in order]
    inputs = _stacked([tensor for tensor, _ in found], source.name)
    inside = [label for _, label in found]
    told = (
        [UNKNOWN if each is None else each for each in inside] if known is None else [known[place] for place in order]
    )
    chosen = torch.tensor(told, dtype=torch.int64)
    if (chosen == UNKNOWN).any():
        chosen = torch.full_like(chosen, UNKNOWN)
    scale = (None if preprocess is None else preprocess.scale) or _seen_scale(inputs)
    if len(scale.mean) != inputs.shape[1]:
        scale = _seen_scale(inputs)
    whole = GivenImages(inputs, chosen, scale)
    count = min(most, len(order))
    parts = whole.subset(range(count, len(order))), whole.subset(range(count))
    return Dataset(source.name, names or (), scale, *parts, note)


def _drawn(n: int, most: int, extra: int, seed: int | None) -> list[int]:
    """Which images of n: those that are explained in their own order, so that image 3 is the third, then the extra."""
    if seed is None or n <= most:
        return list(range(min(n, most)))
    drawn: list[int] = torch.randperm(n, generator=generator(seed)).tolist()
    return sorted(drawn[:most]) + drawn[most : most + extra]


def _matched(
    source: Source,
    labels: Sequence[int] | None,
    names: tuple[str, ...] | None,
    classes: Sequence[str] | None,
    own: bool,
) -> tuple[Sequence[int] | None, tuple[str, ...] | None, str]:
    """Labels by class folders are matched with the network's classes by name; without that nobody knows them."""
    if not source.folders or own or labels is None or source.names is None:
        return labels, names, ""
    if classes is None:
        return labels, names, ""
    plain = {_plain(name): place for place, name in enumerate(map(str, classes))}
    numbers = [plain.get(_plain(name), UNKNOWN) for name in source.names]
    if UNKNOWN not in numbers:
        return [numbers[label] for label in labels], names, ""
    lost = source.names[numbers.index(UNKNOWN)]
    note = (
        f"The class folder {lost!r} of {source.name} is none of the network's classes; the true classes are unknown, "
        "and accuracy is left out."
    )
    return None, names, note


def _plain(name: str) -> str:
    return "".join(name.replace("_", " ").split()).casefold()


def _source(images: object, most: int) -> Source:
    """The images, before any of them is opened."""
    if isinstance(images, (str, Path)):
        return _folder(Path(images))
    if isinstance(images, Tensor):
        return _tensor(images)
    if isinstance(images, np.ndarray):
        return _array(images)
    if isinstance(images, DataLoader):
        return _loader(images, most)
    if hasattr(images, "features") and hasattr(images, "column_names"):
        return _split(images)
    if isinstance(images, Image.Image):
        return Source([images], None, None, "one image")
    if hasattr(images, "__getitem__") and hasattr(images, "__len__") and not isinstance(images, Mapping):
        items: Any = images
        names = getattr(images, "classes", None)
        plain = isinstance(images, (list, tuple))
        name = "given images" if plain else type(images).__name__
        if not len(items):
            raise InputError(f"{name} is empty; expected at least one image.")
        return Source(items, None, None if names is None or plain else tuple(map(str, names)), name)
    raise InputError(
        f"images are a {type(images).__name__}; expected a tensor, an array, a list of pictures or paths, a folder, a "
        "Dataset, a DataLoader, or a split of Hugging Face's datasets."
    )


def _folder(path: Path) -> Source:
    root = located(path, "folder of images")
    if root.is_file():
        return Source([root], None, None, root.name)
    if (root / INDEX).is_file():
        paths, labels, names = indexed(root)
        return Source(paths, labels, names, root.name)
    flat = sorted(each for each in images_below(root) if each.parent == root)
    if flat:
        return Source(flat, None, None, root.name)
    paths, labels, names = by_folder(root, None)
    return Source(paths, labels, names, root.name, folders=True)


def _tensor(images: Tensor) -> Source:
    given = images[None] if images.ndim == 3 else images
    if given.ndim != 4 or not len(given):
        raise InputError(f"images have shape {tuple(images.shape)}; expected (n, c, h, w).")
    return Source(list(given), None, None, "given images")


def _array(images: np.ndarray[Any, Any]) -> Source:
    given = images[None] if images.ndim == 3 and images.dtype != np.uint8 else images
    if given.dtype == np.uint8 and given.ndim in (3, 4) and (given.ndim == 3 or given.shape[-1] in (1, 3, 4)):
        pictures = [Image.fromarray(each.squeeze(-1) if each.shape[-1] == 1 else each) for each in given]
        return Source(pictures, None, None, "given images")
    if given.ndim == 4 and np.issubdtype(given.dtype, np.floating):
        return _tensor(torch.from_numpy(given))
    raise InputError(
        f"images are an array of {images.dtype} with shape {images.shape}; expected floating point (n, c, h, w), or "
        "pictures (n, h, w, 3) of uint8."
    )


def _loader(images: "DataLoader[Any]", most: int) -> Source:
    """The first images that a loader gives; it can't be asked for others."""

    def each() -> Iterator[tuple[Tensor, int | None]]:
        for batch in images:
            pixels, labels = _apart(batch)
            if not isinstance(pixels, Tensor) or pixels.ndim != 4:
                raise InputError(f"the DataLoader gave {type(pixels).__name__}; expected batches (n, c, h, w).")
            for place, pixel in enumerate(pixels):
                yield pixel, None if labels is None else int(labels[place])

    items = list(islice(each(), most))
    if not items:
        raise InputError("the DataLoader is empty; expected at least one batch of images.")
    return Source(items, None, None, type(images.dataset).__name__)


def _split(images: Any) -> Source:
    """A split of Hugging Face's datasets."""
    columns = list(images.column_names)
    picture = next((name for name in _PICTURES if name in columns), None)
    label = next((name for name in _LABELS if name in columns), None)
    if picture is None:
        raise InputError(f"the data set has the columns {', '.join(map(str, columns))}; expected one named image.")
    names = getattr(images.features.get(label), "names", None) if label is not None else None
    items = _Rows(images, picture, label)
    name = getattr(images, "builder_name", None) or "given data set"
    return Source(items, None, None if names is None else tuple(map(str, names)), str(name))


class _Rows(Sequence[Any]):
    """Rows of a table as (image, label), read when they are asked for."""

    def __init__(self, table: Any, picture: str, label: str | None) -> None:
        self.table, self.picture, self.label = table, picture, label

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, place: Any) -> Any:
        row = self.table[place]
        return row[self.picture] if self.label is None else (row[self.picture], row[self.label])


def _apart(item: Any) -> tuple[Any, Any]:
    """Image and label of what a data set gives."""
    if isinstance(item, Mapping):
        picture = next((item[name] for name in _PICTURES if name in item), None)
        label = next((item[name] for name in _LABELS if name in item), None)
        return picture, label
    if isinstance(item, (tuple, list)) and len(item) >= 1:
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def _item(item: Any, preprocess: Preprocess | None, place: int, name: str) -> tuple[Tensor, int | None]:
    """One image as the network takes it, (c, h, w), and its label if that came along."""
    given, label = _apart(item)
    if isinstance(given, (str, Path)):
        given = opened(located(given, "image file"), "RGB")
    if isinstance(given, np.ndarray):
        given = Image.fromarray(given) if given.dtype == np.uint8 else torch.from_numpy(given)
    if isinstance(given, Tensor) and given.is_floating_point():
        if given.ndim != 3:
            raise InputError(f"image {place} of {name} has shape {tuple(given.shape)}; expected (c, h, w).")
        return given.float(), _number(label)
    if isinstance(given, Tensor) and given.dtype == torch.uint8 and given.ndim == 3:
        given = Image.fromarray(given.permute(1, 2, 0).squeeze(-1).numpy())
    if not isinstance(given, Image.Image):
        raise InputError(f"image {place} of {name} is a {type(given).__name__}; expected a picture or a tensor.")
    if preprocess is None:
        raise InputError(
            f"image {place} of {name} is a picture, and nobody told how the network takes pictures; expected "
            "preprocess=, a function from a PIL image to a tensor (c, h, w), such as torchvision.transforms.Compose("
            "[Resize(256), CenterCrop(224), ToTensor(), Normalize(mean, std)])."
        )
    return preprocess(given.convert("RGB") if given.mode not in ("L", "RGB") else given), _number(label)


def _number(label: Any) -> int | None:
    return None if label is None else int(label)


def _stacked(inputs: list[Tensor], name: str) -> Tensor:
    shapes = {tuple(each.shape) for each in inputs}
    if len(shapes) > 1:
        told = " and ".join(map(str, sorted(shapes)[:2]))
        raise InputError(f"{name} has images of several shapes, {told}; expected one. Let `preprocess` resize them.")
    stacked = torch.stack(inputs)
    if not finite(stacked):
        bad = int((~torch.isfinite(stacked)).flatten(1).any(1).nonzero()[0])
        raise InputError(f"{name} hold NaN or inf, first in image {bad}; expected finite values.")
    return stacked


def _checked_labels(labels: Sequence[int] | Tensor, n: int) -> list[int]:
    try:
        found = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"labels can't be read ({error}); expected {n} whole numbers.") from error
    if found.ndim != 1 or len(found) != n or found.is_floating_point():
        raise InputError(
            f"labels are {found.dtype} of shape {tuple(found.shape)}; expected {n} whole numbers, one per image."
        )
    return [int(each) for each in found]


def _seen_scale(inputs: Tensor) -> Scale:
    """Pixels for showing, where nobody told the normalisation: the least value is black, the greatest white."""
    channels = inputs.shape[1]
    low, high = float(inputs.min()), float(inputs.max())
    if low >= 0 and high <= 1:
        return Scale((0.0,) * channels, (1.0,) * channels)
    span = max(high - low, 1e-6)
    return Scale((-low / span,) * channels, (1 / span,) * channels)


def check_labels(labels: Tensor, count: int) -> None:
    """True classes must be among the network's.

    Raises:
        InputError: one is not.
    """
    known = labels[labels != UNKNOWN]
    if len(known) and (int(known.max()) >= count or int(known.min()) < 0):
        wrong = int(known.max()) if int(known.max()) >= count else int(known.min())
        raise InputError(f"a label is {wrong}; expected 0 to {count - 1}, the network's {count} classes.")
