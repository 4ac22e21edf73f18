"""What a page must know before anything is asked: classes, images, methods, rules, layers."""

from collections.abc import Sequence
from dataclasses import fields
from typing import get_args

from xaicompare import colours
from xaicompare.explore.asked import RULES, Fill, title_of
from xaicompare.explore.exhibit import Exhibit
from xaicompare.explore.photo import Told
from xaicompare.explore.removal import shares_of
from xaicompare.zoo.uploads import MOST_BYTES

USUAL = ("saliency", "input_x_gradient", "gradcam", "lrp:epsilon-plus-flat", "lrp:epsilon", "integrated_gradients")
"""What is chosen to begin with: seconds in all, and of several kinds."""
USUAL_RULES = ("zero", "epsilon", "gamma", "alpha-beta", "epsilon-gamma-box")
"""Rules of LRP for a drawing: the poster's four, and a composite that treats pixels by their bounds."""

_KINDS = {
    "gradient": "By gradient",
    "propagation": "By propagation",
    "lrp": "LRP, by rule",
    "perturbation": "By perturbation (slow)",
    "surrogate": "By perturbation (slow)",
    "control": "Controls, which know nothing",
}


def told(exhibits: tuple[Exhibit, ...], misread: Sequence[int]) -> Told:
    """All of it as plain values."""
    first = exhibits[0]
    methods = _methods(first)
    known = {method["method"] for method in methods}
    return {
        "title": first.title,
        "second": exhibits[1].title if len(exhibits) > 1 else None,
        "note": first.note,
        "classes": first.classes,
        "size": first.size,
        "channels": len(first.scale.mean),
        "images": first.names,
        "misread": list(misread),
        "draw": first.hand is not None,
        "methods": methods,
        "usual": [name for name in USUAL if name in known],
        "rules": RULES,
        "usual_rules": USUAL_RULES,
        "layers": first.layers(),
        "fills": get_args(Fill),
        "shares": shares_of(first),
        "stops": colours.STOPS,
        "percentile": colours.PERCENTILE,
        "most_bytes": MOST_BYTES,
    }


def _methods(exhibit: Exhibit) -> list[Told]:
    """Every method that the network can be explained by, and LRP once for each rule, in groups."""
    found = []
    for method in exhibit.offered():
        layered = "layer" in {field.name for field in fields(method)}  # type: ignore[arg-type]
        names = [f"lrp:{rule}" for rule in RULES] if method.name == "lrp" else [method.name]
        kind = "lrp" if method.name == "lrp" else method.traits.kind
        found += [
            {"method": name, "title": title_of(name), "group": _KINDS[kind], "layered": layered} for name in names
        ]
    return found
