"""Digests of what a result depends on: settings with their tensors, a model's weights, the code, the versions."""

import dataclasses
import hashlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_ROOT = Path(__file__).parents[1]
VERSIONED = ("xaicompare-torch", "torch", "torchvision", "captum", "zennit", "scikit-image", "scikit-learn", "numpy")

_COUNTED = {"xaicompare", "torch", "torchvision", *sys.stdlib_module_names}  # see `code`, but for Python's own

# Whatever computes values; what draws, tells or keeps them may change without making them worthless.
_COMPUTING = (
    *("attended.py", "borrow.py", "boundary.py", "core.py", "draws.py", "scripted.py", "segments.py", "settings.py"),
    "study/rows.py",
    *("diagnosis", "lrp", "methods", "metrics", "zoo"),
)
_STEPS = 4096.0  # of a model's outputs that count as different: fine beside a changed forward, coarse beside rounding


def digest(*parts: object) -> str:
    """Twenty hexadecimal digits that differ wherever the parts do, in type, structure or content.

    Tensors count with every byte, models as in `of_model`, settings with their class, the files of their classes from
    elsewhere, and all fields. Equal parts have equal digests in every process; where a part has no content that can be
    read, its repr counts.

    >>> digest([1, 2]) == digest([1, 2]), digest([1, 2]) == digest([12]), digest(1) == digest(1.0)
    (True, False, False)
    """
    told = hashlib.blake2b(digest_size=10)
    for part in parts:
        _tell(told, part)
    return told.hexdigest()


def _tell(told: Any, part: object) -> None:
    """Adds one part; each begins with its type and its length, so that no two read the same in a row."""
    if isinstance(part, Tensor):
        content = part.detach().cpu().contiguous()
        told.update(f"tensor {content.dtype} {tuple(content.shape)};".encode())
        told.update(content.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(part, nn.Module):
        told.update(f"module {of_model(part)};".encode())
    elif isinstance(part, np.ndarray) and part.dtype.hasobject:  # its bytes would be addresses
        _tell_many(told, f"array {part.dtype} {part.shape}", part.ravel().tolist())
    elif isinstance(part, np.ndarray):
        told.update(f"array {part.dtype} {part.shape};".encode() + part.tobytes())
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        _tell_class(told, type(part))
        for entry in dataclasses.fields(part):
            _tell(told, entry.name)
            _tell(told, getattr(part, entry.name))
    elif isinstance(part, Mapping):
        _tell_many(told, "mapping", [item for key in part for item in (key, part[key])])
    elif isinstance(part, (tuple, list)):
        _tell_many(told, type(part).__name__, part)
    elif isinstance(part, (set, frozenset)):
        _tell_many(told, type(part).__name__, sorted(digest(each) for each in part))
    else:
        text = repr(part)
        told.update(f"{type(part).__name__} {len(text)} {text};".encode())


def _tell_many(told: Any, kind: str, parts: Iterable[object]) -> None:
    parts = list(parts)
    told.update(f"{kind} {len(parts)};".encode())
    for part in parts:
        _tell(told, part)


def _tell_class(told: Any, of: type) -> None:
    told.update(f"{of.__module__}.{of.__qualname__};{_sources(of)}".encode())


def _sources(of: type) -> str:
    """Digests of the files of a class and of all that it inherits from."""
    return " ".join(_source(each) for each in of.__mro__)


@cache
def _source(of: type) -> str:
    """A digest of the file of a class from elsewhere; this package and torch count as a whole, see `code`."""
    if of.__module__.partition(".")[0] in _COUNTED:
        return ""
    try:
        return hashlib.blake2b(Path(inspect.getfile(of)).read_bytes(), digest_size=6).hexdigest()
    except (TypeError, OSError):  # made at run time, as metrics of Quantus are
        return ""


def of_model(model: nn.Module) -> str:
    """The digest of a model: its modules with their settings, the files of their classes, and every number in it."""
    numbers = dict(model.named_parameters()) | dict(model.named_buffers())
    classes = {f"{type(each).__module__}.{type(each).__qualname__}": _sources(type(each)) for each in model.modules()}
    return digest(type(model).__qualname__, str(model), classes, numbers)


def of_logits(logits: Tensor) -> Tensor:
    """What a model says (n, classes) of images, in a few numbers that rounding hardly moves: (1 + 4,) int64.

    The same model differs in the last digits by how many images it saw at once and by threads; bytes would tell such
    apart, and so would many rounded numbers, one of which always lies on an edge. So there are few: the length of all
    logits, and their part in some directions, in steps of about 2e-4 of that length.
    """
    values = logits.detach().cpu().double().flatten()
    place = torch.arange(1, len(values) + 1, dtype=torch.float64)
    directions = torch.stack([(place * number).sin() for number in (1.1, 2.3, 3.7, 5.3)])  # (4, n * classes)
    length = values.norm().clamp_min(torch.finfo(torch.float64).tiny)
    told = torch.cat([length.log2()[None], directions @ (values / length)])
    return (told.nan_to_num(posinf=2.0**20, neginf=-(2.0**20), nan=2.0**21) * _STEPS).round().long()


def of_samples(inputs: Tensor, masks: Tensor | None) -> Tensor:
    """A digest for each sample (n, ...) and its mask: (n, 10) uint8."""
    found = [digest(sample, None if masks is None else masks[index]) for index, sample in enumerate(inputs)]
    return torch.tensor([list(bytes.fromhex(each)) for each in found], dtype=torch.uint8)


@cache
def code() -> str:
    """The digest of the package's code that computes values, and of the versions of what it stands on."""
    paths = [_ROOT / name for name in _COMPUTING]
    files = sorted(file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path]))
    texts = [(str(file.relative_to(_ROOT)), file.read_text(encoding="utf-8")) for file in files]
    return digest(texts, [(name, version_of(name)) for name in VERSIONED])


def version_of(distribution: str) -> str | None:
    """The version that is installed; None where it is not."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
