"""What a page shows: a network, how pixels become its inputs, and images to begin with."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from xaicompare.attended import Attention
from xaicompare.borrow import borrowed
from xaicompare.boundary import class_scores, outputs
from xaicompare.core import Attribution, Method
from xaicompare.errors import DataError, InputError, SettingError, unknown
from xaicompare.registry import METHODS, MODELS
from xaicompare.training.fit import trained
from xaicompare.zoo import (
    IMAGENET,
    Dataset,
    ImageArray,
    Images,
    Scale,
    build_model,
    imagenet_classes,
    load_dataset,
    load_weights,
)
from xaicompare.zoo.classes import weights_classes
from xaicompare.zoo.folders import ImageFiles, images_below
from xaicompare.zoo.places import located
from xaicompare.zoo.spec import RANDOM_WEIGHTS, open_model
from xaicompare.zoo.strokes import Hand

DIGITS = "digits"
_UNTRAINED = "Random weights: its explanations mean nothing. Give --weights."
_MOST_IMAGES = 500  # of a folder: a list that a page can offer
_MOST_KEPT = 48  # maps: 60 MB of 224 x 224 in colour
_REFERENCES = 16  # training images as baselines, as many as studies take


@dataclass(frozen=True, eq=False)
class Exhibit:
    """A network with all that is needed to show it images, and to say in Python what was shown."""

    title: str
    model: nn.Module
    scale: Scale
    size: int  # of the square that it takes
    classes: tuple[str, ...]
    images: Images | None  # to begin with
    names: tuple[str, ...]  # of these images
    opening: tuple[str, ...]  # lines of Python that give `model` and what it needs
    taking: str  # the line that gives `inputs` for image {number}, {name}
    own: str  # the line that gives `inputs` for a file of one's own
    fit: Literal["crop", "stretch"] = "crop"
    references: Tensor | None = None  # (m, c, h, w) training images, for methods that compare with several
    hand: Hand | None = None  # None where it reads no digits
    note: str = ""  # what a viewer must know, such as that weights are random
    kept: OrderedDict[Hashable, Attribution] = field(default_factory=OrderedDict)  # see `remembered`

    def __repr__(self) -> str:
        return (
            f"Exhibit({self.title}, {self.size} x {self.size}, {len(self.classes)} classes, {len(self.names)} images)"
        )

    @property
    def mode(self) -> Literal["L", "RGB"]:
        """What Pillow calls its images."""
        return "L" if len(self.scale.mean) == 1 else "RGB"

    def inputs(self, pixels: Tensor) -> Tensor:
        """Pixels (c, size, size) uint8 as the network takes them, (1, c, size, size)."""
        return self.scale.normalised(pixels[None])

    def pixels(self, number: int) -> Tensor:
        """One of the images to begin with, (c, size, size) uint8.

        Raises:
            InputError: there is none of that number.
            DataError: its file can't be read.
        """
        if self.images is None or not 0 <= number < len(self.images):
            raise InputError(f"image {number}; expected one of the {len(self.names)} there are, from 0 up.")
        inputs, _ = self.images.batch([number])
        return (self.scale.pictures(inputs)[0] * 255).round().to(torch.uint8)

    def label(self, number: int) -> int | None:
        """The true class of one of the images to begin with; None where nobody knows."""
        found = -1 if self.images is None else int(self.images.labels[number])
        return found if found >= 0 else None

    def logits(self, inputs: Tensor) -> Tensor:
        """The network's outputs, (n, classes); two where it has one."""
        with borrowed(self.model):
            return class_scores(outputs(self.model, inputs, 64))

    def remembered(self, key: Hashable, make: Callable[[], Attribution]) -> Attribution:
        """What was made of one of the images to begin with, anew if it is not among the last; in one thread only."""
        if key not in self.kept:
            self.kept[key] = make()
            if len(self.kept) > _MOST_KEPT:
                self.kept.popitem(last=False)
        self.kept.move_to_end(key)
        return self.kept[key]

    def offered(self) -> list[Method]:
        """The methods that can explain such a network, with their defaults."""
        kinds = {
            "attention": any(isinstance(part, Attention) for part in self.model.modules()),
            "transformer": any(isinstance(part, nn.MultiheadAttention) for part in self.model.modules()),
            "pooling": True,  # seen only by running it
            None: True,
        }
        built = [METHODS.build(name) for name in METHODS.names()]
        return [method for method in built if kinds[method.traits.needs]]

    def layers(self) -> list[str]:
        """The layers whose maps Grad-CAM can weight."""
        return [name for name, part in self.model.named_modules() if isinstance(part, nn.Conv2d)]


