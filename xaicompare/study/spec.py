"""What a study file says, checked before anything runs."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

import xaicompare.methods
import xaicompare.metrics
import xaicompare.zoo  # noqa: F401 (all three register their names)
from xaicompare.core import Method, Metric
from xaicompare.errors import StudyError, XaiCompareError, unknown
from xaicompare.metrics.removal import ConfidenceRemoval
from xaicompare.registry import DATASETS, METHODS, METRICS, MODELS
from xaicompare.settings import Count, Seed, frozen, setting_names
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
        path = Path(path)
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise StudyError(f"{path} can't be read ({error.strerror}); expected a study file.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise StudyError(f"{path} is no TOML: {error}") from error
        with _in_table(str(path)):
            return cls.from_dict(content)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Study":
        """The study that nested dictionaries describe, as `tomllib` reads them."""
        tables = {"data", "model", "methods", "metrics"}
        rest = {key: value for key, value in content.items() if key not in tables}
        known = set(setting_names(cls)) - {"data_settings"}
        for key in content:
            if key not in known:
                raise unknown("key", key, known)
        data, settings = _named("data", content.get("data"), list(DATASETS.names()))
        with _in_table("top level"):
            return cls(
                data=data,
                data_settings=settings,
                model=_model(content.get("model")),
                methods=_methods(content.get("methods")),
                metrics=_metrics(content.get("metrics", _USUAL_METRICS)),
                **rest,
            )


@contextmanager
def _in_table(table: str) -> Iterator[None]:
    """Errors say in which table of the file they are; what is already said inside stays."""
    try:
        yield
    except StudyError as error:
        raise StudyError(str(error) if table == "top level" else f"{table}: {error}") from error
    except XaiCompareError as error:
        raise StudyError(f"{table}: {error}") from error


def _named(table: str, given: object, known: list[str]) -> tuple[str, dict[str, Any]]:
    """Name and settings of an entry that is a name, or a table with one."""
    entry = {"name": given} if isinstance(given, str) else given
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise StudyError(f"[{table}] is {given!r}; expected a name, or a table with a name.")
    name, settings = entry["name"], {key: value for key, value in entry.items() if key != "name"}
    if name not in known:
        raise StudyError(f"[{table}] {unknown('name', name, known)}")
    return name, settings


def _model(given: object) -> ModelSpec:
    name, rest = _named("model", given, MODELS.names())
    with _in_table("[model]"):
        recipe = rest.pop("recipe", None)
        if isinstance(recipe, Mapping):
            usual = {key: getattr(RECIPES[name], key) for key in setting_names(Recipe)} if name in RECIPES else {}
            with _in_table("[model.recipe]"):
                recipe = Recipe(**{**usual, **recipe})
        return ModelSpec(name=name, recipe=recipe, **rest)


def _methods(given: object) -> dict[str, Method]:
    entries = _entries("methods", given)
    built: dict[str, Method] = {}
    for number, entry in enumerate(entries, start=1):
        name, settings = _named(f"methods, entry {number}", entry, METHODS.names())
        with _in_table(f"[methods, entry {number}]"):
            title = settings.pop("label", None)
            method = METHODS.build(name, **settings)
            label = method.label() if title is None else str(title)
            if label in built:
                raise StudyError(f"label {label!r} is there twice; expected one label for each method.")
            built[label] = method
    return built


def _metrics(given: object) -> tuple[Metric, ...]:
    built = []
    for number, entry in enumerate(_entries("metrics", given), start=1):
        name, settings = _named(f"metrics, entry {number}", entry, METRICS.names())
        with _in_table(f"[metrics, entry {number}]"):
            built.append(METRICS.build(name, **settings))
    orders = {metric.order for metric in built if isinstance(metric, ConfidenceRemoval)}
    if orders and not {"most", "least"} <= orders:
        raise StudyError(f"[metrics] removes features in the order {orders}; expected both 'most' and 'least'.")
    return tuple(built)


def _entries(table: str, given: object) -> Sequence[object]:
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) == 0:
        raise StudyError(f"[{table}] is {given!r}; expected a list of names, or of tables with a name.")
    return given
