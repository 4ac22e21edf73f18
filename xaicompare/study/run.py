"""Carries a study out: every method explains the images, every metric judges it, and what it cost is measured."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from xaicompare.core import Attribution, Method
from xaicompare.cost import measured as measured_cost
from xaicompare.errors import XaiCompareError
from xaicompare.progress import progress
from xaicompare.results import Results, Table
from xaicompare.stats import is_control, leaderboard, standings
from xaicompare.study.rows import measured
from xaicompare.study.spec import Study
from xaicompare.study.subject import Subject, fitted, part_of, prepared
from xaicompare.zoo import Dataset

_COST_IMAGES = 2  # enough: what a method does is the same for each


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a study found, and what it needs to be shown."""

    study: Study
    subject: Subject
    results: Results
    costs: Table  # a row per method: method, name, budget, passes and mebibytes (see `cost.Cost`), seconds
    examples: Mapping[str, Attribution | XaiCompareError]  # of the first images, by label
    failed: Mapping[str, str]  # label: why that method has no rows; "label, metric": why it has none of that metric
    incomplete: Mapping[str, str]  # label: by how much its values miss what they must sum to, where that is too much

    @property
    def leaderboard(self) -> Table:
        """A row per method, the best first; see `xaicompare.leaderboard`."""
        return leaderboard(self.results)

    @property
    def standings(self) -> Table:
        """A row per metric and method; see `xaicompare.standings`."""
        return standings(self.results)


def run(study: Study) -> Outcome:
    """Trains or loads the model, explains the images by every method, and measures every metric.

    A method that can't explain the model is left out, as is a metric that can't judge it, and the outcome says why.

    Raises:
        DataError: data or weights are absent.
        StudyError: a metric asks for masks, and the data set has none.
        XaiCompareError: no method but controls could explain the model.
    """
    subject = prepared(study)
    references = _references(study, subject.dataset)
    parts: list[Results] = []
    costs: list[dict[str, object]] = []
    examples: dict[str, Attribution | XaiCompareError] = {}
    failed: dict[str, str] = {}
    incomplete: dict[str, str] = {}
    cells = len(study.methods) * len(study.metrics)
    for label, metric, found in progress(_cells(study, subject, references), "judging", total=cells, unit="cell"):
        if isinstance(found, Results):
            parts.append(found)
        elif isinstance(found, XaiCompareError):
            failed[label if metric is None else f"{label}, {metric}"] = str(found)
            examples.setdefault(label, found)
        else:
            examples[label] = found.part(slice(study.grid_images))
            costs.append(_cost(label, found, subject))
            if found.status in ("warn", "failed"):
                incomplete[label] = f"{found.status}, {found.complaint}"
    methods = [label for label in study.methods if not is_control(label)]
    if methods and all(label in failed for label in methods):
        raise XaiCompareError(f"no method could explain {study.model.name}: {next(iter(failed.values()))}")
    if not any(part.table["family"].notna().any() for part in parts):
        raise XaiCompareError(f"no metric could judge: {next(iter(failed.values()))}")
    return Outcome(study, subject, Results.joined(parts), Table(costs), examples, failed, incomplete)


def _cells(
    study: Study, subject: Subject, references: Tensor | None
) -> Iterator[tuple[str, str | None, Attribution | Results | XaiCompareError]]:
    """For every method: its attribution or error, then its rows or error by every metric."""
    for label, method in study.methods.items():
        some = part_of(subject, slice(study.method_images.get(label, len(subject.image))))
        try:
            ready = fitted(method, subject.dataset.scale, references)
            explained = ready.attribute(subject.model, some.inputs, some.target, strict=False)
        except XaiCompareError as error:
            yield label, None, error
            continue
        yield label, None, explained
        for metric, rows in measured(some, explained, label, study):
            yield label, metric, rows


def _cost(label: str, explained: Attribution, subject: Subject) -> dict[str, object]:
    some = explained.part(slice(_COST_IMAGES))
    cost = measured_cost(explained.method, subject.model, some.inputs, some.target)
    seconds = explained.seconds / len(explained)
    told = {"method": label, "name": explained.method.name, "budget": _budget(explained.method)}
    return {**told, **cost._asdict(), "seconds": seconds}


def _budget(method: Method) -> float:
    """How many samples or steps a method takes; NaN where that is no setting."""
    known = (getattr(method, name) for name in ("n_samples", "n_steps") if hasattr(method, name))
    return float(next(known, float("nan")))


def _references(study: Study, dataset: Dataset) -> Tensor | None:
    """Training images for methods that compare with several; None where the data has none."""
    count = min(study.references, len(dataset.train))
    return dataset.train.drawn(count, study.seed).batch(range(count))[0] if count else None