def of_dataset(name: str, model: str = "small_cnn") -> Exhibit:
    """A data set of small images, and a network that is trained on it, unless it was before.

    Raises:
        UnknownNameError, DataError: see `load_dataset` and `trained`.
    """
    data = load_dataset(name)
    if not isinstance(data.test, ImageArray):
        raise SettingError(f"data {name!r} is a folder; expected a data set by name. Say --images {name} instead.")
    network, origin = trained(model, data)
    count = min(len(data.test), _MOST_IMAGES)
    return Exhibit(
        title=f"{model} on {data.name}, {origin.accuracy:.1%} right",
        model=network,
        scale=data.scale,
        size=data.test.pixels.shape[-1],
        classes=data.classes,
        images=data.test.subset(range(count)),
        names=tuple(f"{data.name} {i}" for i in range(count)),
        opening=(
            "import xaicompare as xc",
            "from xaicompare.training.fit import trained",
            "",
            f"data = xc.load_dataset({name!r})",
            f"model, _ = trained({model!r}, data)",
        ),
        taking="inputs, label = data.test.batch([{number}])",
        own=_own(data.test.pixels.shape[-1], data.scale, "crop"),
        references=_references(data),
        hand="mnist" if name == "mnist" else "digits" if name == DIGITS else None,
    )


def _references(data: Dataset) -> Tensor | None:
    count = min(_REFERENCES, len(data.train))
    return data.train.drawn(count, 0).batch(range(count))[0] if count else None


def of_photographs(
    spec: str,
    images: str | Path | None,
    *,
    weights: str | None = None,
    classes: int = 1000,
    size: int = 224,
    fit: Literal["crop", "stretch"] = "crop",
    grey: bool = False,
) -> Exhibit:
    """A network for photographs by its name or SPEC and its weights, and a folder of images to begin with.

    Raises:
        UnknownNameError, DataError: see `build_model`, `load_weights` and `open_model`; a folder without images.
    """
    scale = Scale((0.0,), (1.0,)) if grey else IMAGENET
    if spec in MODELS:
        shown = _by_name(spec, weights, classes, scale)
    else:
        shown = _by_spec(spec, weights, size, scale)
        scale = shown.scale
    root = None if images is None else located(images, "folder of images")
    paths = [] if root is None else images_below(root)[:_MOST_IMAGES]
    if root is not None and not paths:
        raise DataError(f"{root} holds no images; expected some, in it or in folders inside it.")
    files = ImageFiles(tuple(paths), torch.full((len(paths),), -1), scale, size, fit)
    return Exhibit(
        title=spec if weights is None else f"{spec}, {Path(weights).name}",
        model=shown.model,
        scale=scale,
        size=size,
        classes=shown.classes,
        images=files if paths else None,
        names=tuple(path.name for path in paths),
        opening=("import xaicompare as xc", "from xaicompare.zoo import open_images", *shown.lines),
        taking=_opened("{name!r}", size, scale, fit),
        own=_own(size, scale, fit),
        fit=fit,
        note=shown.note,
    )


class _Shown(NamedTuple):
    """A network, the names of its classes, and the lines of Python that give it."""

    model: nn.Module
    classes: tuple[str, ...]
    scale: Scale
    lines: tuple[str, ...]
    note: str


def _by_name(name: str, weights: str | None, classes: int, scale: Scale) -> _Shown:
    model, note = network(name, weights, classes, len(scale.mean))
    loading = () if weights is None else (f"xc.load_weights(model, {Path(weights).name!r}, name={name!r})",)
    lines = ("", f"model = xc.build_model({name!r}, {classes}, {len(scale.mean)})", *loading)
    return _Shown(model, _class_names(name, weights, classes), scale, lines, note)


