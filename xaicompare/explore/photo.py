"""What a network says of an image, and maps of it by several methods, one by one."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from torch import Tensor

from xaicompare import cost
from xaicompare.boundary import predicted
from xaicompare.core import Attribution, Method
from xaicompare.errors import XaiCompareError
from xaicompare.explore.asked import Asked, Picture, Question, method_of, question, title_of
from xaicompare.explore.exhibit import Exhibit
from xaicompare.metrics import confidence
from xaicompare.registry import METHODS
from xaicompare.reporting import pictures

Told = dict[str, Any]
"""Plain values, as a page gets them in JSON."""

_TOP = 5


def look(exhibit: Exhibit, shown: Picture) -> Told:
    """The image as the network sees it, the five most probable classes, and the confidence."""
    logits = exhibit.logits(exhibit.inputs(shown.pixels))
    told = said(exhibit, logits[0])
    label = None if shown.number is None else exhibit.label(shown.number)
    return {**told, "picture": pictures.picture(shown.pixels), "label": label}


def said(exhibit: Exhibit, logits: Tensor) -> Told:
    """What outputs (classes,) mean."""
    chances = logits.softmax(0)
    top = chances.topk(min(_TOP, len(chances)))
    best = [
        {"class": int(number), "name": exhibit.classes[int(number)], "probability": float(chance)}
        for chance, number in zip(top.values, top.indices, strict=True)
    ]
    return {"top": best, "predicted": int(predicted(logits)), "confidence": float(confidence(logits[None])[0])}


def maps(exhibit: Exhibit, wanted: Asked, shown: Picture) -> Iterator[Told]:
    """A map for each method, the cheap ones first; an error in place of those that can't."""
    asked_of = question(exhibit, wanted, shown)
    yield {
        "target": asked_of.target,
        "probability": float(asked_of.logits.softmax(0)[asked_of.target]),
        "logit": float(asked_of.logits[asked_of.target]),
    }
    for name in cheap_first(wanted.methods):
        yield mapped(exhibit, wanted, asked_of, name)


def mapped(exhibit: Exhibit, wanted: Asked, asked_of: Question, name: str) -> Told:
    """What one method gives, as plain values."""
    told: Told = {"method": name, "title": title_of(name)}
    try:
        made = attributed(exhibit, wanted, asked_of, name)
    except XaiCompareError as error:
        return {**told, "error": str(error)}
    return {**told, **described(made), "map": pictures.coloured(made.map[0])}


def attributed(exhibit: Exhibit, wanted: Asked, asked_of: Question, name: str) -> Attribution:
    """One method's attribution; an incomplete one is given, too, and says so.

    Raises:
        XaiCompareError: the method has no right answer on this network.
    """
    method = method_of(exhibit, name, wanted.layer)
    layer = method.changed().get("layer")
    if asked_of.model is not exhibit.model and layer is not None:
        method = METHODS.build(method.name, layer=f"0.{layer}")  # the network is the first part of the contrast

    def make() -> Attribution:
        return method.attribute(asked_of.model, asked_of.inputs, asked_of.target, strict=False)

    number = wanted.image.get("example")
    if number is None:  # one's own image: nothing of it outlives the answer
        return make()
    return exhibit.remembered((number, asked_of.target, wanted.against, wanted.layer, name), make)


def described(made: Attribution) -> Told:
    """Completeness, seconds and passes of an attribution of one image."""
    passes = passes_of(made.method)
    shares = made.incompleteness
    return {
        "seconds": made.seconds,
        "forward": passes.forward,
        "backward": passes.backward,
        "score": float(made.score[0]),
        "sum": float(made.total[0]),
        "status": made.status,
        "incompleteness": None if shares is None else float(shares[0]),
        "settings": repr(made.method),
    }


def cheap_first(names: tuple[str, ...]) -> list[str]:
    """Methods in the order of their passes.

    >>> cheap_first(("integrated_gradients", "saliency", "lrp:gamma"))
    ['saliency', 'lrp:gamma', 'integrated_gradients']
    """
    known = dict.fromkeys(names)
    return sorted(known, key=lambda name: sum(_passes(METHODS.build(name.partition(":")[0]).name)))


def passes_of(method: Method) -> cost.Passes:
    """Images passed for one image, at the default settings."""
    return _passes(method.name)


@lru_cache(maxsize=256)
def _passes(name: str) -> cost.Passes:
    return cost.passes(METHODS.build(name))
