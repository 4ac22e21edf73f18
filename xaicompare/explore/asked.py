"""What a page may ask, checked once where it enters."""

import base64
import binascii
from dataclasses import fields
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from xaicompare.core import Method
from xaicompare.errors import InputError, SettingError, unknown
from xaicompare.explore.exhibit import Exhibit, class_number
from xaicompare.registry import METHODS
from xaicompare.settings import Share, Whole, Word, frozen
from xaicompare.study.subject import fitted
from xaicompare.titles import titled
from xaicompare.zoo.strokes import read_strokes
from xaicompare.zoo.uploads import exact

RULES = (
    *("zero", "epsilon", "gamma", "alpha-beta", "z-plus", "z-box", "w-square", "flat"),
    *("epsilon-plus", "epsilon-plus-flat", "epsilon-gamma-box", "epsilon-alpha2-beta1", "mnist-mlp"),
)
"""Rules and composites of LRP that a page offers: those that fit any network."""

Fill = Literal["mean", "black", "blur", "noise", "linear"]
_MOST_METHODS = 24


@frozen
class Asked:
    """The settings of a view; each view reads those that it knows."""

    image: dict[str, Any]
    target: Whole | None = None  # None: the predicted class
    against: Whole | None = None  # the class that the target is contrasted with
    methods: tuple[Word, ...] = ()
    layer: Word | None = None  # of methods that have one
    order: Literal["most", "least", "random"] = "most"
    fill: Fill = "mean"
    share: Share = 0.2
    composite: Word = "epsilon-plus-flat"
    inside: Word | None = None  # the layer that is looked into


def asked(given: object) -> Asked:
    """What came as JSON.

    Raises:
        XaiCompareError: an unknown setting, or a value out of range.
    """
    if not isinstance(given, dict):
        raise InputError(f"a {type(given).__name__} was asked; expected a table of settings.")
    if len(given.get("methods") or ()) > _MOST_METHODS:
        raise InputError(f"{len(given['methods'])} methods; expected at most {_MOST_METHODS}. Choose fewer.")
    return Asked(**given)


class Picture(NamedTuple):
    """The image that is looked at."""

    pixels: Tensor  # (c, size, size) uint8
    number: int | None  # among the exhibit's own
    drawn: bool = False


def picture(exhibit: Exhibit, given: dict[str, Any]) -> Picture:
    """The image that was asked for: `{"example": 3}`, `{"square": PNG in base64}` or `{"strokes": [[[x, y], ...]]}`.

    Raises:
        InputError, DataError: none of these, or one that can't be read.
    """
    if set(given) == {"example"} and type(given["example"]) is int:
        return Picture(exhibit.pixels(given["example"]), given["example"])
    if set(given) == {"square"} and isinstance(given["square"], str):
        try:
            data = base64.b64decode(given["square"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError("the square is no base64; expected a PNG in it.") from error
        return Picture(exact(data, size=exhibit.size, mode=exhibit.mode), None)
    if set(given) == {"strokes"}:
        return Picture(read_strokes(given["strokes"], exhibit.hand), None, drawn=True)
    raise InputError(f"image has {', '.join(map(repr, given)) or 'nothing'}; expected example, square or strokes.")


def method_of(exhibit: Exhibit, name: str, layer: str | None) -> Method:
    """A method by its name on the page, such as "saliency" or "lrp:gamma", fitted to the network's images.

    Raises:
        UnknownNameError: no such method, rule or layer.
    """
    kind, _, rule = name.partition(":")
    if rule and (kind != "lrp" or rule not in RULES):
        raise unknown("rule of lrp", rule, RULES)
    wanted = METHODS[kind]
    settings: dict[str, Any] = {"composite": rule} if rule else {}
    if layer is not None and "layer" in {field.name for field in fields(wanted)}:  # type: ignore[arg-type]
        if layer not in exhibit.layers():
            raise unknown("layer", layer, exhibit.layers())
        settings["layer"] = layer
    return fitted(METHODS.build(kind, **settings), exhibit.scale, exhibit.references)


def title_of(name: str) -> str:
    """What people call it.

    >>> title_of("gradcam"), title_of("lrp:gamma"), title_of("random")
    ('Grad-CAM', 'LRP gamma', 'random')
    """
    kind, _, rule = name.partition(":")
    return titled(f"lrp(composite={rule})", "lrp") if rule else titled(kind, kind)


def fill_of(exhibit: Exhibit, fill: Fill) -> str | list[float]:
    """The fill as metrics take it; black is the least value of a pixel in each channel."""
    return list(exhibit.scale.low) if fill == "black" else fill


class Contrast(nn.Sequential):
    """The network with the output of one class taken off all others: a linear layer, which every method can walk.

    The score of a class is then how far it is ahead of that one.
    """

    def __init__(self, model: nn.Module, classes: int, against: int) -> None:
        ahead = nn.Linear(classes, classes, bias=False)
        with torch.no_grad():
            ahead.weight.copy_(torch.eye(classes))
            ahead.weight[:, against] -= 1
        super().__init__(model, ahead)
        self.eval()


class Question(NamedTuple):
    """What is explained: a network's output for an image."""

    model: nn.Module
    inputs: Tensor  # (1, c, size, size)
    target: int
    logits: Tensor  # (classes,) of the network itself


def question(exhibit: Exhibit, wanted: Asked, shown: Picture) -> Question:
    """The network, the inputs and the class that is explained, the predicted one unless another is asked for.

    Raises:
        XaiCompareError: a class that does not exist, or the same twice.
    """
    class_number(exhibit, wanted.target)
    class_number(exhibit, wanted.against)
    inputs = exhibit.inputs(shown.pixels)
    logits = exhibit.logits(inputs)[0]
    target = int(logits.argmax()) if wanted.target is None else wanted.target
    if wanted.against is None:
        return Question(exhibit.model, inputs, target, logits)
    if wanted.against == target:
        raise SettingError(f"class {target} against itself; expected another one to contrast it with.")
    return Question(Contrast(exhibit.model, len(exhibit.classes), wanted.against), inputs, target, logits)


def rules_of(wanted: Asked) -> list[str]:
    """The rules of LRP among the methods, without the other methods."""
    return [name.partition(":")[2] for name in wanted.methods if name.startswith("lrp:")]
