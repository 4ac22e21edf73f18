"""The maps that a study leaves in its folder, as far as its `keep` says: a safetensors file for each task."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from xaicompare.core import Attribution
from xaicompare.errors import DataError, unknown
from xaicompare.files import replacing
from xaicompare.study.cells import Task
from xaicompare.study.spec import Study
from xaicompare.study.store import Store
from xaicompare.study.subject import Subject


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps of one method that a study has kept, in the study's order of the images."""

    values: Tensor  # (n, c or 1, *spatial), signed
    image: Tensor  # (n,) numbers in the data set's test part
    target: Tensor  # (n,) the explained class
    score: Tensor  # (n,) the explained output
    residual: Tensor | None  # (n,) see `Attribution.residual`

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Maps({tuple(self.values.shape)})"


def load_attributions(folder: str | Path, methods: str | Iterable[str] | None = None) -> dict[str, Maps]:
    """The maps that the last study in a folder has kept, by the methods' labels.

    Args:
        methods: label or labels of those that are wanted, where all of them are too many for the memory.

    Raises:
        DataError: the folder holds no study, or a file can't be read.
        UnknownNameError: no such label.
    """
    tasks = Store(folder).planned()
    labels = list(dict.fromkeys(task["label"] for task in tasks))
    wanted = labels if methods is None else [methods] if isinstance(methods, str) else list(methods)
    for label in wanted:
        if label not in labels:
            raise unknown("method in this study", label, labels)
    found = {}
    for label in wanted:
        keys = [task["key"] for task in sorted(tasks, key=lambda task: task["start"]) if task["label"] == label]
        parts = [part for part in (_read(Path(folder), key) for key in keys) if part is not None]
        if parts:
            found[label] = _joined(parts)
    return found


def keeps(study: Study, folder: Path, task: Task) -> bool:
    """Whether all maps of a task that are to be kept are there, in a file that can be read."""
    count = _count(study, task)
    return count == 0 or _is_whole(_path(folder, task.key, count))


def keep(study: Study, folder: Path, task: Task, part: Subject, explained: Attribution) -> None:
    """Writes the maps of a task, as many as are to be kept.

    Raises:
        DataError: they can't be written.
    """
    count = _count(study, task)
    if count == 0:
        return
    columns = {"values": explained.values, "target": explained.target, "score": explained.score, "image": part.image}
    if explained.residual is not None:
        columns["residual"] = explained.residual
    tensors = {name: column[:count].detach().cpu().contiguous().clone() for name, column in columns.items()}
    path = _path(folder, task.key, count)
    try:
        with replacing(path, lasting=True) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt", "method": repr(explained.method)})
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} can't be written ({error}); expected free space there.") from error


def kept(folder: Path, task: Task) -> Maps | None:
    """The maps of a task that are there, and can be read."""
    try:
        return _read(folder, task.key)
    except DataError:
        return None


def _count(study: Study, task: Task) -> int:
    """How many maps of a task are to be kept."""
    last = {"all": task.stop, "examples": min(task.stop, study.grid_images), "none": 0}[study.keep]
    return max(0, last - task.start)


def _path(folder: Path, key: str, count: int) -> Path:
    return folder / "attributions" / f"{key}-{count}.safetensors"


def _is_whole(path: Path) -> bool:
    """Whether a file holds what its head promises, which is all that is read of it."""
    try:
        with safe_open(path, "pt"):
            return True
    except (OSError, SafetensorError):
        return False


def _read(folder: Path, key: str) -> Maps | None:
    """What is there of a task, in the file that holds most."""
    files = {int(path.stem.rpartition("-")[2]): path for path in (folder / "attributions").glob(f"{key}-*.safetensors")}
    if not files:
        return None
    path = files[max(files)]
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{path} can't be read ({error}); expected maps. Remove it, and run the study again."
        ) from error
    return Maps(residual=tensors.pop("residual", None), **tensors)


def _joined(parts: list[Maps]) -> Maps:
    columns = {
        name: torch.cat([getattr(part, name) for part in parts]) for name in ("values", "image", "target", "score")
    }
    residuals = [part.residual for part in parts if part.residual is not None]
    return Maps(**columns, residual=torch.cat(residuals) if len(residuals) == len(parts) else None)
