"""Which of a network's classes the folders of a data set stand for."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from xaicompare.errors import DataError
from xaicompare.zoo.folders import ImageFiles, imagenet_classes
from xaicompare.zoo.images import Dataset

UNKNOWN = -1
"""The label of an image whose class, among those of the network, nobody knows."""

_WNID = re.compile(r"n\d{8}")
_JSON, _LINES = "imagenet_class_index.json", "LOC_synset_mapping.txt"


def weights_classes(name: str, weights: str) -> tuple[str, ...] | None:
    """The classes that torchvision tells of weights by their name; None for a file, and for others."""
    try:
        return tuple(get_model_weights(name)[weights].meta["categories"])
    except (ValueError, KeyError):
        return None


def matched(dataset: Dataset, known: tuple[str, ...] | None) -> tuple[Dataset, str]:
    """A data set of class folders, with the network's classes as labels, and what is to be told; else as it is.

    Folders are found by class name or by WordNet's number (`n02123045`), which an index of ImageNet beside them tells.
    Where one has no class, all labels are `UNKNOWN`: they would be numbers of folders, not of classes.

    Args:
        known: the network's classes. None: nobody told, and a thousand may be ImageNet's.
    """
    folders = dataset.test.folders if isinstance(dataset.test, ImageFiles) else ()
    if not folders:
        return dataset, ""
    outputs = len(dataset.classes) if known is None else len(known)
    imagenet = imagenet_classes()
    names = known or (imagenet if outputs == len(imagenet) else ())
    numbers = _numbers(folders[0].parent, names)
    found = [numbers.get(_plain(folder.name), UNKNOWN) for folder in folders]
    if UNKNOWN not in found:
        return _labelled(dataset, names, found), ""
    # ImageNet's classes are in the order of their WordNet numbers.
    in_order = known is None or all(_WNID.fullmatch(folder.name) for folder in folders)
    if len(folders) == outputs and in_order:
        return dataset if known is None else _labelled(dataset, known, range(outputs)), ""
    lost = [folder.name for folder, number in zip(folders, found, strict=True) if number == UNKNOWN]
    told = (
        f"{len(lost)} of {len(folders)} class folders of {dataset.name}, such as {lost[0]!r}, match no class of the "
        f"network's {outputs}; expected its classes' names. The true classes are unknown, and accuracy is left out. "
        "Rename the folders, or add index.csv."
    )
    return _labelled(dataset, known or tuple(map(str, range(outputs))), [UNKNOWN] * len(folders)), told


def _labelled(dataset: Dataset, classes: tuple[str, ...], numbers: Sequence[int]) -> Dataset:
    """The same images; whose label was the folder's place has that number instead."""
    assert isinstance(dataset.train, ImageFiles)
    assert isinstance(dataset.test, ImageFiles)
    table = torch.tensor(numbers)
    train, test = (replace(part, labels=_of(part.labels, table), folders=()) for part in (dataset.train, dataset.test))
    return replace(dataset, classes=classes, train=train, test=test)


def _of(labels: Tensor, table: Tensor) -> Tensor:
    return table.to(labels.device)[labels]


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", "", name).casefold()


def _numbers(root: Path, names: tuple[str, ...]) -> dict[str, int]:
    """The number of each class by its name, unless two share it, and of ImageNet's by WordNet's number."""
    plain = [_plain(name) for name in names]
    found = {name: number for number, name in enumerate(plain) if plain.count(name) == 1}
    if names == imagenet_classes():
        found |= {_plain(wnid): number for number, wnid in enumerate(_wnids(root)[: len(names)])}
    return found


def _wnids(root: Path) -> list[str]:
    """WordNet's numbers in the order of ImageNet's classes; none where no index is in the folder or the one above."""
    for path in (place / name for place in (root, root.parent) for name in (_JSON, _LINES)):
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
            if path.name == _LINES:
                return [line.split()[0] for line in text.splitlines() if line.strip()]
            content = json.loads(text)
            return [str(content[str(number)][0]) for number in range(len(content))]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise DataError(f"{path} can't be read as an index of ImageNet ({error}); expected one. Fix it.") from error
    return []
