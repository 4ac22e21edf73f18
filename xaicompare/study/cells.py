"""What a study consists of: tasks, a method on a batch of images, and their cells, each a metric on that."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from xaicompare.core import Method, Metric
from xaicompare.study.fingerprint import code, digest, of_logits, of_model, version_of
from xaicompare.study.spec import Study
from xaicompare.study.subject import Subject, fitted, part_of, references

_PEER = "quantus"  # the distribution behind metrics called "quantus:..."


class Cell(NamedTuple):
    """One metric on the maps of a task."""

    metric: str  # its label
    images: int  # the first ones of the task
    key: str  # of all that determines its rows


class Task(NamedTuple):
    """One method on a batch of images, from start to stop in the study's order."""

    label: str  # of the method
    start: int
    stop: int
    key: str  # of all that determines the maps
    cells: tuple[Cell, ...]


@dataclass(frozen=True, eq=False)
class Bench:
    """What tasks are carried out on: a subject, and the methods and metrics fitted to its data."""

    study: Study
    subject: Subject
    methods: dict[str, Method]  # by label
    metrics: dict[str, Metric]  # by label

    @classmethod
    def of(cls, study: Study, subject: Subject) -> "Bench":
        """The bench of a study."""
        scale, several = subject.dataset.scale, references(study, subject.dataset)
        methods = {label: fitted(method, scale, several) for label, method in study.methods.items()}
        return cls(study, subject, methods, {label: fitted(metric, scale) for label, metric in study.metrics.items()})


def basis(study: Study, model: nn.Module) -> str:
    """The digest of what all cells depend on: the model, this package's code, and what that stands on."""
    return digest(code(), of_model(model), study.model.settings)


def planned(bench: Bench, device: str = "cpu") -> list[Task]:
    """All tasks of a study, batch by batch, so that every method has some of its images early.

    The keys don't depend on the labels, nor on methods, metrics and images of other cells.

    Args:
        device: the kind that the tasks are carried out on, whose rounding is its own; see `Crew.kind`.
    """
    study, subject = bench.study, bench.subject
    under = digest(basis(study, subject.model), device)
    methods = {label: digest(under, method) for label, method in bench.methods.items()}
    metrics = {label: digest(metric, _peer_version(metric)) for label, metric in bench.metrics.items()}
    tasks = []
    for start in range(0, study.images, study.cell_images):
        for label in study.methods:
            stop = min(start + study.cell_images, study.method_images.get(label, study.images), study.images)
            if stop <= start:
                continue
            part = part_of(subject, slice(start, stop))
            key = digest(methods[label], _content(part), of_logits(part.logits))
            counts = {name: min(study.metric_images.get(name, stop), stop) - start for name in study.metrics}
            cells = (Cell(name, n, digest(key, metrics[name], n)) for name, n in counts.items() if n > 0)
            tasks.append(Task(label, start, stop, key, tuple(cells)))
    return tasks


def _content(part: Subject) -> Tensor:
    """What is asked of which images, and what their rows say beside what was measured."""
    numbers = torch.stack([part.image, part.label, part.target, part.predicted], 1)
    return torch.cat([numbers, part.content.to(numbers)], 1)


def _peer_version(metric: Metric) -> str | None:
    return version_of(_PEER) if metric.name.startswith(f"{_PEER}:") else None
