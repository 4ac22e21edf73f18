"""One training loop, and networks that are trained once and kept."""

import hashlib
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from xaicompare.borrow import borrowed
from xaicompare.boundary import checked_outputs
from xaicompare.draws import generator
from xaicompare.errors import DataError, UnsupportedModelError
from xaicompare.progress import progress
from xaicompare.settings import BatchSize, Count, Positive, Seed, Settings, frozen
from xaicompare.training.lesson import Batch, Lesson
from xaicompare.training.losses import Losses, steps_between_looks
from xaicompare.training.stopping import Watch
from xaicompare.zoo.images import Dataset, Images
from xaicompare.zoo.models import build_model, seeded
from xaicompare.zoo.places import cache_root
from xaicompare.zoo.weights import load_weights, save_weights, weight_notes


@frozen
class Recipe(Settings):
    """How a network is trained: together with the network and the data, all that determines its weights."""

    name = "recipe"

    epochs: Count = 3
    batch_size: BatchSize = 128
    lr: Positive = 1e-3  # the peak, where it rises and falls
    optimizer: Literal["adam", "sgd-onecycle"] = "adam"  # SGD with Nesterov's momentum; one rise and fall
    limit: Count | None = None  # a fair sample of so many training images; None: all
    flip: bool = False  # mirror images left to right, half of the time
    bf16: bool = False  # multiply in bfloat16
    seed: Seed = 0  # of the initial weights, the sample, the order, flips and dropout


RECIPES = {
    "small_cnn": Recipe(lr=3e-3),
    "vgg16_cifar10": Recipe(epochs=14, lr=0.04, optimizer="sgd-onecycle", flip=True, bf16=True),
}
"""Models that need another recipe than the usual one."""

_FEW_IMAGES = {("small_cnn", "digits"): Recipe(epochs=20, batch_size=32, lr=3e-3)}
"""Data with so few images that the model's own recipe would take too few steps to learn them."""


def usual_recipe(model: str, data: str) -> Recipe:
    """How that model is trained on that data set unless a recipe is given.

    >>> usual_recipe("small_cnn", "mnist").epochs, usual_recipe("small_cnn", "digits").epochs
    (3, 20)
    """
    return _FEW_IMAGES.get((model, data)) or RECIPES.get(model, Recipe())


@dataclass(frozen=True)
class Fit:
    """How a training went."""

    losses: tuple[float, ...]  # mean cross-entropy of each epoch
    seconds: float  # wall time
    batches: int  # steps taken


@dataclass(frozen=True)
class Provenance:
    """Where the weights of a trained network come from."""

    path: Path  # their file in the cache
    accuracy: float  # share of the test images classified right
    cached: bool  # trained before, and loaded now


def trained(
    name: str, dataset: Dataset, recipe: Recipe | None = None, *, device: str = "cpu", **settings: object
) -> tuple[nn.Module, Provenance]:
    """The network of that name, trained on the data set; trained now, unless exactly that was done before.

    The weights stay in the cache, under a name that hashes all that determines them: the network and its settings, the
    recipe, and the data.

    Args:
        recipe: None: the usual one, see `usual_recipe`.
        settings: of the model.

    Raises:
        UnknownNameError, SettingError: see `build_model`.
        DataError, UnsupportedModelError, DivergedError: see `fit`.
    """
    recipe = recipe or usual_recipe(name, dataset.name)
    model = build_model(name, len(dataset.classes), dataset.channels, seed=recipe.seed, **settings).to(device)
    path = _place(model, [name, sorted(settings.items()), recipe], dataset)
    cached = path.exists()
    if cached:
        load_weights(model, path)
    else:
        went = fit(model, dataset, recipe)
        result = {"accuracy": accuracy(model, dataset.test), "losses": went.losses, "seconds": went.seconds}
        save_weights(model, path, {"model": name, "dataset": dataset.name, "recipe": asdict(recipe), **result})
    return model, Provenance(path, float(str(weight_notes(path)["accuracy"])), cached)


def fit(
    model: nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    lesson: Lesson | None = None,
    *,
    steps: int | None = None,
    watch: Watch | None = None,
    validation: Images | None = None,
) -> Fit:
    """Trains the model in place, on the device it is on, and leaves it in evaluation mode.

    The global random state is neither read nor moved.

    Args:
        lesson: how an arm of an experiment takes its steps; None: plainly.
        steps: ends after so many, in the middle of an epoch if need be; None: after the recipe's epochs.
        watch: stops early, by its accuracy on the validation images, and takes the best weights.

    Raises:
        DataError: the data set has nothing to train on, or less than the recipe's limit.
        UnsupportedModelError: the model does not return (n, classes).
        DivergedError: the loss is no longer a finite number.
    """
    device = next(model.parameters()).device
    images = _training_images(dataset, recipe).to(device)
    lesson = lesson or Lesson.plain(model)
    an_epoch = math.ceil(len(images) / recipe.batch_size)
    steps = recipe.epochs * an_epoch if steps is None else steps
    epochs = math.ceil(steps / an_epoch)
    optimizer, schedule = descent([{"params": list(model.parameters())}, *lesson.more], recipe, steps=steps)
    taking_steps = lesson.wrapped(optimizer)
    draws, looks = generator(recipe.seed), steps_between_looks(device)
    losses, taken = [], 0
    started = time.perf_counter()
    with _training(model), seeded(recipe.seed, device):
        for epoch in range(1, epochs + 1):
            epochs_losses, stopped = Losses(looks, epoch, repr(recipe)), False
            for batch in _batches(images, recipe, draws, f"epoch {epoch} of {epochs}"):
                loss, n = _loss(lesson, batch, classes=len(dataset.classes), bf16=recipe.bf16), len(batch.labels)
                optimizer.zero_grad()
                loss.backward()
                taking_steps.step()
                schedule.step()
                taken += 1
                if epochs_losses.add(loss, n):
                    lesson.look()
                if watch is not None and watch.is_due():
                    assert validation is not None
                    stopped = watch.stops(model, accuracy(model, validation))
                if stopped or taken == steps:
                    break
            losses.append(epochs_losses.mean())
            lesson.look()
            if stopped:
                break
    if watch is not None:
        watch.restore(model)
    return Fit(tuple(losses), time.perf_counter() - started, taken)


