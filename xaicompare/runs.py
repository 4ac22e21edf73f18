"""The table of a training experiment: a row for each training."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from xaicompare.errors import DataError
from xaicompare.files import replacing
from xaicompare.results import Table, shown


class Run(NamedTuple):
    """One training of one network by one arm."""

    key: str  # a digest of all its settings
    arm: str
    share: float  # of the training images, from 0 to 1
    repeat: int
    seed: int
    images: int  # that share, those held for validation among them
    accuracy: float  # on the test images, from 0 to 1
    validation: float  # the best on the validation images; NaN without early stopping
    batches: int  # steps taken
    seconds: float  # of all stages of the training, with validation and without the test
    loss: float  # mean cross-entropy of the last epoch; NaN where training broke off
    chance: float  # the accuracy of guessing
    complaint: str  # why it broke off
    device: str  # where it was trained
    jobs: int  # trainings at once: seconds compare with 1 only
    parameters: int  # numbers that the trained network holds
    test_seconds: float  # of its passes over the test images


class Multipliers(NamedTuple):
    """What gradients were multiplied by in one layer and batch of one training."""

    arm: str
    share: float
    repeat: int
    batch: int
    layer: str
    factor: float
    low: float  # 5 %
    median: float
    high: float  # 95 %
    least: float
    greatest: float


_RUN_DTYPES = {
    "key": "string",
    "arm": "string",
    "repeat": "int64",
    "images": "int64",
    "complaint": "string",
    "device": "string",
}
_GAPS = {name: [""] for name in ("accuracy", "validation", "seconds", "loss", "test_seconds")}


@dataclass(frozen=True, eq=False)
class Runs:
    """All finished trainings of an experiment, and the folder they are kept in."""

    table: Table  # a column for each field of `Run`
    multipliers: Table  # a column for each field of `Multipliers`

    @classmethod
    def of(cls, runs: Iterable[Run] = (), multipliers: Iterable[Multipliers] = ()) -> "Runs":
        """A table of these rows."""
        table = pd.DataFrame(list(runs), columns=list(Run._fields)).astype(_RUN_DTYPES)
        return cls(table, pd.DataFrame(list(multipliers), columns=list(Multipliers._fields)))

    @classmethod
    def load(cls, folder: str | Path) -> "Runs":
        """What `save` left in a folder, none where it left nothing; what an older version did not record is NaN.

        Raises:
            DataError: a file is there that can't be read.
        """
        paths = [Path(folder) / name for name in ("runs.parquet", "multipliers.parquet")]
        if not paths[0].exists():
            return cls.of()
        try:
            table, multipliers = (pd.read_parquet(path) for path in paths)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{folder} can't be read as runs; expected parquet files. {error}") from error
        return cls(table.reindex(columns=list(Run._fields)), multipliers)

    @classmethod
    def read(cls, path: Path) -> "Runs":
        """The rows of a runs.csv that `save` left, without multipliers; what an older version did not record is NaN.

        Raises:
            DataError: there is no such file, or it is no table of runs.
        """
        try:
            table = pd.read_csv(path, dtype=_RUN_DTYPES, keep_default_na=False, na_values=_GAPS)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} can't be read as runs; expected the runs.csv of an experiment. {error}") from error
        since = ("parameters", "test_seconds")
        missing = [name for name in Run._fields if name not in table.columns and name not in since]
        if missing:
            raise DataError(f"{path} lacks the columns {', '.join(missing)}; expected the runs.csv of an experiment.")
        return cls(table.reindex(columns=list(Run._fields)), cls.of().multipliers)

    def save(self, folder: str | Path) -> None:
        """Writes runs.parquet, runs.csv and multipliers.parquet; each is replaced as a whole or stays what it was."""
        folder = Path(folder)
        with replacing(folder / "multipliers.parquet") as path:
            self.multipliers.to_parquet(path, index=False)
        with replacing(folder / "runs.csv") as path:
            self.table.to_csv(path, index=False)
        with replacing(folder / "runs.parquet") as path:
            self.table.to_parquet(path, index=False)

    def of_cells(self, cells: Iterable[tuple[float, int, str]]) -> "Runs":
        """The rows of these cells alone, each (share, repeat, arm)."""
        wanted = set(cells)

        def chosen(table: Table) -> Table:
            keys = zip(table["share"], table["repeat"], table["arm"], strict=True)
            rows = pd.Series([key in wanted for key in keys], index=table.index, dtype=bool)  # bool also if empty
            return table[rows].reset_index(drop=True)

        return Runs(chosen(self.table), chosen(self.multipliers))

    def joined(self, other: "Runs") -> "Runs":
        """The rows of both."""
        pairs = ((self.table, other.table), (self.multipliers, other.multipliers))
        return Runs(*(_joined(one, more) for one, more in pairs))

    def __len__(self) -> int:
        return len(self.table)

    def _repr_html_(self) -> str:
        """What a notebook shows: how much there is, and the first rows."""
        notes = ["The first rows; .table has all columns."]
        return shown(repr(self), notes, self.table, ("arm", "share", "repeat", "images", "accuracy", "loss", "seconds"))

    def __repr__(self) -> str:
        arms = ", ".join(dict.fromkeys(self.table["arm"]))
        return f"Runs({len(self)} trainings, {self.table['share'].nunique()} shares, arms: {arms or 'none'})"


def _joined(one: Table, other: Table) -> Table:
    """Without empty tables, whose columns have no types yet."""
    full = [table for table in (one, other) if len(table)]
    return pd.concat(full, ignore_index=True) if full else one
