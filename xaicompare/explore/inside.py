"""Inside one network, where relevance goes; and two networks beside each other."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from xaicompare.core import Attribution
from xaicompare.errors import InputError, XaiCompareError
from xaicompare.explore.asked import Asked, Picture, Question, question, title_of
from xaicompare.explore.exhibit import Exhibit
from xaicompare.explore.photo import Told, attributed, cheap_first, described, said
from xaicompare.lrp import LayerRelevance, relevance
from xaicompare.metrics import alike
from xaicompare.reporting import pictures

_CHANNELS = 12


def flow(exhibit: Exhibit, wanted: Asked, shown: Picture) -> Told:
    """The sum of relevance at each layer, what the layer absorbed, and the map at the input; of one layer its channels.

    Raises:
        XaiCompareError: a rule or layer that does not exist, or a network that LRP can't walk.
    """
    asked_of = question(exhibit, wanted, shown)
    made = relevance_of(exhibit, wanted, asked_of)
    layers = [
        {"layer": name, "sum": float(total[0]), "absorbed": float(made.absorbed[name][0])}
        for name, total in made.sums.items()
    ]
    return {
        "target": asked_of.target,
        "start": float(made.start[0]),
        "layers": layers,
        "input": float(made.values.sum()),
        "map": pictures.coloured(made.values[0].sum(0)),
        "channels": None if wanted.inside is None else _channels(made.layers[wanted.inside][0]),
    }


def relevance_of(exhibit: Exhibit, wanted: Asked, asked_of: Question) -> LayerRelevance:
    """The relevance of one output at every layer; kept of the one that is looked into."""
    bounds: dict[str, Any] = {"low": torch.tensor(exhibit.scale.low), "high": torch.tensor(exhibit.scale.high)}
    kept = () if wanted.inside is None else (wanted.inside,)
    return relevance(asked_of.model, asked_of.inputs, asked_of.target, wanted.composite, layers=kept, **bounds)


def _channels(values: Tensor) -> list[Told]:
    """The channels (or neurons) that hold most relevance, and where; one scale for all."""
    sums = values.flatten(1).sum(1) if values.ndim > 1 else values
    chosen = sums.abs().argsort(descending=True)[:_CHANNELS]
    drawn = pictures.coloured_alike(values[chosen]) if values.ndim == 3 else [None] * len(chosen)
    return [
        {"channel": int(channel), "sum": float(sums[channel]), "map": picture}
        for channel, picture in zip(chosen, drawn, strict=True)
    ]


def beside(exhibits: tuple[Exhibit, Exhibit], wanted: Asked, shown: Picture) -> Iterator[Told]:
    """What both networks say, then for each method both maps of the same class and how alike they are.

    Raises:
        InputError: networks that don't take the same images, or don't know the same classes.
    """
    first, second = exhibits
    if (first.size, first.scale, first.classes) != (second.size, second.scale, second.classes):
        raise InputError("two networks of different inputs or classes; expected the same for both.")
    asked_of = question(first, wanted, shown)
    fixed = Asked(image=wanted.image, target=asked_of.target, against=wanted.against, layer=None)
    questions = [asked_of, question(second, fixed, shown)]
    told = [{"title": each.title, **said(each, q.logits)} for each, q in zip(exhibits, questions, strict=True)]
    chances = [float(q.logits.softmax(0)[q.target]) for q in questions]
    yield {"target": asked_of.target, "networks": told, "probabilities": chances}
    for name in cheap_first(wanted.methods):
        try:
            made = [attributed(each, fixed, q, name) for each, q in zip(exhibits, questions, strict=True)]
        except XaiCompareError as error:
            yield {"method": name, "title": title_of(name), "error": str(error)}
            continue
        yield {
            "method": name,
            "title": title_of(name),
            "maps": [{**described(each), "map": pictures.coloured(each.map[0])} for each in made],
            **agreement(made),
        }


def agreement(made: list[Attribution]) -> Told:
    """How alike two maps of one image are, from -1 to 1: by ranks, and by structure."""
    ((first, second),) = pairwise(made)
    return {how: float(alike(first, second, how, "signed")[0]) for how in ("spearman", "ssim")}
