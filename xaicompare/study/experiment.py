"""What an experiment file says: how networks are trained on shares of the data, by several arms."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any, NamedTuple

import xaicompare.methods
import xaicompare.metrics
import xaicompare.training
import xaicompare.zoo  # noqa: F401 (all of these register their names)
from xaicompare.errors import StudyError, unknown
from xaicompare.registry import DATASETS, MODELS
from xaicompare.settings import Count, Seed, Share, frozen, setting_names
from xaicompare.study._common import apart, check_keys, check_network, entries, in_table, labelled, named, read
from xaicompare.study.shipped import asked_for
from xaicompare.training.arms import ARMS, Arm
from xaicompare.training.fit import Recipe
from xaicompare.training.stopping import Stopping


class Cell(NamedTuple):
    """One training."""

    share: float
    repeat: int
    arm: str  # its label


@frozen
class Published:
    """Mean accuracies in percent that somebody else reported, beside which ours are shown."""

    source: str
    arms: tuple[str, ...]  # the labels of ours that they belong to
    accuracy: dict[str, tuple[float, ...]]  # by share in percent: one for each arm


@frozen
class Experiment:
    """Shares of the data x repeats x arms; `Experiment.load(path)` reads one.

    In every cell of one repeat all arms have the same seed, and with it the same images, initial weights and order of
    batches; all shares see the same seeds.
    """

    data: str
    data_settings: dict[str, Any]
    model: str
    model_settings: dict[str, Any]
    arms: dict[str, Arm]  # by label; the first is what the others are compared with
    # Name and settings, by the label of arms that have their own.
    models: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    shares: tuple[Share, ...]
    title: str = "Training experiment"
    recipe: Recipe = field(default_factory=Recipe)
    stopping: Stopping | None = None  # for all arms alike, or for none
    published: Published | None = None
    repeats: Count = 6  # the fewest of which Wilcoxon's test can be below 0.05
    seed: Seed = 0  # of the first repeat; each further one adds 1
    text: str = field(default="", repr=False)  # of the file that it was read from, if any

    @classmethod
    def load(cls, path: str | Path) -> "Experiment":
        """The experiment that a TOML file describes, or that comes with the package under that name.

        Raises:
            StudyError: the file is absent, no TOML, or says what is no experiment; the message names table and key.
            UnknownNameError: a name without an ending that neither a file nor an experiment has.
        """
        content, text = read(asked_for(path, "training"))
        with in_table(str(path)):
            return replace(cls.from_dict(content), text=text)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Experiment":
        """The experiment that nested dictionaries describe, as `tomllib` reads them."""
        check_keys(content, set(setting_names(cls)) - {"data_settings", "model_settings", "models", "text"})
        for key in ("data", "model", "arms", "shares"):
            if key not in content:
                raise StudyError(f"{key} is missing; expected it beside {', '.join(content) or 'nothing'}.")
        rest = {key: value for key, value in content.items() if key not in ("data", "model", "arms")}
        data, data_settings = named("data", content["data"], DATASETS)
        model, model_settings = named("model", content["model"], MODELS)
        with in_table("[model]"):
            check_network(model_settings)
        for table, kind in (("recipe", Recipe), ("stopping", Stopping), ("published", Published)):
            if table in rest:
                with in_table(f"[{table}]"):
                    rest[table] = kind(**rest[table])
        arms, models = _arms(content["arms"])
        with in_table("top level"):
            made = cls(
                data=data,
                data_settings=data_settings,
                model=model,
                model_settings=model_settings,
                arms=arms,
                models=models,
                **rest,
            )
        made._check()
        return made

    def _check(self) -> None:
        if not self.shares or min(self.shares) == 0 or len(set(self.shares)) < len(self.shares):
            raise StudyError(f"shares={list(self.shares)}; expected different shares above 0, such as [0.1, 1.0].")
        for key, instead in (("seed", "seed at the top level"), ("limit", "shares")):
            if key in self.recipe.changed():
                raise StudyError(
                    f"[recipe] {key}={getattr(self.recipe, key)}; expected it to be left out. Use {instead}."
                )
        for label in () if self.published is None else self.published.arms:
            if label not in self.arms:
                raise StudyError(f"[published] {unknown('arm', label, self.arms)}")

    @property
    def baseline(self) -> str:
        """The arm that the others are compared with."""
        return next(iter(self.arms))

    def cells(self) -> Iterator[Cell]:
        """All trainings, from the least data up; arms take turns to go first."""
        for share in sorted(self.shares):
            for repeat in range(self.repeats):
                labels = list(self.arms) if repeat % 2 == 0 else list(reversed(self.arms))
                yield from (Cell(share, repeat, label) for label in labels)

    def key(self, cell: Cell) -> str:
        """A digest of all that determines a training, beside the data's own content."""
        told = (self.data, self.data_settings, *self.model_of(cell), self.recipe_of(cell), self.stopping)
        return hashlib.blake2b(repr((told, cell[:2], self.arms[cell.arm])).encode(), digest_size=6).hexdigest()

    def model_of(self, cell: Cell) -> tuple[str, dict[str, Any]]:
        """Name and settings of the network that is trained: the arm's own, where it has one."""
        return self.models.get(cell.arm, (self.model, self.model_settings))

    def recipe_of(self, cell: Cell) -> Recipe:
        """The recipe with the repeat's seed."""
        return replace(self.recipe, seed=self.seed + cell.repeat)


def _arms(given: object) -> tuple[dict[str, Arm], dict[str, tuple[str, dict[str, Any]]]]:
    """The arms by label, and the models of those that state one beside their settings."""
    rest, stated = apart(entries("arms", given), "model")
    arms = labelled("arms", rest, ARMS)
    models = {
        label: named(f"arms, {label}: model", model, MODELS)
        for label, model in zip(arms, stated, strict=True)
        if model is not None
    }
    for label, (_, settings) in models.items():
        with in_table(f"[arms, {label}: model]"):
            check_network(settings)
    return arms, models
