"""What a view shows as a picture to save, drawn by the figures that its Python lines name."""

import io
from dataclasses import replace
from typing import Any

import torch

from xaicompare import figures
from xaicompare.core import Attribution
from xaicompare.errors import InputError, XaiCompareError
from xaicompare.explore.asked import Asked, Picture, fill_of, question, rules_of, title_of
from xaicompare.explore.drawing import of_all_classes
from xaicompare.explore.exhibit import Exhibit
from xaicompare.explore.inside import relevance_of
from xaicompare.explore.lines import View
from xaicompare.explore.photo import attributed, cheap_first
from xaicompare.explore.removal import images_without, metric_of, shares_of
from xaicompare.metrics import RemovalCurve


def png(exhibits: tuple[Exhibit, ...], view: View, wanted: Asked, shown: Picture) -> bytes:
    """The picture of a view, as the bytes of a PNG file.

    Raises:
        XaiCompareError: settings that the view would refuse, or nothing to draw.
    """
    made = _FIGURES[view](exhibits, wanted, shown)
    content = io.BytesIO()
    made.savefig(content, format="png", dpi=150)
    return content.getvalue()


def _maps(exhibits: tuple[Exhibit, ...], wanted: Asked, shown: Picture) -> figures.Figure:
    exhibit = exhibits[0]
    columns: dict[str, Attribution | XaiCompareError] = {}
    asked_of = question(exhibit, wanted, shown)
    several = len(exhibits) > 1
    for name in cheap_first(wanted.methods):
        for number, each in enumerate(exhibits):
            theirs = replace(wanted, target=asked_of.target, layer=None if number else wanted.layer)
            title = f"{title_of(name)}, {each.title.partition(',')[0]}" if several else title_of(name)
            try:
                columns[title] = attributed(each, theirs, question(each, theirs, shown), name)
            except XaiCompareError as error:
                columns[title] = error
    chance = float(asked_of.logits.softmax(0)[asked_of.target])
    return figures.grid(
        columns,
        classes=exhibit.classes,
        predicted=[int(asked_of.logits.argmax())],
        probabilities=[chance],
        mean=exhibit.scale.mean,
        std=exhibit.scale.std,
        overlay=True,
        wrap=2 if several else 6,
    )


def _alone(exhibits: tuple[Exhibit, ...], wanted: Asked, shown: Picture) -> figures.Figure:
    return _maps(exhibits[:1], wanted, shown)


def _removed(exhibits: tuple[Exhibit, ...], wanted: Asked, shown: Picture) -> figures.Figure:
    exhibit = exhibits[0]
    wanted = replace(wanted, against=None)
    asked_of = question(exhibit, wanted, shown)
    fill: Any = fill_of(exhibit, wanted.fill)
    metric = metric_of(exhibit, wanted.order, fill)
    at = round(wanted.share * (len(shares_of(exhibit)) - 1))
    curves, images = {}, {}
    for name in cheap_first(wanted.methods):
        made: Attribution = attributed(exhibit, wanted, asked_of, name)
        curve = metric.curve(exhibit.model, made)
        assert isinstance(curve, RemovalCurve)
        curves[title_of(name)] = curve
        images[title_of(name)] = exhibit.scale.pictures(images_without(made, metric, torch.tensor([at])))[0]
    return figures.removed(curves, images, at, classes=exhibit.classes)


def _drawn(exhibits: tuple[Exhibit, ...], wanted: Asked, shown: Picture) -> figures.Figure:
    rules = rules_of(wanted)
    if not rules:
        raise InputError("no rule of LRP is chosen; expected one. Choose one.")
    inputs = exhibits[0].inputs(shown.pixels)
    return figures.class_relevance(of_all_classes(exhibits[0], inputs, rules[0]), inputs, classes=exhibits[0].classes)


def _flow(exhibits: tuple[Exhibit, ...], wanted: Asked, shown: Picture) -> figures.Figure:
    made = relevance_of(exhibits[0], wanted, question(exhibits[0], wanted, shown))
    return figures.relevance_flow(made) if wanted.inside is None else figures.channel_relevance(made, wanted.inside)


_FIGURES = {"photo": _alone, "remove": _removed, "draw": _drawn, "two": _maps, "layers": _flow}
