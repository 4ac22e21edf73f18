"""What a study explains: a model, and images with everything known about them."""

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from xaicompare.borrow import borrowed
from xaicompare.boundary import outputs
from xaicompare.draws import generator
from xaicompare.errors import DataError, StudyError
from xaicompare.settings import Settings
from xaicompare.study.spec import ModelSpec, Study
from xaicompare.training.fit import trained
from xaicompare.zoo import Dataset, Scale, build_model, load_dataset, load_weights
from xaicompare.zoo.places import located

S = TypeVar("S", bound=Settings)


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
    masks: Tensor | None = None  # (n, h, w) bool, True where what decides the class lies, if that is known

    @property
    def predicted(self) -> Tensor:
        """The predicted classes, (n,)."""
        return self.logits.argmax(1)


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
    masks = dataset.test.masks(image)
    blind = [name for name, metric in study.metrics.items() if metric.traits.masks]
    if blind and masks is None:
        raise StudyError(
            f"{blind[0]} needs to know where what decides the class lies, which {dataset.name} does not tell; expected "
            "a data set with masks, such as planted or mosaic."
        )
    if blind and study.explain != "label":
        raise StudyError(f'{blind[0]} looks where the label\'s class lies; expected explain = "label" beside it.')
    return Subject(model, dataset, origin, image, inputs, label, logits, target, masks)


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


def part_of(subject: Subject, chosen: slice) -> Subject:
    """The same subject with some of its images only."""
    names = ("image", "inputs", "label", "logits", "target", *(() if subject.masks is None else ("masks",)))
    return replace(subject, **{name: getattr(subject, name)[chosen] for name in names})


def fitted(given: S, scale: Scale, references: Tensor | None = None) -> S:
    """A method or metric with what only the data can tell: bounds of pixels, and references (m, c, h, w) as baselines.

    Only settings that are None are filled in.
    """
    known = {"low": torch.tensor(scale.low), "high": torch.tensor(scale.high), "baselines": references}
    unset = (entry.name for entry in fields(given) if getattr(given, entry.name) is None)  # type: ignore[arg-type]
    return replace(given, **{name: known[name] for name in unset if name in known})  # type: ignore[type-var]
