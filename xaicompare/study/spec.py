"""What a study file says, checked before anything runs."""

from collections.abc import Mapping
from dataclasses import field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import xaicompare.methods
import xaicompare.metrics
import xaicompare.zoo  # noqa: F401 (all three register their names)
from xaicompare.core import Method, Metric
from xaicompare.errors import StudyError
from xaicompare.metrics import ConfidenceRemoval
from xaicompare.registry import DATASETS, METHODS, METRICS, MODELS, Registry
from xaicompare.settings import Count, Seed, Settings, frozen, setting_names
from xaicompare.stats import CONTROLS, is_control
from xaicompare.study._common import apart, check_keys, check_network, entries, in_table, labelled, named, read
from xaicompare.study.quick import quickened
from xaicompare.study.shipped import asked_for
from xaicompare.training.fit import RECIPES, Recipe
from xaicompare.zoo.spec import is_spec

T = TypeVar("T", bound=Settings)

GIVEN = "given"
"""As the name of data or model: it was given in Python, so that no file can name it; see `xaicompare.evaluate`."""

_USUAL_METRICS = [{"name": "confidence_removal", "order": order} for order in ("most", "least", "random")]


@frozen
class ModelSpec:
    """The table [model]: a network, and where its weights come from.

    Weights come from `weights` (a file, a name of torchvision's, or "random" for seeded random ones) where given
    and there; else the network is trained by `recipe` and kept in the cache. Without either it is trained by its usual
    recipe. A `name` may be a SPEC such as "timm:NAME" or "net.py:make", which brings its weights along.
    """

    name: str
    weights: str | None = None
    recipe: Recipe | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    title: str | None = None  # what results call it; None: its name

    @property
    def shown(self) -> str:
        """What results call it."""
        return self.title or self.name


@frozen
class Study:
    """A whole study; `Study.load(path)` reads one, `run(study, folder)` carries it out."""

    data: str
    data_settings: dict[str, Any]
    model: ModelSpec
    methods: dict[str, Method]  # by label; the controls always among them
    metrics: dict[str, Metric]  # by label
    method_images: dict[str, Count] = field(default_factory=dict)  # by label: only so many of the images
    metric_images: dict[str, Count] = field(default_factory=dict)
    images: Count = 64  # drawn from the test part
    explain: Literal["predicted", "label"] = "predicted"  # which class of each image
    references: Count = 16  # training images that methods with `baselines` compare with
    grid_images: Count = 6  # shown in figures/grid.png
    cell_images: Count = 100  # explained and judged at a time; bounds the memory, changes values by rounding only
    keep: Literal["all", "examples", "none"] = "examples"  # which maps stay in the folder; examples: those of the grid
    seed: Seed = 0  # of the drawn images; methods and metrics have their own
    quick: bool = False  # whether numbers are smaller than the file says; see `study.quick`
    text: str = field(default="", repr=False)  # of the file that it was read from, if any

    @classmethod
    def load(cls, path: str | Path, *, quick: bool = False) -> "Study":
        """The study that a TOML file describes, or that comes with the package under that name, such as "digits".

        Args:
            quick: as if `quick = true` stood in the file.

        Raises:
            StudyError: the file is absent, no TOML, or says what is no study; the message names table and key.
            UnknownNameError: a name without an ending that neither a file nor a suite has.
        """
        content, text = read(asked_for(path, "suites"))
        if quick and "quick" not in content:
            content, text = {**content, "quick": True}, f"quick = true\n{text}"
        if quick and content["quick"] is not True:
            raise StudyError(f"{path}: quick = {content['quick']!r}; expected true, or no such key, for a quick look.")
        with in_table(str(path)):
            return replace(cls.from_dict(content), text=text)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Study":
        """The study that nested dictionaries describe, as `tomllib` reads them."""
        if content.get("quick") is True:
            content = quickened(content, {entry.name: entry.default for entry in fields(cls)})
        tables = {"data", "model", "methods", "metrics"}
        rest = {key: value for key, value in content.items() if key not in tables}
        check_keys(content, set(setting_names(cls)) - {"data_settings", "method_images", "metric_images", "text"})
        data, settings = _or_given("data", content.get("data"), DATASETS)
        methods, fewer = _limited("methods", content.get("methods"), METHODS)
        metrics, shorter = _limited("metrics", content.get("metrics", _USUAL_METRICS), METRICS)
        with in_table("top level"):
            return cls(
                data=data,
                data_settings=settings,
                model=_model(content.get("model")),
                methods=_with_controls(methods),
                metrics=_checked(metrics, shorter),
                method_images=fewer,
                metric_images=shorter,
                **rest,
            )


