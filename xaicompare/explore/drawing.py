"""What a network reads in a drawing, and what speaks for each of its classes."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from xaicompare.boundary import predicted
from xaicompare.errors import XaiCompareError
from xaicompare.explore.asked import Asked, Picture, rules_of, title_of
from xaicompare.explore.exhibit import Exhibit
from xaicompare.explore.photo import Told, said
from xaicompare.lrp import LayerRelevance, relevance
from xaicompare.reporting import pictures


def of_all_classes(exhibit: Exhibit, inputs: Tensor, rule: str) -> LayerRelevance:
    """The relevance of one image for every class by one rule; `values` are (1, classes, c, h, w).

    Raises:
        XaiCompareError: a rule that does not exist, or has no right answer on this network.
    """
    bounds: dict[str, Any] = {"low": torch.tensor(exhibit.scale.low), "high": torch.tensor(exhibit.scale.high)}
    every = torch.arange(len(exhibit.classes))[None]
    return relevance(exhibit.model, inputs, every, rule, layers=(), **bounds)


def read(exhibit: Exhibit, wanted: Asked, shown: Picture) -> Iterator[Told]:
    """What is read from the image, then the relevance for every class by each rule; one scale for all of a rule."""
    inputs = exhibit.inputs(shown.pixels)
    logits = exhibit.logits(inputs)[0]
    yield {
        **said(exhibit, logits),
        "picture": pictures.picture(shown.pixels),
        "probabilities": logits.softmax(0).tolist(),
        "logits": logits.tolist(),
        "label": None if shown.number is None else exhibit.label(shown.number),
    }
    for rule in rules_of(wanted):
        told: Told = {"method": f"lrp:{rule}", "title": title_of(f"lrp:{rule}")}
        try:
            made = of_all_classes(exhibit, inputs, rule)
        except XaiCompareError as error:
            yield told | {"error": str(error)}
            continue
        yield told | {"maps": pictures.coloured_alike(made.values[0].sum(1)), "starts": made.start[0].tolist()}


def misread(exhibit: Exhibit) -> list[int]:
    """The numbers of the images to begin with of which another class is predicted than is true."""
    if exhibit.images is None or bool((exhibit.images.labels < 0).any()):
        return []
    inputs, labels = exhibit.images.batch(range(len(exhibit.images)))
    return (predicted(exhibit.logits(inputs)) != labels).nonzero()[:, 0].tolist()
