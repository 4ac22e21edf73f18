"""Image files: a folder of them as a data set, and single ones for the command line."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, get_args

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from xaicompare.draws import generator
from xaicompare.errors import DataError, SettingError
from xaicompare.settings import Count, Finite, Positive, Seed, Share
from xaicompare.zoo.images import Dataset, Images, Indices, Scale
from xaicompare.zoo.opening import DICOM, Box, Fit, MaskFile, Place, fitted, is_cut, square_mask, squared
from xaicompare.zoo.places import located

IMAGENET = Scale(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

INDEX = "index.csv"
"""What a table of images beside them is called."""

_ENDINGS = {".bmp", DICOM, ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True, eq=False)
class ImageFiles(Images):
    """Images on disk, opened when they are asked for."""

    paths: tuple[Path, ...]
    labels: Tensor  # (n,) int64
    scale: Scale
    size: int  # of the square that each becomes
    fit: Fit = "crop"
    objects: tuple[Place, ...] = ()  # where the object of each is; none where nobody knows
    device: torch.device | str = "cpu"
    folders: tuple[Path, ...] = ()  # whose places the labels are; none where an index gave the labels

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Normalised images (n, c, size, size) float32 and their labels (n,), in the order of the indices."""
        chosen = self.subset(indices)
        inputs = open_images(chosen.paths, size=self.size, mean=self.scale.mean, std=self.scale.std, fit=self.fit)
        return inputs.to(self.device), chosen.labels

    def subset(self, indices: Indices) -> Self:
        """Only these images, in the order of the indices."""
        where = torch.as_tensor(indices, dtype=torch.int64, device=self.labels.device)
        paths, objects = (tuple(each[i] for i in where.tolist() if each) for each in (self.paths, self.objects))
        return replace(self, paths=paths, objects=objects, labels=self.labels[where])

    def masks(self, indices: Indices) -> Tensor | None:
        """Where the objects are, (n, size, size) bool, in the order of the indices; None where nobody knows.

        Raises:
            DataError: a mask can't be read, does not fit its image, or holds nothing or all of what the network sees.
        """
        chosen = self.subset(indices)
        if not chosen.objects:
            return None
        pairs = zip(chosen.paths, chosen.objects, strict=True)
        return torch.stack([square_mask(path, place, self.size, self.fit) for path, place in pairs]).to(self.device)

    def to(self, device: torch.device | str) -> Self:
        """The same images, whose batches come on that device."""
        return replace(self, labels=self.labels.to(device), device=device)


def folder(
    path: str | Path,
    size: Count = 224,
    mean: tuple[Finite, ...] = IMAGENET.mean,
    std: tuple[Positive, ...] = IMAGENET.std,
    classes: Count | None = None,
    train: Share = 0.0,
    seed: Seed = 0,
    fit: Fit = "crop",
    masks: str | None = None,
) -> Dataset:
    """The images of a folder, opened as `open_images` says; for explaining, and with `train` above 0 to train on, too.

    Either one folder for each class inside it, or a file `index.csv` with the columns file, class_index and, where
    wanted, class_name. Beside a network with ready weights a study matches class folders with its classes by name.

    Args:
        path: absolute, or below the current folder or the data root.
        classes: how many classes the network knows. None: as many as there are folders, or as the index needs; where an
            index calls its classes by ImageNet's names, all thousand of ImageNet.
        train: this share of every class's images is for training, the rest for testing.
        seed: which images those are.
        fit: how an image becomes a square; "crop" cuts off the rim.
        masks: a folder with a mask for each image, of the same size and, but for its ending, the same name below it;
            above 0 where the object is. It may lie below the images' own folder. Or four columns of the index, x0, y0,
            x1 and y1: a box in pixels of the upright image. Then metrics of localisation work on these images.
    """
    root = located(path, "folder of images")
    marks = None if masks is None else located(masks, "folder of masks")
    paths, labels, names = indexed(root) if (root / INDEX).is_file() else by_folder(root, marks)
    wanted = len(names) if classes is None else classes
    if wanted < len(names):
        raise SettingError(f"folder: classes={wanted}; expected at least {len(names)}, the classes of {root}.")
    named, names = names, names + tuple(str(i) for i in range(len(names), wanted))
    scale = _scale(mean, std)
    folders = () if (root / INDEX).is_file() else tuple(root / name for name in named)
    objects = _boxes(root) if marks is None else mask_files(marks, root, paths)
    images = ImageFiles(tuple(paths), torch.tensor(labels), scale, size, fit, objects, folders=folders)
    lessons, rest = _parts(images.labels, train, seed)
    note = _CUT if fit == "crop" and any(_may_be_cut(path, size) for path in paths) else ""
    return Dataset(root.name, names, scale, images.subset(lessons), images.subset(rest), note)


_CUT = "Images are resized and their middle is cut out; the rim is not seen (fit = 'pad' shows all of them)."


def _may_be_cut(path: Path, size: int) -> bool:
    try:
        return is_cut(path, size)
    except DataError:  # told when the image is asked for, if it ever is
        return True


