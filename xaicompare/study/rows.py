"""The rows that a study records of one method: for every metric and image, what was measured."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xaicompare.core import Attribution, Metric
from xaicompare.metrics import ConfidenceRemoval, RemovalCurve
from xaicompare.results import Results
from xaicompare.study.spec import Study
from xaicompare.study.subject import Subject
from xaicompare.zoo.classes import UNKNOWN

_ONCE = torch.tensor([torch.nan])  # the share of what is no removal


class Measured(NamedTuple):
    """One quantity of n images at s shares removed."""

    quantity: str
    order: str | None
    shares: Tensor  # (s,)
    values: Tensor  # (n, s)


def who(study: Study, subject: Subject, label: str, explained: Attribution) -> dict[str, Any]:
    """What all rows of one attribution say alike."""
    known = {"model": study.model.shown, "dataset": subject.dataset.name, "method": label}
    return known | {"seconds": explained.seconds / len(explained)}


def completeness(made: dict[str, Any], subject: Subject, explained: Attribution) -> Results | None:
    """Residual and incompleteness of every image; None where the method promises no completeness."""
    if explained.residual is None or explained.incompleteness is None:
        return None
    found = {"residual": explained.residual, "incompleteness": explained.incompleteness}
    parts = [Measured(quantity, None, _ONCE, values[:, None]) for quantity, values in found.items()]
    return _rows(made | {"metric": "completeness"}, subject, parts)


def judged(made: dict[str, Any], subject: Subject, explained: Attribution, label: str, metric: Metric) -> Results:
    """The rows of one metric, known by its label: for removals of confidence every share and quantity, else one value.

    Raises:
        XaiCompareError: the metric can't judge this attribution.
    """
    if isinstance(metric, ConfidenceRemoval):
        return _removals(made, subject, explained, metric)
    return _values(made | {"metric": label}, subject, explained, metric)


def gathered(rows: Results) -> Results:
    """The rows of one method, whatever the parts they were measured in: by metric, order and quantity, then image.

    The images as they are, which every removal records, stay once; removals of the most and the least important
    features only of images that have both: their difference is what counts.
    """
    table = rows.table
    removal = table["metric"] == ConfidenceRemoval.name
    once = table.duplicated(["metric", "order", "quantity", "image"]) & removal & table["order"].isna()
    both = set.intersection(*(set(table["image"][removal & (table["order"] == end)]) for end in ("most", "least")))
    table = table[~once & (~removal | table["image"].isin(both))]
    place = table.groupby(["metric", "order", "quantity"], sort=False, dropna=False).ngroup()
    return Results(table.iloc[place.argsort(kind="stable")].reset_index(drop=True))


def _values(made: dict[str, Any], subject: Subject, explained: Attribution, metric: Metric) -> Results:
    values = metric(subject.model, explained, subject.masks if metric.traits.masks else None)
    shared = {
        **made,
        "family": metric.traits.family,
        "better": "high" if metric.higher_is_better else "low",
    }
    return _rows(shared, subject, [Measured("value", None, _ONCE, values[:, None])])


def _removals(made: dict[str, Any], subject: Subject, explained: Attribution, metric: ConfidenceRemoval) -> Results:
    removed = metric.curve(subject.model, explained)
    assert isinstance(removed, RemovalCurve)
    untouched = RemovalCurve(torch.zeros(1), subject.logits[:, None], explained.target.cpu())
    curves: dict[str | None, RemovalCurve] = {metric.order: removed, None: untouched}
    shared = {**made, "metric": metric.name, "family": metric.traits.family}
    parts = [
        Measured(quantity, order, curve.shares, values)
        for order, curve in curves.items()
        for quantity, values in _quantities(curve, metric, subject.label).items()
    ]
    return _rows(shared, subject, parts)


def _quantities(curve: RemovalCurve, metric: ConfidenceRemoval, label: Tensor) -> dict[str, Tensor]:
    """What is recorded of a removal, each (n, s)."""
    return {
        "confidence": curve.confidence(metric.of),
        "signed_confidence": curve.signed_confidence(metric.of),
        "score": curve.score,
        "predicted": curve.predicted.double(),
    } | ({} if (label == UNKNOWN).any() else {"misclassified": (curve.predicted != label[:, None]).double()})


def _rows(shared: dict[str, Any], subject: Subject, parts: Sequence[Measured]) -> Results:
    """Part after part, image after image, all as one table: making many small ones takes longer than measuring."""
    n, points = len(subject.image), [len(part.shares) for part in parts]
    per_image = {
        "image": subject.image,
        "target": subject.target,
        "label": subject.label,
        "predicted": subject.predicted,
    }
    columns: dict[str, Any] = {
        key: torch.cat([column.repeat_interleave(s) for s in points]).numpy() for key, column in per_image.items()
    }
    columns["label"] = [None if label == UNKNOWN else label for label in columns["label"].tolist()]
    columns["quantity"] = [part.quantity for part, s in zip(parts, points, strict=True) for _ in range(n * s)]
    columns["order"] = [part.order for part, s in zip(parts, points, strict=True) for _ in range(n * s)]
    columns["share"] = torch.cat([part.shares.cpu().double().repeat(n) for part in parts]).numpy()
    columns["value"] = torch.cat([part.values.detach().cpu().double().flatten() for part in parts]).numpy()
    return Results.from_columns(shared | columns)
