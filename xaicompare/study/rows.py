"""The rows that a study records of one method: for every metric and image, what was measured."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from xaicompare.core import Attribution, Metric
from xaicompare.errors import XaiCompareError
from xaicompare.metrics import ConfidenceRemoval, RemovalCurve
from xaicompare.results import Results
from xaicompare.study.spec import Study
from xaicompare.study.subject import Subject, fitted, part_of

_ONCE = torch.tensor([torch.nan])  # the share of what is no removal


def measured(
    subject: Subject, explained: Attribution, label: str, study: Study
) -> Iterator[tuple[str, Results | XaiCompareError]]:
    """The rows of one method by every metric's label; the error of a metric that can't judge it in their place.

    For removals of confidence every share and quantity, for other metrics one value per image. Where the method
    promises completeness, its residual and incompleteness are recorded first.
    """
    who = {"model": study.model.name, "dataset": subject.dataset.name, "method": label}
    made = who | {"seconds": explained.seconds / len(explained)}
    for quantity in ("residual", "incompleteness"):
        values = getattr(explained, quantity)
        if values is not None:
            shared = made | {"metric": "completeness"}
            yield quantity, _rows(shared, subject, quantity, None, _ONCE, values[:, None])
    untouched = True  # the images as they are, once: the same in every order
    for name, given in study.metrics.items():
        metric = fitted(given, subject.dataset.scale)
        n = min(study.metric_images.get(name, len(explained)), len(explained))
        some, first = part_of(subject, slice(n)), explained.part(slice(n))
        try:
            if isinstance(metric, ConfidenceRemoval):
                yield name, _removals(made, some, first, metric, untouched=untouched)
                untouched = False
            else:
                yield name, _values(made | {"metric": name}, some, first, metric)
        except XaiCompareError as error:
            yield name, error


def _values(made: dict[str, Any], subject: Subject, explained: Attribution, metric: Metric) -> Results:
    values = metric(subject.model, explained, subject.masks if metric.traits.masks else None)
    shared = {
        **made,
        "family": metric.traits.family,
        "better": "high" if metric.higher_is_better else "low",
    }
    return _rows(shared, subject, "value", None, _ONCE, values[:, None])


def _removals(
    made: dict[str, Any], subject: Subject, explained: Attribution, metric: ConfidenceRemoval, *, untouched: bool
) -> Results:
    removed = metric.curve(subject.model, explained)
    assert isinstance(removed, RemovalCurve)
    curves: dict[str | None, RemovalCurve] = {metric.order: removed}
    if untouched:
        curves[None] = RemovalCurve(torch.zeros(1), subject.logits[:, None], explained.target)
    shared = {**made, "metric": metric.name, "family": metric.traits.family}
    parts = [
        _rows(shared, subject, quantity, order, curve.shares, values)
        for order, curve in curves.items()
        for quantity, values in _quantities(curve, metric, subject.label).items()
    ]
    return Results.joined(parts)


def _quantities(curve: RemovalCurve, metric: ConfidenceRemoval, label: Tensor) -> dict[str, Tensor]:
    """What is recorded of a removal, each (n, s)."""
    return {
        "confidence": curve.confidence(metric.of),
        "signed_confidence": curve.signed_confidence(metric.of),
        "score": curve.score,
        "predicted": curve.predicted.double(),
        "misclassified": (curve.predicted != label[:, None]).double(),
    }


def _rows(
    shared: dict[str, Any], subject: Subject, quantity: str, order: str | None, shares: Tensor, values: Tensor
) -> Results:
    """Values (n, s) as rows, image by image."""
    n, s = values.shape
    per_image = {
        "image": subject.image,
        "target": subject.target,
        "label": subject.label,
        "predicted": subject.predicted,
    }
    columns = {key: column.repeat_interleave(s).numpy() for key, column in per_image.items()}
    varying = {"share": shares.repeat(n).numpy(), "value": values.flatten().detach().numpy()}
    return Results.from_columns({**shared, **columns, **varying, "quantity": quantity, "order": order})