def mask_files(masks: Path, root: Path, paths: Sequence[Path]) -> tuple[Place, ...]:
    """The mask of each image: the file below `masks` whose name is the image's below `root`, but for the ending.

    Of two such, the one with the same ending is meant. An image from elsewhere has its mask right below `masks`.

    Raises:
        DataError: an image has none, or the folder is that of the images.
    """
    if masks.resolve() == root.resolve():
        raise DataError(f"masks={str(masks)!r} is the folder of the images; expected another, with a mask for each.")
    files = {path.relative_to(masks): path for path in images_below(masks)}
    known = {name.with_suffix(""): path for name, path in files.items()} | files
    names = [path.relative_to(root) if path.is_relative_to(root) else Path(path.name) for path in paths]
    found = [known.get(name, known.get(name.with_suffix(""))) for name in names]
    missing = [name for name, path in zip(names, found, strict=True) if path is None]
    if missing:
        raise DataError(
            f"{masks} has no mask for {len(missing)} of {len(names)} images, such as {missing[0]}; expected one for "
            "each, of the same name. Add them, or leave those images out."
        )
    return tuple(MaskFile(path) for path in found if path is not None)


_CORNERS = ("x0", "y0", "x1", "y1")


def _boxes(root: Path) -> tuple[Place, ...]:
    """The boxes of the index; none where it has no such columns, or there is no index."""
    rows = _rows(root / INDEX) if (root / INDEX).is_file() else []
    given = [corner for corner in _CORNERS if rows and corner in rows[0]]
    if not given:
        return ()
    if len(given) < len(_CORNERS):
        raise DataError(
            f"{root / INDEX} has the columns {', '.join(given)}; expected {', '.join(_CORNERS)} for boxes, or none of "
            "them. Add the others, or rename these."
        )
    try:
        return tuple(Box(*(float(row[corner]) for corner in _CORNERS)) for row in rows)
    except (TypeError, ValueError) as error:
        raise DataError(f"{root / INDEX}: a box can't be read ({error}); expected four numbers in each row.") from error


def _parts(labels: Tensor, train: float, seed: int) -> tuple[list[int], list[int]]:
    """The numbers of the images to train on and of those to test on, each in the order of the files."""
    draws = generator(seed)
    lessons: set[int] = set()
    for label in labels.unique():
        own = (labels == label).nonzero()[:, 0]
        lessons.update(own[torch.randperm(len(own), generator=draws)[: round(train * len(own))]].tolist())
    return sorted(lessons), [number for number in range(len(labels)) if number not in lessons]


def open_images(
    paths: Sequence[str | Path],
    *,
    size: int = 224,
    mean: tuple[float, ...] = IMAGENET.mean,
    std: tuple[float, ...] = IMAGENET.std,
    fit: Fit = "crop",
) -> Tensor:
    """Image files as a network takes them: (n, c, size, size), normalised, in RGB or, for a mean of one value, grey.

    Args:
        fit: how an image becomes a square, see `Fit`; "crop" cuts off the rim.

    Raises:
        DataError: a file is missing, can't be read, or is no image.
        SettingError: mean and standard deviation are not for 1 or 3 channels; an unknown fit.
    """
    scale = _scale(mean, std)
    if fit not in get_args(Fit):
        raise SettingError(f"fit={fit!r}; expected 'crop', 'pad' or 'stretch'.")
    mode = "L" if len(mean) == 1 else "RGB"
    pixels = (fitted(Path(path), size, mode, fit) for path in paths)
    squares = [squared(scale.normalised(each), size) for each in pixels]  # bars are 0 as the network takes them
    if not squares:
        raise DataError("no image files are given; expected at least one.")
    return torch.stack(squares)


def _scale(mean: tuple[float, ...], std: tuple[float, ...]) -> Scale:
    if len(mean) != len(std) or len(mean) not in (1, 3):
        raise SettingError(f"mean={mean}, std={std}; expected one value each (grey) or three each (RGB).")
    return Scale(tuple(mean), tuple(std))


def by_folder(root: Path, marks: Path | None) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """The files of `<class>/`, their labels, and the classes in the order of the alphabet; masks are none."""
    entries = root.iterdir() if root.is_dir() else ()
    classes = sorted(entry for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if marks is not None and root.resolve() in marks.resolve().parents:
        classes = [entry for entry in classes if entry.resolve() != marks.resolve()]
    found = [(path, label) for label, entry in enumerate(classes) for path in images_below(entry)]
    if not found:
        raise DataError(f"{root} holds no images; expected one folder per class with images in it, or {INDEX}.")
    paths, labels = zip(*found, strict=True)
    return list(paths), list(labels), tuple(entry.name for entry in classes)


def images_below(entry: Path) -> list[Path]:
    """The image files in a folder and in those inside it, by their endings, in the order of the alphabet."""
    return sorted(path for path in entry.rglob("*") if path.suffix.lower() in _ENDINGS)


def indexed(root: Path) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """The files of the index, their labels, and a name for each class up to the last."""
    paths, labels, names = [], [], {}
    for number, row in enumerate(_rows(root / INDEX), start=2):
        file, given = row["file"] or "", row["class_index"] or ""
        if not file or not given.isdecimal():
            raise DataError(
                f"{root / INDEX}, line {number}: file={file!r}, class_index={given!r}; "
                "expected a file name and a whole number from 0 up."
            )
        paths.append(root / file)
        labels.append(int(given))
        names[int(given)] = row.get("class_name") or given
    known = imagenet_classes()
    if all(known[label : label + 1] == (name,) for label, name in names.items()):
        return paths, labels, known
    return paths, labels, tuple(names.get(label, str(label)) for label in range(max(names) + 1))


def _rows(index: Path) -> list[dict[str, str]]:
    try:
        with index.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{index} can't be read ({error}); expected a table with commas, in UTF-8.") from error
    missing = {"file", "class_index"} - set(rows[0] if rows else ())
    if missing:
        raise DataError(f"{index} lacks {', '.join(sorted(missing))}; expected the columns file, class_index and rows.")
    return rows


def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet's thousand classes, in their order."""
    return tuple(get_model_weights("squeezenet1_0").DEFAULT.meta["categories"])
