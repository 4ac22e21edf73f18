"""The Python lines that give what a view shows."""

from typing import Literal

from torch import Tensor

from xaicompare.core import Method
from xaicompare.explore.asked import Asked, Picture, fill_of, method_of, question, rules_of, title_of
from xaicompare.explore.exhibit import Exhibit
from xaicompare.explore.photo import cheap_first
from xaicompare.explore.removal import shares_of
from xaicompare.registry import METHODS

View = Literal["photo", "remove", "draw", "two", "layers"]

_CONTRAST = """
# The score of a class less that of class {against}: a linear layer on top.
import torch
ahead = torch.nn.Linear({classes}, {classes}, bias=False)
ahead.weight.data = torch.eye({classes})
ahead.weight.data[:, {against}] -= 1
model = torch.nn.Sequential(model, ahead).eval()
"""

_DRAWING = """
from xaicompare.zoo.strokes import read_strokes
strokes = {strokes}
inputs = data.scale.normalised(read_strokes(strokes, {hand!r})[None])
"""


def code(exhibits: tuple[Exhibit, ...], view: View, wanted: Asked, shown: Picture) -> str:
    """Lines that run as they stand where the view shows one of the exhibit's own images.

    Raises:
        XaiCompareError: settings that the view would refuse.
    """
    exhibit = exhibits[0]
    target = question(exhibit, wanted, shown).target
    start = _begin(exhibit, wanted, shown)
    if view == "draw":
        body = _drawn(exhibit, wanted)
    elif view == "layers":
        body = _flow(exhibit, wanted, target)
    else:
        body = _maps(exhibit, wanted, target, contrast=view != "remove")
        body += _curves(exhibit, wanted) if view == "remove" else []
        body += _second(exhibits, target) if view == "two" else []
        body += _sheet(exhibit) if view == "photo" else []
    used = any("references" in line for line in body)
    return "\n".join([*start, *(_references(exhibit) if used else []), "", *body]) + "\n"


def _begin(exhibit: Exhibit, wanted: Asked, shown: Picture) -> list[str]:
    if shown.drawn:
        taking = _DRAWING.strip().format(strokes=wanted.image["strokes"], hand=exhibit.hand)
    elif shown.number is None:
        taking = exhibit.own
    else:
        taking = exhibit.taking.format(number=shown.number, name=exhibit.names[shown.number])
    return [*exhibit.opening, taking]


def _references(exhibit: Exhibit) -> list[str]:
    if exhibit.references is None:
        return []
    count = len(exhibit.references)
    return [f"references = data.train.drawn({count}, 0).batch(range({count}))[0]"]


def _maps(exhibit: Exhibit, wanted: Asked, target: int, *, contrast: bool) -> list[str]:
    lines = ["methods = {"]
    for name in cheap_first(wanted.methods):
        method = method_of(exhibit, name, wanted.layer)
        layer = method.changed().get("layer")
        if contrast and wanted.against is not None and layer is not None:
            method = METHODS.build(method.name, layer=f"0.{layer}")
        lines.append(f"    {title_of(name)!r}: {_written(exhibit, method)},")
    above = []
    if contrast and wanted.against is not None:
        above = [_CONTRAST.strip().format(against=wanted.against, classes=len(exhibit.classes)), ""]
    explained = f"xc.attribute(model, inputs, method, target={target}, strict=False)"
    return [
        *above,
        *lines,
        "}",
        f"many = {{title: {explained} for title, method in methods.items()}}",
        "for title, made in many.items():",
        "    print(title, made.total, made.incompleteness, made.seconds)",
    ]


def _written(exhibit: Exhibit, method: Method) -> str:
    """A method as it is written in Python."""
    settings = ", ".join(f"{name}={_value(exhibit, value)}" for name, value in method.changed().items())
    return f"xc.{type(method).__name__}({settings})"


def _value(exhibit: Exhibit, value: object) -> str:
    if value is exhibit.references:
        return "references"
    return repr(value.tolist()) if isinstance(value, Tensor) else repr(value)


def _curves(exhibit: Exhibit, wanted: Asked) -> list[str]:
    step = len(shares_of(exhibit)) - 1
    at = round(wanted.share * step)
    fill = fill_of(exhibit, wanted.fill)
    return [
        f"shares = [step / {step} for step in range({step + 1})]",
        "for title, made in many.items():",
        f'    metric = xc.ConfidenceRemoval(order="{wanted.order}", shares=shares, fill={fill!r})',
        "    curve = xc.curve(model, made, metric)",
        f"    print(title, curve.shares[{at}], curve.predicted[0, {at}], curve.values[0, {at}])",
    ]


def _sheet(exhibit: Exhibit) -> list[str]:
    mean, std = exhibit.scale.mean, exhibit.scale.std
    return [f'xc.grid(many, mean={mean}, std={std}, overlay=True).savefig("maps.png")']


def _second(exhibits: tuple[Exhibit, ...], target: int) -> list[str]:
    if len(exhibits) < 2:
        return []
    second = [line for line in exhibits[1].opening if line.startswith(("model", "xc.load_weights"))]
    renamed = [line.replace("model,", "other,", 1).replace("model =", "other =", 1) for line in second]
    return [
        *renamed,
        "from xaicompare.metrics import alike",
        f"theirs = {{title: xc.attribute(other, inputs, method, target={target}, strict=False) "
        "for title, method in methods.items()}",
        "for title in many:",
        '    print(title, alike(many[title], theirs[title], "spearman", "signed"))',
    ]


def _drawn(exhibit: Exhibit, wanted: Asked) -> list[str]:
    low, high = list(exhibit.scale.low), list(exhibit.scale.high)
    classes = len(exhibit.classes)
    return [
        "print(model(inputs).softmax(1))",
        f"for rule in {rules_of(wanted)!r}:",
        f"    made = xc.relevance(model, inputs, [list(range({classes}))], rule, low={low}, high={high})",
        '    xc.class_relevance(made, inputs).savefig(f"{rule}.png")',
    ]


def _flow(exhibit: Exhibit, wanted: Asked, target: int) -> list[str]:
    low, high = list(exhibit.scale.low), list(exhibit.scale.high)
    inside = [] if wanted.inside is None else [f'xc.channel_relevance(made, {wanted.inside!r}).savefig("channels.png")']
    return [
        f"made = xc.relevance(model, inputs, {target}, {wanted.composite!r}, low={low}, high={high})",
        "for name, total in made.sums.items():",
        "    print(name, total, made.absorbed[name])",
        'xc.relevance_flow(made).savefig("flow.png")',
        *inside,
    ]
