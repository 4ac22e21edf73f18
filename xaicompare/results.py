"""The long table of a study: a row per image, method and measured value [only home of pandas, pyarrow]."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from xaicompare.errors import DataError, unknown
from xaicompare.files import replacing
from xaicompare.notebook import ROWS, table

Table: TypeAlias = pd.DataFrame
"""A table with named columns, which modules above this one make and read without knowing its library."""
Column: TypeAlias = pd.Series
"""One column of a table."""


class Row(NamedTuple):
    """One measured value of one method on one image."""

    model: str
    dataset: str
    method: str  # the label of the method, unique within a study
    image: int  # the number of the image in the data set
    target: int  # the explained class
    label: int | None  # the true class, where it is known
    predicted: int  # the class of the untouched image
    metric: str  # such as "confidence_removal"
    quantity: str  # what was measured: "confidence", "signed_confidence", "score", "misclassified", ...
    order: str | None  # the features removed first: "most" or "least" important, "random"; None: no removal
    share: float | None  # the share of the features that were removed, from 0 to 1
    value: float
    seconds: float  # seconds of the attribution per image
    family: str | None = None  # of the metric, such as "removal"
    better: str | None = None  # which values speak for the method: "high", "low", or None


_DTYPES: dict[str, Any] = {
    "model": "string",
    "dataset": "string",
    "method": "string",
    "image": "int64",
    "target": "int64",
    "label": "Int64",
    "predicted": "int64",
    "metric": "string",
    "quantity": "string",
    "order": "string",
    "share": "float64",
    "value": "float64",
    "seconds": "float64",
    "family": "string",
    "better": "string",
}
_CSV_ROWS = 500_000  # about 50 MiB, more than a spreadsheet opens
_OPTIONAL = ("family", "better")
assert tuple(_DTYPES) == Row._fields


class Results:
    """The rows of a study, or of a part of it, and the folder they are kept in.

    Args:
        table: a column for each field of `Row`; a missing label, order, share, family or better is NA, and the last
            two columns may be missing as a whole.

    Raises:
        DataError: a column is missing, or its values are of the wrong type.
        UnknownNameError: a column that is no field of `Row`.

    >>> row = Row("mlp", "digits", "lime", 0, 3, 3, 3, "confidence_removal", "score", "most", 0.2, 1.5, 0.1)
    >>> Results.from_rows([row, row._replace(image=1), row._replace(method="lrp")])
    Results(3 rows: 2 images, 2 methods, 1 metric (confidence_removal))
    """

    def __init__(self, table: Table) -> None:
        for column in table.columns:
            if column not in _DTYPES:
                raise unknown("column of results", column, _DTYPES)
        table = table.assign(**{column: None for column in _OPTIONAL if column not in table.columns})
        missing = [column for column in _DTYPES if column not in table.columns]
        if missing:
            raise DataError(f"results lack the columns {', '.join(missing)}; expected every field of Row.")
        try:
            self.table: Table = _typed(table[list(_DTYPES)])
        except (TypeError, ValueError) as error:
            raise DataError(f"results hold values of the wrong type; expected Row's. {error}") from error

    @classmethod
    def from_rows(cls, rows: Iterable[Row]) -> "Results":
        """Results from single rows; for thousands of them, `from_columns` is faster."""
        return cls(pd.DataFrame.from_records(list(rows), columns=list(_DTYPES)))

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any]) -> "Results":
        """Results from whole columns, such as arrays (rows,); a single value stands for all rows.

        Raises:
            DataError: columns of different lengths, or single values only.
        """
        try:
            table = pd.DataFrame(dict(columns))
        except ValueError as error:
            raise DataError(f"columns don't form a table: {error}; expected arrays of one length.") from error
        return cls(table)

    @classmethod
    def joined(cls, parts: Iterable["Results"]) -> "Results":
        """All rows of all parts, in their order; no parts give no rows."""
        tables = [part.table for part in parts]
        return cls(pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(_DTYPES)))

    @classmethod
    def load(cls, folder: str | Path) -> "Results":
        """The results that `save` left in a folder.

        Raises:
            DataError: the folder holds no results.parquet, or it can't be read.
        """
        return cls.read(Path(folder) / "results.parquet")

    @classmethod
    def read(cls, path: Path) -> "Results":
        """The results that `write` left in a file.

        Raises:
            DataError: there is no such file, or it can't be read.
        """
        return cls.read_all([(path, None)])

    @classmethod
    def read_all(cls, files: Iterable[tuple[Path, str | None]]) -> "Results":
        """The rows of several files, in their order, each as those of a metric of that name where one is given.

        They become one table before they become pandas' columns, which takes longer than reading.

        Raises:
            DataError: there is no such file, or it can't be read.
        """
        tables = [_arrow(path, metric) for path, metric in files]
        return cls(pa.concat_tables(tables).to_pandas()) if tables else cls.joined([])

    def save(self, folder: str | Path) -> list[Path]:
        """Writes results.parquet and, up to 500,000 rows, results.csv, and says which files.

        Each is replaced as a whole or stays what it was; an older results.csv that is no longer true is removed.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        parquet, csv = folder / "results.parquet", folder / "results.csv"
        self.write(parquet)
        if len(self) > _CSV_ROWS:
            csv.unlink(missing_ok=True)
            return [parquet]
        with replacing(csv) as path:
            self.table.to_csv(path, index=False)
        return [parquet, csv]

    def write(self, path: Path, *, lasting: bool = False) -> None:
        """Writes one parquet file, which is replaced as a whole or stays what it was; `lasting`: see `replacing`."""
        with replacing(path, lasting=lasting) as temporary:
            self.table.to_parquet(temporary, index=False)

    def where(self, **values: str | float) -> "Results":
        """The rows whose columns hold these values: `results.where(method="lrp", order="most")`.

        Raises:
            UnknownNameError: no such column, or no row with such a value.
        """
        table = self.table
        for column, value in values.items():
            if column not in _DTYPES:
                raise unknown("column of results", column, _DTYPES)
            chosen = table[table[column].eq(value).fillna(False).astype(bool)]
            if chosen.empty:
                raise unknown(f"{column} in results", value, table[column].dropna().astype(str).unique())
            table = chosen
        return Results(table)

    def names(self, column: str) -> list[str]:
        """The distinct values of a text column, in the order of their first rows."""
        return [str(value) for value in self.table[column].dropna().unique()]

    def __len__(self) -> int:
        return len(self.table)

    def _repr_html_(self) -> str:
        """What a notebook shows: how much there is, and the first rows."""
        columns = ("method", "image", "target", "metric", "quantity", "order", "share", "value", "seconds")
        notes = ["The first rows; .table has all columns. xaicompare.standings(results) judges them."]
        return shown(repr(self), notes, self.table, columns)

    def __repr__(self) -> str:
        images = len(self.table[["dataset", "image"]].drop_duplicates())
        metrics = self.names("metric")
        counts = [_counted(images, "image"), _counted(len(self.names("method")), "method")]
        counts += [_counted(len(metrics), "metric") + (f" ({', '.join(metrics)})" if metrics else "")]
        return f"Results({_counted(len(self), 'row')}: {', '.join(counts)})"


def table_of_rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table from its rows, each by the names of its columns."""
    return pd.DataFrame(list(rows))


def shown(title: str, notes: Sequence[str], given: Table, columns: Sequence[str]) -> str:
    """The first rows of a table, as a notebook shows them; what is missing is a dash."""
    head = given[list(columns)].head(ROWS)
    lines = [[_word(value) for value in row] for row in head.itertuples(index=False)]
    return table(title, notes, columns, lines)


def _word(value: Any) -> str:
    if pd.isna(value):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _arrow(path: Path, metric: str | None) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; expected results that were saved there.") from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} can't be read as results; expected a parquet file. {error}") from error
    if metric is None:
        return table
    place = table.schema.get_field_index("metric")
    field = table.schema.field(place)
    return table.set_column(place, field, pa.repeat(pa.scalar(metric, field.type), len(table)))


def _typed(table: Table) -> Table:
    """The table with Row's types; most parts of a study have them already, and casting takes longer than looking."""
    found = {str(column): str(dtype) for column, dtype in table.dtypes.items()}
    if found == _DTYPES:
        return table
    return Table({column: table[column].astype(dtype) for column, dtype in _DTYPES.items()}, copy=False)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