def accuracy(model: nn.Module, images: Images, *, batch_size: int = 256) -> float:
    """The share of images that the model, in evaluation mode, classifies right.

    Raises:
        DataError: there are no images.
        UnsupportedModelError: the model does not return (n, classes).
    """
    if len(images) == 0:
        raise DataError("accuracy on 0 images; expected at least one.")
    images = images.to(next(model.parameters()).device)
    right: list[Tensor] = []  # read once, at the end
    with borrowed(model, inplace=True), torch.no_grad():
        for indices in progress(torch.arange(len(images)).split(batch_size), "accuracy"):
            inputs, labels = images.batch(indices)
            right.append((checked_outputs(model(inputs), len(inputs)).argmax(1) == labels).sum())
    return int(torch.stack(right).sum()) / len(images)


def _training_images(dataset: Dataset, recipe: Recipe) -> Images:
    if len(dataset.train) == 0:
        raise DataError(f"data set {dataset.name} has no training images; expected some. Load weights instead.")
    return dataset.train if recipe.limit is None else dataset.train.drawn(recipe.limit, recipe.seed)


def descent(groups: list[dict[str, Any]], recipe: Recipe, *, steps: int) -> tuple[Optimizer, LRScheduler]:
    """The optimizer and the course of its step size."""
    if recipe.optimizer == "adam":
        # One pass over memory for each parameter; as a sequence of operations a step takes longer than the gradients.
        adam = Adam(groups, lr=recipe.lr, fused=True)
        return adam, LambdaLR(adam, lambda _: 1.0)
    sgd = SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)
    return sgd, OneCycleLR(sgd, max_lr=[group.get("lr", recipe.lr) for group in groups], total_steps=steps)


@contextmanager
def _training(model: nn.Module) -> Iterator[None]:
    """The model in training mode, its channels last in memory: on a CPU a step then takes 0.5 to 0.7 of the time."""
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack it
    try:
        yield
    finally:
        model.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _batches(images: Images, recipe: Recipe, draws: torch.Generator, what: str) -> Iterator[Batch]:
    """All images once, in a new order."""
    order = torch.randperm(len(images), generator=draws)
    for indices in progress(order.split(recipe.batch_size), what, unit="batch"):
        inputs, labels = images.batch(indices)
        if recipe.flip:
            mirrored = torch.rand(len(inputs), generator=draws).lt(0.5).to(inputs.device)
            inputs = torch.where(mirrored[:, None, None, None], inputs.flip(-1), inputs)
        yield Batch(inputs.contiguous(memory_format=torch.channels_last), labels, indices)


def _loss(lesson: Lesson, batch: Batch, *, classes: int, bf16: bool) -> Tensor:
    """The loss of a batch, by default its mean cross-entropy."""
    n = len(batch.labels)
    with torch.autocast(batch.inputs.device.type, torch.bfloat16, enabled=bf16):
        logits = lesson.logits(batch.inputs, batch.labels)
    if not isinstance(logits, Tensor) or logits.shape != (n, classes):
        what = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UnsupportedModelError(
            f"the model returns {what} for {n} samples; expected ({n}, {classes}). "
            "Build it for the classes of this data set."
        )
    return lesson.loss(logits.float(), batch)


def _place(model: nn.Module, settings: list[object], dataset: Dataset) -> Path:
    """The file for the weights of a network trained like that."""
    digest = hashlib.blake2b(repr((settings, str(model), dataset)).encode(), digest_size=6)
    for images in (dataset.train, dataset.test):
        digest.update(_fingerprint(images))
    name = re.sub(r"\W+", "-", f"{settings[0]}-{dataset.name}").strip("-")
    return cache_root() / "weights" / f"{name}-{digest.hexdigest()}.safetensors"


def _fingerprint(images: Images) -> bytes:
    """All labels and up to 64 images, evenly spread: another data set of the same name has others."""
    if len(images) == 0:
        return b""
    inputs, _ = images.batch(torch.arange(0, len(images), max(1, len(images) // 64))[:64])
    return images.labels.cpu().numpy().tobytes() + inputs.cpu().numpy().tobytes()
