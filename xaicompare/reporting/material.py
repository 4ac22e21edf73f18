"""What a report is made of: everything that a study's folder says, read once and checked."""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from xaicompare.core import Method, Metric
from xaicompare.errors import DataError, StudyError, XaiCompareError
from xaicompare.results import Results
from xaicompare.runs import Runs
from xaicompare.study import Study
from xaicompare.study.examples import Examples
from xaicompare.study.experiment import Experiment
from xaicompare.study.status import unfinished
from xaicompare.titles import titles

V = TypeVar("V")
Line = dict[str, Any]
"""A row of a table, by the names of its columns."""

_NEEDED = ("results.parquet", "standings.csv", "tests.csv", "costs.csv", "environment.json", "study.toml")
_TRAINED = ("runs.parquet", "experiment.toml")
_WORDS = {"metric", "family", "better", "method", "other", "beats", "unbeaten", "winner", "name"}


@dataclass(frozen=True, eq=False)
class Material:
    """What a study left behind."""

    folder: Path
    results: Results
    standings: list[Line]
    tests: list[Line]
    costs: dict[str, Line]  # by the method's title, as all that follows
    environment: Mapping[str, Any]
    study_file: str
    study: Study | None  # None where its file names what is not installed here
    examples: Examples | None  # None in folders of older versions
    methods: Mapping[str, Method]  # of the study, by title; none where its file names what is not installed here
    metrics: Mapping[str, Metric]  # of the study, by label; none where methods has none
    labels: Mapping[str, str]  # the label in the tables, by title
    pending: str  # what a later run in this folder has not finished; nothing where the tables are of the last run

    @classmethod
    def of(cls, folder: Path) -> "Material":
        """What the folder of a study holds.

        Raises:
            DataError: a file is missing, empty or no table.
        """
        missing = [name for name in _NEEDED if not (folder / name).exists()]
        if missing:
            raise DataError(
                f"{folder} lacks {', '.join(missing)}; expected all that `xaicompare run` wrote, of which tables that "
                "are kept elsewhere are a part. Run the study again."
            )
        file = folder / "study.toml"
        read = cls(
            folder=folder,
            results=Results.load(folder),
            standings=_table(folder / "standings.csv", {"metric", "method", "mean", "low", "high", "rank", "beats"}),
            tests=_table(
                folder / "tests.csv", {"metric", "method", "other", "difference", "p_holm", "winner"}, empty=True
            ),
            costs={line["method"]: line for line in _table(folder / "costs.csv", {"method", "name", "passes"})},
            environment=_environment(folder / "environment.json"),
            study_file=file.read_text(encoding="utf-8"),
            study=_study(file),
            examples=Examples.load(folder),
            methods={},
            metrics={},
            labels={},
            pending=_pending(folder),
        )
        return read._titled()

    def _titled(self) -> "Material":
        """The same with the methods' titles in place of their labels, everywhere but in the study itself."""
        labels = {label: line["name"] for label, line in self.costs.items()}
        labels |= {} if self.study is None else {label: made.name for label, made in self.study.methods.items()}
        known = titles(labels)

        def named(label: str) -> str:
            label, comma, metric = (label, "", "") if label in known else label.partition(", ")
            return known.get(label, label) + comma + metric

        told = dict(self.environment)
        for what in {"failed", "left_out"} & told.keys():
            told[what] = {named(label): reason for label, reason in told[what].items()}
        given = self.examples
        return replace(
            self,
            standings=[line | {"method": named(line["method"])} for line in self.standings],
            tests=[line | {key: named(line[key]) for key in ("method", "other", "winner")} for line in self.tests],
            costs={named(label): line for label, line in self.costs.items()},
            environment=told,
            examples=given and replace(given, shown=_renamed(given.shown, named), maps=_renamed(given.maps, named)),
            results=Results(self.results.table.assign(method=self.results.table["method"].map(named))),
            methods={} if self.study is None else _renamed(self.study.methods, named),
            metrics={} if self.study is None else self.study.metrics,
            labels={named(label): label for label in labels},
        )


def _renamed(given: Mapping[str, V], named: Callable[[str], str]) -> dict[str, V]:
    return {named(label): value for label, value in given.items()}


def _pending(folder: Path) -> str:
    """Whether cells of the last run are missing; failed ones are told with their reasons."""
    try:
        left, cells = unfinished(folder)
    except DataError:  # a folder without its cells, as results are sent around
        return ""
    if not left:
        return ""
    return f"{left} of {cells} cells of the last run are not finished: this is an earlier state. Run the study again."


@dataclass(frozen=True, eq=False)
class Training:
    """A training experiment and what came of it."""

    folder: Path
    experiment: Experiment
    runs: Runs
    environment: Mapping[str, Any]


def trainings(folder: Path) -> list[Training]:
    """The training experiments in a folder: itself, and those right below it.

    Raises:
        DataError: one of them can't be read.
        StudyError: its file is no experiment.
    """
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    return [_training(place) for place in places if any((place / name).exists() for name in _TRAINED)]


def _training(place: Path) -> Training:
    if not (place / "experiment.toml").exists():
        raise DataError(f"{place} lacks experiment.toml; expected it where networks were trained. Train again.")
    if not any((place / name).exists() for name in ("runs.parquet", "runs.csv")):
        raise DataError(
            f"{place} holds neither runs.parquet nor runs.csv; expected one where networks were trained. Train again."
        )
    # The table alone is enough: it is what is kept in repositories, where no one wants binary files.
    runs = Runs.load(place) if (place / "runs.parquet").exists() else Runs.read(place / "runs.csv")
    return Training(place, Experiment.load(place / "experiment.toml"), runs, _environment(place / "environment.json"))


def _table(path: Path, columns: set[str], *, empty: bool = False) -> list[Line]:
    """The rows of a table; numbers as numbers, what is missing as NaN."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = columns - set(reader.fieldnames or ())
        if missing:
            raise DataError(f"{path} lacks the columns {', '.join(sorted(missing))}; expected a table of a study.")
        try:
            lines = [{key: text if key in _WORDS else _number(text) for key, text in row.items()} for row in reader]
        except (TypeError, ValueError) as error:
            raise DataError(f"{path} holds {error}; expected a table of a study.") from error
    if not lines and not empty:
        raise DataError(f"{path} has no rows; expected those of a study. Run it again.")
    return lines


def _number(text: str) -> float:
    return float(text) if text else float("nan")


def _environment(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read; expected JSON. {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}; expected an object with names.")
    return content


def _study(file: Path) -> Study | None:
    try:
        return Study.load(file)
    except StudyError:
        raise
    except XaiCompareError:
        return None