def _by_spec(spec: str, weights: str | None, size: int, scale: Scale) -> _Shown:
    """A network of timm, Hugging Face or a file, with the scale of its own preprocessing."""
    opened = open_model(spec, weights=weights)
    own = opened.preprocess
    scale = scale if own is None or own.scale is None else own.scale
    asked = repr(spec) if weights is None else f"{spec!r}, weights={Path(weights).name!r}"
    lines = ("from xaicompare.zoo.spec import open_model", "", f"model = open_model({asked}).model")
    note = _UNTRAINED if opened.origin == RANDOM_WEIGHTS else ""
    with borrowed(opened.model):
        count = class_scores(outputs(opened.model, torch.zeros(1, len(scale.mean), size, size), 1)).shape[1]
    known = tuple(opened.classes or ())
    names = known if len(known) == count else _class_names(spec, None, count)
    return _Shown(opened.model, names, scale, lines, note)


def network(spec: str, weights: str | None, classes: int, channels: int) -> tuple[nn.Module, str]:
    """The network that a name stands for, with its weights, and what must be told of them."""
    model = build_model(spec, classes, channels)
    if weights is None:
        return model, _UNTRAINED
    load_weights(model, weights, name=spec)
    return model, ""


def of_model(
    model: nn.Module, images: Images | Tensor, *, classes: Sequence[str] | None = None, scale: Scale | None = None
) -> Exhibit:
    """A network and images that somebody has in Python.

    Args:
        images: of a data set, or (n, c, h, w) as the network takes them, square, with one or three channels.
        classes: their names; None: their numbers.
        scale: how pixels became the images. None: that of `images`; of a tensor, the range of its values.

    Raises:
        InputError: images of another shape, or names that are not as many as the outputs.
    """
    given = images if isinstance(images, Images) else _array(images, scale)
    first, _ = given.batch([0])
    if first.ndim != 4 or first.shape[1] not in (1, 3) or first.shape[2] != first.shape[3]:
        raise InputError(f"images of shape {tuple(first.shape)}; expected (n, 1 or 3, side, side).")
    with borrowed(model):
        count = class_scores(outputs(model, first, 1)).shape[1]
    if classes is not None and len(classes) != count:
        raise InputError(f"{len(classes)} names of classes; expected {count}, one for each output.")
    names = tuple(map(str, range(count))) if classes is None else tuple(map(str, classes))
    shown = given.subset(range(min(len(given), _MOST_IMAGES)))
    return Exhibit(
        title=type(model).__name__,
        model=model,
        scale=given.scale,
        size=first.shape[-1],
        classes=names,
        images=shown,
        names=tuple(f"image {i}" for i in range(len(shown))),
        opening=("import xaicompare as xc", "", "# model and images are those you gave to xc.explore"),
        taking="inputs = images[{number} : {number} + 1]"
        if isinstance(images, Tensor)
        else "inputs, label = images.batch([{number}])",
        own=_own(first.shape[-1], given.scale, "crop"),
    )


def _array(images: Tensor, scale: Scale | None) -> ImageArray:
    """Inputs in memory as bytes; what lies between two of 256 steps is rounded to one."""
    if images.ndim != 4 or not len(images):
        raise InputError(f"images of shape {tuple(images.shape)}; expected (n, 1 or 3, side, side).")
    if scale is None:
        low, high = float(images.min()), float(images.max())
        spread = (high - low) or 1.0
        scale = Scale((-low / spread,) * images.shape[1], (1 / spread,) * images.shape[1])
    pixels = (scale.pictures(images.float().cpu()) * 255).round().to(torch.uint8)
    return ImageArray(pixels, torch.full((len(images),), -1), scale)


def _class_names(spec: str, weights: str | None, count: int) -> tuple[str, ...]:
    told = None if weights is None else weights_classes(spec, weights)
    if told is not None and len(told) == count:
        return told
    imagenet = imagenet_classes()
    return imagenet if count == len(imagenet) else tuple(map(str, range(count)))


def _own(size: int, scale: Scale, fit: str) -> str:
    return f"from xaicompare.zoo import open_images\n{_opened(repr('your-image.jpg'), size, scale, fit)}"


def _opened(path: str, size: int, scale: Scale, fit: str) -> str:
    normal = "" if scale == IMAGENET else f", mean={scale.mean}, std={scale.std}"
    return f"inputs = open_images([{path}], size={size}{normal}, fit={fit!r})"


def class_number(exhibit: Exhibit, target: int | None) -> None:
    """A class that is asked for must be one.

    Raises:
        UnknownNameError: it is none.
    """
    if target is not None and not 0 <= target < len(exhibit.classes):
        raise unknown("class", target, [f"0 to {len(exhibit.classes) - 1}"])
