"""What a study file says, checked before anything runs."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

import xaicompare.methods
import xaicompare.metrics
import xaicompare.zoo  # noqa: F401 (all three register their names)
from xaicompare.core import Method, Metric
from xaicompare.errors import StudyError
from xaicompare.metrics import ConfidenceRemoval
from xaicompare.registry import DATASETS, METHODS, METRICS, MODELS
from xaicompare.settings import Count, Seed, frozen, setting_names
from xaicompare.study._common import check_keys, entries, in_table, labelled, named, read
from xaicompare.training.fit import RECIPES, Recipe

_USUAL_METRICS = [{"name": "confidence_removal", "order": order} for order in ("most", "least", "random")]


@frozen
class ModelSpec:
    """The table [model]: a network, and where its weights come from.

    Weights come from `weights` (a file, or a name of torchvision's) where that is given and there; else the network is
    trained by `recipe` and kept in the cache. Without either it is trained by its usual recipe.
    """

    name: str
    weights: str | None = None
    recipe: Recipe | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@frozen
class Study:
    """A whole study; `Study.load(path)` reads one, `run(study, folder)` carries it out."""

    data: str
    data_settings: dict[str, Any]
    model: ModelSpec
    methods: dict[str, Method]  # by label
    metrics: tuple[Metric, ...]
    images: Count = 64  # drawn from the test part
    explain: Literal["predicted", "label"] = "predicted"  # which class of each image
    references: Count = 16  # training images that methods with `baselines` compare with
    grid_images: Count = 6  # shown in figures/grid.png
    seed: Seed = 0  # of the drawn images; methods and metrics have their own

    @classmethod
    def load(cls, path: str | Path) -> "Study":
        """The study that a TOML file describes.

        Raises:
            StudyError: the file is absent, no TOML, or says what is no study; the message names table and key.
        """
        content = read(Path(path))
        with in_table(str(path)):
            return cls.from_dict(content)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Study":
        """The study that nested dictionaries describe, as `tomllib` reads them."""
        tables = {"data", "model", "methods", "metrics"}
        rest = {key: value for key, value in content.items() if key not in tables}
        check_keys(content, set(setting_names(cls)) - {"data_settings"})
        data, settings = named("data", content.get("data"), DATASETS)
        with in_table("top level"):
            return cls(
                data=data,
                data_settings=settings,
                model=_model(content.get("model")),
                methods=labelled("methods", content.get("methods"), METHODS),
                metrics=_metrics(content.get("metrics", _USUAL_METRICS)),
                **rest,
            )


def _model(given: object) -> ModelSpec:
    name, rest = named("model", given, MODELS)
    with in_table("[model]"):
        recipe = rest.pop("recipe", None)
        if isinstance(recipe, Mapping):
            usual = {key: getattr(RECIPES[name], key) for key in setting_names(Recipe)} if name in RECIPES else {}
            with in_table("[model.recipe]"):
                recipe = Recipe(**{**usual, **recipe})
        return ModelSpec(name=name, recipe=recipe, **rest)


def _metrics(given: object) -> tuple[Metric, ...]:
    built = []
    for number, entry in enumerate(entries("metrics", given), start=1):
        name, settings = named(f"metrics, entry {number}", entry, METRICS)
        with in_table(f"[metrics, entry {number}]"):
            made = METRICS.build(name, **settings)
            if made.traits.masks:
                raise StudyError(f"{name} needs to know where objects are; expected a metric without masks in a study.")
            built.append(made)
    orders = {metric.order for metric in built if isinstance(metric, ConfidenceRemoval)}
    if orders and not {"most", "least"} <= orders:
        raise StudyError(f"[metrics] removes features in the order {orders}; expected both 'most' and 'least'.")
    return tuple(built)
