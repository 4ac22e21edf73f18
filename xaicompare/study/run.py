"""Carries a study out: model, images, attributions, metrics, and the folder that holds it all."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from xaicompare.borrow import borrowed
from xaicompare.boundary import outputs
from xaicompare.core import Attribution, Method
from xaicompare.draws import generator
from xaicompare.errors import DataError, XaiCompareError
from xaicompare.metrics import ConfidenceRemoval, RemovalCurve
from xaicompare.progress import progress
from xaicompare.results import Results, Table
from xaicompare.stats import leaderboard
from xaicompare.study.spec import ModelSpec, Study
from xaicompare.training.fit import trained
from xaicompare.zoo import Dataset, Scale, build_model, load_dataset, load_weights
from xaicompare.zoo.places import located


@dataclass(frozen=True, eq=False)
class Subject:
    """What is explained: a model, and images with everything known about them."""

    model: nn.Module
    dataset: Dataset
    origin: str  # where the weights come from
    image: Tensor  # (n,) numbers in the test part
    inputs: Tensor  # (n, c, h, w)
    label: Tensor  # (n,)
    logits: Tensor  # (n, classes)
    target: Tensor  # (n,) the explained class

    @property
    def predicted(self) -> Tensor:
        """The predicted classes, (n,)."""
        return self.logits.argmax(1)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a study found, and what it needs to be shown."""

    study: Study
    subject: Subject
    results: Results
    examples: Mapping[str, Attribution | XaiCompareError]  # of the first images, by label
    failed: Mapping[str, str]  # label: why that method has no rows
    incomplete: Mapping[str, str]  # label: by how much its values miss what they must sum to, where that is too much

    @property
    def leaderboard(self) -> Table:
        """A row per method, the best first; see `xaicompare.leaderboard`."""
        return leaderboard(self.results)


def run(study: Study) -> Outcome:
    """Trains or loads the model, explains the images by every method, and measures every metric.

    A method that can't explain the model is left out, and the outcome says why.

    Raises:
        DataError: data or weights are absent.
        XaiCompareError: no method could explain the model.
    """
    subject = prepared(study)
    references = _references(study, subject.dataset)
    parts: list[Results] = []
    examples: dict[str, Attribution | XaiCompareError] = {}
    failed: dict[str, str] = {}
    incomplete: dict[str, str] = {}
    for label, method in progress(study.methods.items(), "methods", total=len(study.methods), unit="method"):
        try:
            ready = fitted(method, subject.dataset.scale, references)
            explained = ready.attribute(subject.model, subject.inputs, subject.target, strict=False)
        except XaiCompareError as error:
            examples[label], failed[label] = error, str(error)
            continue
        examples[label] = first_samples(explained, study.grid_images)
        if explained.status in ("warn", "failed"):
            incomplete[label] = f"{explained.status}, {explained.complaint}"
        parts.append(measured(subject, explained, label, study))
    if not parts:
        raise XaiCompareError(f"no method could explain {study.model.name}: {next(iter(failed.values()))}")
    return Outcome(study, subject, Results.joined(parts), examples, failed, incomplete)


def prepared(study: Study) -> Subject:
    """The study's model, and the images that it explains with what the model says of them."""
    dataset = load_dataset(study.data, **study.data_settings)
    model, origin = model_of(study.model, dataset)
    if study.images > len(dataset.test):
        raise DataError(f"images={study.images}; expected at most {len(dataset.test)}, which is all of {dataset.name}.")
    image = torch.randperm(len(dataset.test), generator=generator(study.seed))[: study.images]
    inputs, label = dataset.test.batch(image)
    with borrowed(model):
        logits = outputs(model, inputs, 64)
    target = label if study.explain == "label" else logits.argmax(1)
    return Subject(model, dataset, origin, image, inputs, label, logits, target)


def model_of(spec: ModelSpec, dataset: Dataset) -> tuple[nn.Module, str]:
    """The model of a study, and a sentence on where its weights come from."""
    if spec.weights is not None and (spec.recipe is None or _is_there(spec.weights)):
        model = build_model(spec.name, len(dataset.classes), dataset.channels, **spec.settings)
        load_weights(model, spec.weights, name=spec.name)
        return model, f"weights {spec.weights}"
    model, provenance = trained(spec.name, dataset, spec.recipe, **spec.settings)
    how = "trained before" if provenance.cached else "trained now"
    return model, f"{how}, test accuracy {provenance.accuracy:.2%}"


def _is_there(weights: str) -> bool:
    try:
        return located(weights, "file of weights").exists()
    except DataError:
        return False


def fitted(method: Method, scale: Scale, references: Tensor | None = None) -> Method:
    """The method with what only the data can tell: the bounds of pixels, and references (m, c, h, w) as baselines.

    Only settings that are None are filled in.
    """
    known = {"low": torch.tensor(scale.low), "high": torch.tensor(scale.high), "baselines": references}
    unset = (entry.name for entry in fields(method) if getattr(method, entry.name) is None)  # type: ignore[arg-type]
    return replace(method, **{name: known[name] for name in unset if name in known})  # type: ignore[type-var]


def _references(study: Study, dataset: Dataset) -> Tensor | None:
    """Training images for methods that compare with several; None where the data has none."""
    count = min(study.references, len(dataset.train))
    return dataset.train.drawn(count, study.seed).batch(range(count))[0] if count else None


def first_samples(explained: Attribution, n: int) -> Attribution:
    """The same attribution, of its first n samples only."""
    names = ("values", "inputs", "target", "score", *(() if explained.residual is None else ("residual",)))
    return replace(explained, **{name: getattr(explained, name)[:n] for name in names})


def measured(subject: Subject, explained: Attribution, label: str, study: Study) -> Results:
    """The rows of one method: for removals every share and quantity, for other metrics one value per image.

    Where the method promises completeness, its residual and incompleteness are recorded, too.
    """
    who = {"model": study.model.name, "dataset": subject.dataset.name, "method": label}
    made = who | {"seconds": explained.seconds / len(explained)}
    parts = _completeness(made, subject, explained)
    for metric in study.metrics:
        shared = made | {"metric": metric.name}
        if not isinstance(metric, ConfidenceRemoval):
            shared["metric"] = metric.label()  # one name with other settings is another metric
            values = metric(subject.model, explained)
            parts.append(_rows(shared, subject, "value", None, torch.tensor([torch.nan]), values[:, None]))
            continue
        removed = metric.curve(subject.model, explained)
        assert isinstance(removed, RemovalCurve)
        curves: dict[str | None, RemovalCurve] = {metric.order: removed}
        if metric.name not in {part.names("metric")[0] for part in parts}:  # nothing removed: the same in every order
            curves[None] = RemovalCurve(torch.zeros(1), subject.logits[:, None], explained.target)
        parts += [
            _rows(shared, subject, quantity, order, curve.shares, values)
            for order, curve in curves.items()
            for quantity, values in _quantities(curve, metric, subject.label).items()
        ]
    return Results.joined(parts)


def _completeness(made: dict[str, Any], subject: Subject, explained: Attribution) -> list[Results]:
    once = torch.tensor([torch.nan])
    recorded = {"residual": explained.residual, "incompleteness": explained.incompleteness}
    return [
        _rows(made | {"metric": "completeness"}, subject, quantity, None, once, values[:, None])
        for quantity, values in recorded.items()
        if values is not None
    ]


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
    columns = {name: column.repeat_interleave(s).numpy() for name, column in per_image.items()}
    varying = {"share": shares.repeat(n).numpy(), "value": values.flatten().detach().numpy()}
    return Results.from_columns({**shared, **columns, **varying, "quantity": quantity, "order": order})
