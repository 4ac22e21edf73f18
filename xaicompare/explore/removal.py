"""An image that loses its features in the order of a method: computed once for all shares, then only shown."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from xaicompare.core import Attribution
from xaicompare.errors import XaiCompareError
from xaicompare.explore.asked import Asked, Picture, fill_of, question, title_of
from xaicompare.explore.exhibit import Exhibit
from xaicompare.explore.photo import Told, attributed, cheap_first
from xaicompare.methods import Random
from xaicompare.metrics import ConfidenceRemoval, RemovalCurve
from xaicompare.metrics.fill import Fill, filled, replacing
from xaicompare.metrics.removal import feature_ranks
from xaicompare.reporting import pictures

_SMALL = 64  # pixels of side, up to which steps are finer


def shares_of(exhibit: Exhibit) -> tuple[float, ...]:
    """The shares of the features that the slider stops at, from 0 to 1."""
    steps = 40 if exhibit.size <= _SMALL else 20
    return tuple(step / steps for step in range(steps + 1))


def removals(exhibit: Exhibit, wanted: Asked, shown: Picture) -> Iterator[Told]:
    """First the image and what replaces its features, then for each method when each pixel goes and what is said then.

    The features removed at random, alike for all methods, come last.
    """
    wanted = replace(wanted, against=None)  # confidence is of all classes
    asked_of = question(exhibit, wanted, shown)
    fill: Any = fill_of(exhibit, wanted.fill)
    yield {
        "target": asked_of.target,
        "shares": shares_of(exhibit),
        "base": _raw(shown.pixels),
        "replacement": None if fill == "linear" else _raw(_replacement(exhibit, asked_of.inputs, fill)),
    }
    for name in cheap_first(wanted.methods):
        told: Told = {"method": name, "title": title_of(name)}
        try:
            made = attributed(exhibit, wanted, asked_of, name)
            yield told | removed(exhibit, made, wanted.order, fill)
        except XaiCompareError as error:
            yield told | {"error": str(error)}
    if wanted.order != "random":
        noise = Random().attribute(exhibit.model, asked_of.inputs, asked_of.target)
        yield {"method": "", "title": "at random"} | removed(exhibit, noise, "random", fill)


def metric_of(exhibit: Exhibit, order: Any, fill: Any) -> ConfidenceRemoval:
    """What the page measures: `xc.curve(model, attribution, metric)` gives its numbers."""
    return ConfidenceRemoval(order=order, shares=shares_of(exhibit), fill=fill)


def removed(exhibit: Exhibit, made: Attribution, order: Any, fill: Any) -> Told:
    """What the network says at each share, and at which step each pixel goes."""
    metric = metric_of(exhibit, order, fill)
    curve = metric.curve(exhibit.model, made)
    assert isinstance(curve, RemovalCurve)
    steps = steps_of(made, metric)
    names = [exhibit.classes[number] for number in curve.predicted[0].tolist()]
    return {
        "confidence": curve.confidence()[0].tolist(),
        "probability": curve.probability[0].tolist(),
        "predicted": curve.predicted[0].tolist(),
        "names": names,
        "steps": base64.b64encode(steps.to(torch.uint8).numpy().tobytes()).decode("ascii"),
        "pictures": _imputed(exhibit, made, metric) if fill == "linear" else None,
    }


def steps_of(made: Attribution, metric: ConfidenceRemoval) -> Tensor:
    """The number of the first share at which each position is gone, (positions,); the count of shares: never."""
    ranks, number = feature_ranks(made, metric.order, metric.seed, metric.sign)
    counts = torch.stack([(share * number).round() for share in metric.shares], 1).to(ranks)  # (1, s)
    return (ranks[0, :, None] >= counts).sum(1)


def _replacement(exhibit: Exhibit, inputs: Tensor, fill: Fill) -> Tensor:
    values = filled(inputs, fill, ConfidenceRemoval().seed).expand_as(inputs)
    return _bytes(exhibit.scale.pictures(values)[0])


def images_without(made: Attribution, metric: ConfidenceRemoval, at: Tensor) -> Tensor:
    """What is left of the image of an attribution at the shares numbered `at` (s,), (s, c, h, w)."""
    gone = steps_of(made, metric)[None] <= at[:, None]  # (s, positions)
    left = replacing(metric.fill, made.inputs, metric.seed)
    return left(torch.zeros_like(at), gone.unflatten(1, made.inputs.shape[2:]))


def _imputed(exhibit: Exhibit, made: Attribution, metric: ConfidenceRemoval) -> list[str]:
    """The image at each share; imputed values depend on what else is gone."""
    images = images_without(made, metric, torch.arange(len(metric.shares)))
    return [pictures.picture(_bytes(image)) for image in exhibit.scale.pictures(images)]


def _bytes(pixels: Tensor) -> Tensor:
    return (pixels * 255).round().to(torch.uint8)


def _raw(pixels: Tensor) -> str:
    """Pixels (c, h, w) as bytes, position after position, in base64: browsers may blur what a page reads of a PNG."""
    return base64.b64encode(pixels.permute(1, 2, 0).contiguous().numpy().tobytes()).decode("ascii")
