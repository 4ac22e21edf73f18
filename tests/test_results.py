"""The long table: what goes in comes out, from rows, columns and files, whole or not at all."""

import time
from pathlib import Path

import numpy as np
import pytest

from xaicompare.errors import DataError, UnknownNameError
from xaicompare.results import Results, Row

UNTOUCHED = Row("mlp", "digits", "lime", 0, 3, None, 5, "confidence_removal", "score", None, None, 1.5, 0.1)
REMOVED = UNTOUCHED._replace(label=3, order="most", share=0.2, value=-0.25, family="removal", better="low")


def columns(**changed: object) -> dict[str, object]:
    return {**REMOVED._asdict(), "image": np.arange(4), "value": np.linspace(0, 1, 4), **changed}


def test_rows_come_back_as_they_went_in() -> None:
    table = Results.from_rows([UNTOUCHED, REMOVED]).table
    assert tuple(table.columns) == Row._fields
    assert Row(*table.iloc[1]) == REMOVED
    assert table.iloc[0][["label", "order", "share", "family", "better"]].isna().all()
    assert table["predicted"].dtype == table["target"].dtype == np.int64


def test_columns_give_what_rows_give() -> None:
    rows = [REMOVED._replace(image=number, value=number / 3) for number in range(4)]
    assert Results.from_columns(columns()).table.equals(Results.from_rows(rows).table)


def test_family_and_direction_may_be_missing() -> None:
    given = {name: value for name, value in columns().items() if name not in ("family", "better")}
    assert Results.from_columns(given).table[["family", "better"]].isna().all(axis=None)


def test_the_order_of_columns_does_not_matter() -> None:
    given = columns()
    backwards = {name: given[name] for name in reversed(given)}
    assert Results.from_columns(backwards).table.equals(Results.from_columns(given).table)


def test_many_columns_are_fast() -> None:
    n = 100_000
    started = time.perf_counter()
    parts = [Results.from_columns(columns(image=np.arange(n), value=np.zeros(n))) for _ in range(3)]
    assert len(Results.joined(parts)) == 3 * n
    assert time.perf_counter() - started < 5  # 0.2 s; row by row it takes half a minute


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"image": ["first", "second", "third", "fourth"]}, "wrong type"),
        ({"value": ["high"] * 4}, "wrong type"),
        ({"image": np.arange(3)}, "don't form a table"),
        ({"image": 0, "value": 0.5}, "don't form a table"),
    ],
)
def test_columns_that_do_not_fit_are_refused(changed: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        Results.from_columns(columns(**changed))


def test_missing_and_unknown_columns_are_named() -> None:
    with pytest.raises(DataError, match="lack the columns share"):
        Results(Results.from_columns(columns()).table.drop(columns="share"))
    with pytest.raises(UnknownNameError, match="did you mean 'seconds'"):
        Results.from_columns(columns(second=0.1))


def test_joined_keeps_rows_and_order() -> None:
    first, second = Results.from_rows([UNTOUCHED]), Results.from_rows([REMOVED, REMOVED])
    assert Results.joined([first, second]).table.equals(Results.from_rows([UNTOUCHED, REMOVED, REMOVED]).table)
    assert len(Results.joined([])) == 0


def test_where_chooses_rows() -> None:
    results = Results.from_rows([UNTOUCHED, REMOVED, REMOVED._replace(method="lrp")])
    assert len(results.where(order="most")) == 2
    assert results.where(order="most", method="lrp").names("method") == ["lrp"]
    assert len(results.where(share=0.2, image=0)) == 2


def test_where_lists_what_there_is() -> None:
    results = Results.from_rows([REMOVED, REMOVED._replace(method="lrp")])
    with pytest.raises(UnknownNameError, match=r"'lpr'; did you mean 'lrp'.*lime, lrp"):
        results.where(method="lpr")
    with pytest.raises(UnknownNameError, match="column"):
        results.where(methods="lrp")


def test_names_keep_their_first_order() -> None:
    results = Results.from_rows([REMOVED._replace(method=name) for name in ("lrp", "cam", "lrp", "lime")])
    assert results.names("method") == ["lrp", "cam", "lime"]


def test_repr_counts() -> None:
    results = Results.from_rows([UNTOUCHED, REMOVED, REMOVED._replace(dataset="mnist", metric="max_sensitivity")])
    assert repr(results) == "Results(3 rows: 2 images, 1 method, 2 metrics (confidence_removal, max_sensitivity))"
    assert repr(Results.joined([])) == "Results(0 rows: 0 images, 0 methods, 0 metrics)"


def test_save_and_load(tmp_path: Path) -> None:
    results = Results.from_rows([UNTOUCHED, REMOVED._replace(value=0.1 + 0.2)])
    results.save(tmp_path / "new" / "run")
    loaded = Results.load(tmp_path / "new" / "run")
    assert loaded.table.equals(results.table)
    assert (loaded.table.dtypes == results.table.dtypes).all()
    assert sorted(path.name for path in (tmp_path / "new" / "run").iterdir()) == ["results.csv", "results.parquet"]


def test_csv_holds_every_digit_and_leaves_gaps_empty(tmp_path: Path) -> None:
    Results.from_rows([UNTOUCHED, REMOVED._replace(value=0.1 + 0.2)]).save(tmp_path)
    header, untouched, removed = (tmp_path / "results.csv").read_text().splitlines()
    assert header == ",".join(Row._fields)
    assert untouched == "mlp,digits,lime,0,3,,5,confidence_removal,score,,,1.5,0.1,,"
    assert removed.split(",")[-4] == "0.30000000000000004"


def test_no_csv_beyond_what_a_spreadsheet_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xaicompare.results._CSV_ROWS", 1)
    one, two = Results.from_rows([REMOVED]), Results.from_rows([REMOVED, UNTOUCHED])
    assert [path.name for path in one.save(tmp_path)] == ["results.parquet", "results.csv"]
    assert [path.name for path in two.save(tmp_path)] == ["results.parquet"]
    assert not (tmp_path / "results.csv").exists(), "it would say less than the table"


def test_a_failed_save_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Results.from_rows([REMOVED])
    old.save(tmp_path)
    new = Results.from_rows([UNTOUCHED])

    def half(path: Path, **_: object) -> None:
        Path(path).write_text("mlp,dig")
        raise OSError("disk full")

    monkeypatch.setattr(type(new.table), "to_csv", lambda _, path, **options: half(path, **options))
    monkeypatch.setattr(type(new.table), "to_parquet", lambda _, path, **options: half(path, **options))
    before = (tmp_path / "results.csv").read_bytes()
    with pytest.raises(OSError, match="disk full"):
        new.save(tmp_path)
    assert Results.load(tmp_path).table.equals(old.table)
    assert (tmp_path / "results.csv").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2, "the half-written file stayed behind"


def test_load_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        Results.load(tmp_path)
    (tmp_path / "results.parquet").write_text("not a parquet file")
    with pytest.raises(DataError, match="can't be read"):
        Results.load(tmp_path)
