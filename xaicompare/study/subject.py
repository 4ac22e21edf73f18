"""What a study explains: a model, and images with everything known about them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor, nn

from xaicompare.borrow import borrowed
from xaicompare.boundary import outputs, predicted
from xaicompare.core import Attribution
from xaicompare.draws import generator
from xaicompare.errors import DataError, StudyError
from xaicompare.progress import progress
from xaicompare.settings import Settings
from xaicompare.study.fingerprint import of_samples
from xaicompare.study.spec import GIVEN, ModelSpec, Study
from xaicompare.training.fit import trained
from xaicompare.zoo import Dataset, Scale, build_model, load_dataset, load_weights
from xaicompare.zoo.classes import UNKNOWN, matched, weights_classes
from xaicompare.zoo.places import located
from xaicompare.zoo.spec import RANDOM, RANDOM_WEIGHTS, is_spec, open_model

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, eq=False)
class Subject:
    """What is explained: a model, and images with everything known about them, on the CPU wherever the model is.

    The images themselves are read when they are first asked for; see `part_of` for some of them only.
    """

    model: nn.Module
    dataset: Dataset
    origin: str  # where the weights come from
    image: Tensor  # (n,) numbers in the test part
    label: Tensor  # (n,) `zoo.classes.UNKNOWN` where the data's classes are not the network's
    logits: Tensor  # (n, classes)
    target: Tensor  # (n,) the explained class
    content: Tensor  # (n, 10) uint8, digests of the images with their masks
    note: str = ""  # why labels are unknown, if they are

    @cached_property
    def inputs(self) -> Tensor:
        """The images, (n, c, h, w), where the model is."""
        return self.dataset.test.batch(self.image)[0].to(_device(self.model))

    @cached_property
    def masks(self) -> Tensor | None:
        """True where what decides the class lies, (n, h, w) bool, if that is known."""
        return self.dataset.test.masks(self.image)

    @property
    def accuracy(self) -> float | None:
        """The share of the images that are classified right; None where labels are unknown."""
        if (self.label == UNKNOWN).any():
            return None
        return float((self.predicted == self.label).double().mean())

    @property
    def predicted(self) -> Tensor:
        """The predicted classes, (n,)."""
        return predicted(self.logits)


_LOOKED_AT = 64  # images at once, whatever a cell holds, so that logits don't depend on that


def prepared(study: Study, device: str = "cpu") -> Subject:
    """The study's model on that device, and the images that it explains with what the model says of them."""
    dataset, note = data_of(study)
    if note and study.explain == "label":
        raise StudyError(f'explain = "label": {note}')
    model, origin = model_of(study.model, dataset)
    return looked_at(study, model, origin, dataset, note, device)


def looked_at(
    study: Study, model: nn.Module, origin: str, dataset: Dataset, note: str = "", device: str = "cpu"
) -> Subject:
    """A model on that device, and the images of a data set that the study explains with what the model says of them."""
    if study.images > len(dataset.test):
        raise DataError(f"images={study.images}; expected at most {len(dataset.test)}, which is all of {dataset.name}.")
    image = torch.randperm(len(dataset.test), generator=generator(study.seed))[: study.images]
    blind = [name for name, metric in study.metrics.items() if metric.traits.masks]
    if blind and dataset.test.masks(image[:1]) is None:
        raise StudyError(
            f"{blind[0]} needs to know where what decides the class lies, which {dataset.name} does not tell; expected "
            "a data set with masks: planted, mosaic, or a folder with `masks` or boxes."
        )
    if blind and study.explain != "label":
        raise StudyError(f'{blind[0]} looks where the label\'s class lies; expected explain = "label" beside it.')
    chunks = image.split(_LOOKED_AT)
    with borrowed(model.to(device)):
        seen = [_looked_at(model, dataset, chunk) for chunk in progress(chunks, "looking", total=len(chunks))]
    label, logits, content = (torch.cat(column) for column in zip(*seen, strict=True))
    target = label if study.explain == "label" else predicted(logits)
    return Subject(model, dataset, origin, image, label, logits, target, content, note)


def _looked_at(model: nn.Module, dataset: Dataset, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Labels, outputs and digests of some images."""
    inputs, label = dataset.test.batch(image)
    said = outputs(model, inputs.to(_device(model)), _LOOKED_AT).cpu()
    return label, said, of_samples(inputs, dataset.test.masks(image))


def _device(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in model.parameters()), torch.device("cpu"))


def data_of(study: Study) -> tuple[Dataset, str]:
    """The study's data set, labelled by the classes of its ready network; and why its labels are unknown, if so."""
    if GIVEN in (study.data, study.model.name):
        raise StudyError(
            "the model and the images of this study were given in Python or by a SPEC, and its file names neither; "
            "expected the same call again: xaicompare.evaluate(...), or `xaicompare evaluate`."
        )
    dataset, spec = load_dataset(study.data, **study.data_settings), study.model
    if is_spec(spec.name):
        return matched(dataset, open_model(spec.name, weights=spec.weights, **spec.settings).classes)
    if not _is_ready(spec):
        return dataset, ""
    return matched(dataset, weights_classes(spec.name, str(spec.weights)))


def _is_ready(spec: ModelSpec) -> bool:
    """Whether weights are given and used."""
    return spec.weights not in (None, RANDOM) and (spec.recipe is None or _is_there(spec.weights))


def model_of(spec: ModelSpec, dataset: Dataset) -> tuple[nn.Module, str]:
    """The model of a study, and a sentence on where its weights come from."""
    if is_spec(spec.name):
        opened = open_model(spec.name, weights=spec.weights, **spec.settings)
        return opened.model, opened.origin
    if spec.weights == RANDOM:
        return build_model(spec.name, len(dataset.classes), dataset.channels, **spec.settings), RANDOM_WEIGHTS
    if _is_ready(spec):
        assert spec.weights is not None
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


KNOWN = ("image", "label", "logits", "target", "content")
"""What a subject knows of each of its images."""


def part_of(subject: Subject, chosen: slice | Tensor) -> Subject:
    """The same subject with some of its images only."""
    return replace(subject, **{name: getattr(subject, name)[chosen] for name in KNOWN})


def fitted(given: S, scale: Scale, references: Tensor | None = None) -> S:
    """A method or metric with what only the data can tell: bounds of pixels, and references (m, c, h, w) as baselines.

    Only settings that are None are filled in.
    """
    known = {"low": torch.tensor(scale.low), "high": torch.tensor(scale.high), "baselines": references}
    unset = (entry.name for entry in fields(given) if getattr(given, entry.name) is None)  # type: ignore[arg-type]
    return replace(given, **{name: known[name] for name in unset if name in known})  # type: ignore[type-var]


def joined(parts: Sequence[Attribution]) -> Attribution:
    """Attributions of consecutive samples as one; its time is their sum."""
    first, *more = parts
    if not more:
        return first
    residuals = [part.residual for part in parts if part.residual is not None]
    return Attribution(
        values=torch.cat([part.values for part in parts]),
        inputs=torch.cat([part.inputs for part in parts]),
        target=torch.cat([part.target for part in parts]),
        score=torch.cat([part.score for part in parts]),
        method=first.method,
        residual=torch.cat(residuals) if len(residuals) == len(parts) else None,
        seconds=sum(part.seconds for part in parts),
    )


def references(study: Study, dataset: Dataset) -> Tensor | None:
    """Training images for methods that compare with several; None where the data has none."""
    count = min(study.references, len(dataset.train))
    return dataset.train.drawn(count, study.seed).batch(range(count))[0] if count else None