def _model(given: object) -> ModelSpec:
    name, rest = _or_given("model", given, MODELS)
    with in_table("[model]"):
        check_network(rest)
        check_network(rest.get("settings"))
        recipe = rest.pop("recipe", None)
        if isinstance(recipe, Mapping):
            usual = {key: getattr(RECIPES[name], key) for key in setting_names(Recipe)} if name in RECIPES else {}
            with in_table("[model.recipe]"):
                recipe = Recipe(**{**usual, **recipe})
        return ModelSpec(name=name, recipe=recipe, **rest)


def _or_given(table: str, given: object, known: Registry[Any]) -> tuple[str, dict[str, Any]]:
    """Name and settings, of what a registry knows, of what was given in Python, or of a network's SPEC."""
    entry = given if isinstance(given, Mapping) else {"name": given}
    name = entry.get("name")
    if name == GIVEN or (table == "model" and isinstance(name, str) and is_spec(name)):
        return str(name), {key: value for key, value in entry.items() if key != "name"}
    return named(table, given, known)


def _limited(table: str, given: object, registry: Registry[T]) -> tuple[dict[str, T], dict[str, int]]:
    """What the entries stand for by their labels; and on how many images only, of those that say `images`."""
    rest, said = apart(entries(table, given), "images")
    limits: list[int | None] = []
    for number, limit in enumerate(said, start=1):
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise StudyError(f"[{table}, entry {number}] images={limit!r}; expected a whole number of at least 1.")
        limits.append(limit)
    built = labelled(table, rest, registry)
    return built, {label: limit for label, limit in zip(built, limits, strict=True) if limit is not None}


def _with_controls(methods: dict[str, Method]) -> dict[str, Method]:
    """With those controls that are not there, at their defaults: every method has to beat them.

    Tables know controls by their labels, so no method may look like one, and no control like a method.
    """
    for label, method in methods.items():
        if is_control(label) != (method.name in CONTROLS):
            raise StudyError(
                f"[methods] label {label!r} of {method.name}; expected a label that begins with a control's name, "
                "and goes on in brackets if at all, for controls alone."
            )
    names = {method.name for method in methods.values()}
    return methods | {name: METHODS.build(name) for name in CONTROLS if name not in names}


def _checked(metrics: dict[str, Metric], images: dict[str, int]) -> dict[str, Metric]:
    """What only all metrics together can have wrong."""
    removals = [label for label, metric in metrics.items() if isinstance(metric, ConfidenceRemoval)]
    orders = [cast(ConfidenceRemoval, metrics[label]).order for label in removals]
    if orders and (not {"most", "least"} <= set(orders) or len(set(orders)) < len(orders)):
        raise StudyError(f"[metrics] removes features in the orders {orders}; expected 'most' and 'least', each once.")
    if len({images.get(label) for label in removals}) > 1:
        raise StudyError("[metrics] removes features of different numbers of images; expected one for all orders.")
    taken = {"confidence_removal", "confidence_gain"} & set(metrics) - set(removals)
    if taken:
        raise StudyError(f"[metrics] label {min(taken)!r} is that of the confidence's own rows; expected another.")
    return metrics


def removes_confidence(study: Study) -> bool:
    """Whether the study has what the leaderboard ranks by."""
    return any(isinstance(metric, ConfidenceRemoval) for metric in study.metrics.values())
