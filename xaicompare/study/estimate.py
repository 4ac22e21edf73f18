"""How long a study will take, from a few images explained and judged before it begins."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from xaicompare.core import Method, Traits, Values
from xaicompare.progress import hushed
from xaicompare.settings import BatchSize, frozen
from xaicompare.study.cells import Bench, Cell, Task
from xaicompare.study.rows import judged, who
from xaicompare.study.store import Store
from xaicompare.study.subject import Subject, part_of

_WORTH = 16  # images; a trial of a smaller study would be a good part of it
_SLOW = 0.5  # seconds for one image, above which it is enough to go by
_KEEPING = 0.03  # seconds until the rows of a cell are on a disk
_SEVERAL = 4  # images at once, by which what a batch costs is told from what an image costs


def estimated(
    bench: Bench, store: Store, tasks: Sequence[Task], left: Iterable[tuple[Task, list[Cell]]]
) -> float | None:
    """About how many seconds what is left of the tasks takes in this process; None for fewer than 16 images.

    A method whose maps of other images are there takes as long as it took then; else it is timed on one image, the
    second time, and where that is fast on four. So is a metric, once, on maps that cost nothing; where it explains
    images again, each of them costs what the method does. What fails in the trial costs nothing here: the run will say
    why.
    """
    missing = list(left)
    if max((task.stop for task, _ in missing), default=0) < _WORTH:
        return None
    with hushed():
        explaining = {label: _explaining(bench, store, label, tasks) for label in {task.label for task, _ in missing}}
        used = {cell.metric for _, cells in missing for cell in cells}
        judging = {metric: _judging(bench, metric) for metric in used}
    total = 0.0
    for task, cells in missing:
        images, each = task.stop - task.start, explaining[task.label]
        total += _KEEPING * len(cells) + each * images  # anew, also where only a metric is missing
        total += sum((judging[cell.metric][0] + judging[cell.metric][1] * each) * cell.images for cell in cells)
    return total


def _explaining(bench: Bench, store: Store, label: str, tasks: Sequence[Task]) -> float:
    """The seconds that a method takes for an image."""
    for task in tasks:
        if task.label == label and store.has_maps(task.key) and (facts := store.facts(task.key)):
            return float(facts["seconds"] / facts["images"])
    method = bench.methods[label]
    return _each(bench, lambda part: method.attribute(part.model, part.inputs, part.target, strict=False))


def _judging(bench: Bench, label: str) -> tuple[float, float]:
    """The seconds that a metric takes for an image, and how many images it explains again for each."""
    metric, free, again = bench.metrics[label], _Free(), 0.0

    def judge(part: Subject) -> None:
        nonlocal again
        explained = free.attribute(part.model, part.inputs, part.target)
        _Free.explained = 0
        judged(who(bench.study, part, label, explained), part, explained, label, metric)
        again = _Free.explained / len(part.image)

    return _each(bench, judge), again


def _each(bench: Bench, do: Callable[[Subject], object]) -> float:
    """The seconds for each of many images; 0 where it fails."""
    try:
        _timed(bench, do, 1)  # fills caches, and imports libraries
        one = _timed(bench, do, 1)
        if one > _SLOW:
            return one
        several = _timed(bench, do, _SEVERAL)
    except Exception:  # whatever it is, the run deals with it, cell by cell
        return 0.0
    many = min(bench.study.cell_images, bench.study.images)
    for_each = max(several - one, several / 10) / (_SEVERAL - 1)
    return for_each + max(one - for_each, 0.0) / many


def _timed(bench: Bench, do: Callable[[Subject], object], images: int) -> float:
    part = part_of(bench.subject, slice(images))
    began = time.perf_counter()
    do(part)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


@frozen
class _Free(Method):
    """Noise that costs nothing, and counts for how many images it is asked."""

    name: ClassVar[str] = "free"
    traits: ClassVar[Traits] = Traits("control")
    explained: ClassVar[int] = 0
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        _Free.explained += len(inputs)
        return Values(inputs.detach().flip(-1))
