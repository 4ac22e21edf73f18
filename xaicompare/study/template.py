"""A study file to begin with: every setting with its default, and what it means."""

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from xaicompare.registry import DATASETS, METHODS, METRICS, MODELS, Registry, without_masks
from xaicompare.stats import CONTROLS
from xaicompare.study.spec import Study
from xaicompare.training.fit import usual_recipe

USUAL_METHODS = (
    "saliency",
    "input_x_gradient",
    "smoothgrad",
    "integrated_gradients",
    "gradcam",
    "deeplift",
    "lrp",
    "occlusion",
)
USUAL_METRICS = ("confidence_removal", "deletion", "insertion", "road", "sparseness")
_ORDERS = ("most", "least", "random")
_NETWORKS = {"folder": "resnet18"}  # data with nothing to train on, so that weights must be published

_MEANINGS = {
    "images": "drawn from the test part; with fewer, intervals are wider and fewer methods can be told apart",
    "seed": "of that draw; methods and metrics have seeds of their own",
    "explain": 'the class that is explained: "predicted", or "label", the true one',
    "references": "training images that methods with baselines compare with",
    "grid_images": "shown in figures/grid.png and on the page of the report",
    "cell_images": "explained and judged at a time; bounds the memory",
    "keep": 'which maps stay in the folder: "examples" (those in the grid), "all" or "none"',
}


def template(
    data: str = "digits",
    model: str | None = None,
    methods: Sequence[str] = USUAL_METHODS,
    metrics: Sequence[str] = USUAL_METRICS,
    *,
    images: int = 64,
    weights: str | None = None,
) -> str:
    """The text of a study file, with a comment on each setting.

    >>> print(template(methods=["lrp"]).partition("methods = ")[2].partition("]")[0] + "]")
    [
      "lrp",
    ]

    Args:
        model: None: a small network that is trained, or one with published weights where there is nothing to train on.
        methods: names; "all" for every one but the controls, which are in every study.
        metrics: names; "all" for every one that the data set can serve.
        weights: a file, or a name of torchvision's. None: the network is trained.

    Raises:
        UnknownNameError: a data set, model, method or metric that does not exist.
    """
    model = model or _NETWORKS.get(data, "small_cnn")
    maker = DATASETS[data]
    chosen = _names(methods, (name for name in METHODS.names() if name not in CONTROLS), METHODS)
    judging = _names(metrics, without_masks(), METRICS)
    explain = "label" if any(METRICS.build(name).traits.masks for name in judging) else "predicted"
    lines = [
        f"# Which explanation of {model} on {data} can I believe? `xaicompare run THIS_FILE --out FOLDER` looks.",
        "# A run that was stopped goes on where it was; after a change, only what depends on it is done again.",
        *_settings({"images": images, "explain": explain}),
        "",
        "# Methods: a name, or a table with settings, such as",
        '#   { name = "integrated_gradients", n_steps = 64, images = 16, label = "ig" }',
        "# where `images` means: only so many of them, for methods that take long. `xaicompare methods` lists names.",
        f"# The controls {', '.join(CONTROLS)} are in every study: what a method has to beat.",
        *_listed("methods", (f'"{name}"' for name in chosen)),
        "",
        "# Metrics: the same. `xaicompare metrics` lists them, with what they cost and which way is good.",
        *_listed("metrics", (entry for name in judging for entry in _metric(name))),
        "",
        "[data]",
        f'name = "{data}"',
        *_arguments(maker),
        "",
        "[model]",
        f'name = "{model}"',
        *_weights(data, model, weights),
    ]
    return "\n".join(lines) + "\n"


def _names(given: Sequence[str], every: Iterable[str], known: Registry[Any]) -> list[str]:
    """The names themselves, in their order and each once; an unknown one is an error."""
    for name in given:
        if name != "all":
            known[name]
    return list(every) if "all" in given else list(dict.fromkeys(given))


def _settings(changed: Mapping[str, object]) -> list[str]:
    """The settings at the top of the file."""
    defaults = {entry.name: entry.default for entry in fields(Study)}
    known = {name: changed.get(name, defaults[name]) for name in _MEANINGS}
    return [f"{name} = {_toml(known[name])}  # {meaning}" for name, meaning in _MEANINGS.items()]


def _listed(table: str, entries: Iterable[str]) -> list[str]:
    return [f"{table} = [", *(f"  {entry}," for entry in entries), "]"]


def _metric(name: str) -> list[str]:
    """One entry, or one for each order where the metric needs them all."""
    if name != "confidence_removal":
        return [f'"{name}"']
    return [f'{{ name = "{name}", order = "{order}" }}' for order in _ORDERS]


def _arguments(maker: Callable[..., object]) -> list[str]:
    """The settings of a data set: what must be given is there to be filled in, the rest stands at its default."""
    found = inspect.signature(maker).parameters.values()
    known = [each for each in found if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    needed = [f'{each.name} = "?"  # required' for each in known if each.default is each.empty]
    given = (each for each in known if each.default is not each.empty and each.default is not None)
    return needed + [f"# {each.name} = {_toml(each.default)}" for each in given]


def _weights(data: str, model: str, weights: str | None) -> list[str]:
    """Where the network's weights come from: what was given, or a training, or who publishes them."""
    MODELS[model]
    if weights is None and data not in _NETWORKS:
        recipe = usual_recipe(model, data)
        shown = {"epochs": recipe.epochs, "batch_size": recipe.batch_size, "lr": recipe.lr, **recipe.changed()}
        told = ", ".join(f"{name} = {_toml(value)}" for name, value in shown.items())
        return ['# Trained by this recipe on first use, and kept; or say weights = "FILE".', f"recipe = {{ {told} }}"]
    return [
        "# A .safetensors or .pt file, or a name of torchvision's such as DEFAULT, which is downloaded on first use.",
        f"weights = {_toml(weights or 'DEFAULT')}",
    ]


def _toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value) if isinstance(value, (str, bool)) else repr(value)
