"""The cells of a study that are on disk: each a file that is whole or not there, named by what determines it.

For each key there is `KEY.parquet` (rows) or `KEY.json` (what else is known of maps, or why there are none);
`KEY.failed.json` tells an error that may pass, `running/KEY.json` who works on it; `plan.json` lists the cells of the
last run.
"""

import contextlib
import json
import os
import secrets
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from xaicompare.errors import DataError, XaiCompareError
from xaicompare.files import replacing
from xaicompare.results import Results
from xaicompare.study.attempts import Attempts
from xaicompare.study.cells import Task

_MARK = b"PAR1"  # how a whole parquet file begins and ends
_STALE = 3600.0  # seconds after which a half-written file belongs to nobody


class Store:
    """The folder `cells` in a study's folder.

    Raises:
        DataError: from whatever writes: the file can't be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute() / "cells"  # workers may have another folder to work in
        self.attempts = Attempts(self.folder / "running")
        self.run = ""  # of all runs in this folder, the one that plans or was planned last

    def plan(self, tasks: Sequence[Task]) -> None:
        """Notes which cells there will be, and clears away what killed runs left half-written."""
        for path in [*self.folder.glob(".*"), *self.folder.glob("running/.*")]:
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _STALE:
                    path.unlink()
        self.attempts.clear()
        self.run = secrets.token_hex(8)
        self._write("plan.json", {"run": self.run, "tasks": [task._asdict() for task in tasks]})

    def is_seen(self) -> bool:
        """Whether this process finds the plan of this run, and not another folder of the same name."""
        return (self._read("plan.json") or {}).get("run") == self.run

    def planned(self) -> list[dict[str, Any]]:
        """The tasks of the last run, as dictionaries.

        Raises:
            DataError: no study was begun in this folder.
        """
        plan = self._read("plan.json")
        if plan is None:
            raise DataError(f"{self.folder.parent} holds no study; expected a folder that `xaicompare run` writes to.")
        return list(plan["tasks"] if isinstance(plan, dict) else plan)  # a list: by earlier versions

    def has_rows(self, key: str) -> bool:
        """Whether the rows of a cell are there, and whole as far as their ends tell; see `cleared`."""
        try:
            with (self.folder / f"{key}.parquet").open("rb") as file:
                begins = file.read(len(_MARK))
                file.seek(-len(_MARK), os.SEEK_END)
                return begins == file.read() == _MARK
        except OSError:
            return False

    def rows(self, cells: Iterable[tuple[str, str | None]]) -> Results:
        """The rows of cells, by their keys, as those of a metric of that label where one is given.

        Raises:
            DataError: a file is not there, or not whole.
        """
        return Results.read_all((self.folder / f"{key}.parquet", label) for key, label in cells)

    def cleared(self, keys: Iterable[str]) -> list[str]:
        """Removes the rows that can't be read, which thus are missing and made again, and says whose they were."""
        damaged = []
        for key in filter(self.has_rows, keys):
            path = self.folder / f"{key}.parquet"
            try:
                Results.read_all([(path, None)])
            except DataError as error:
                with _told(self.folder):
                    path.unlink()
                self.fail(key, DataError(f"damaged, and removed; run the study again. {error}"))
                damaged.append(key)
        return damaged

    def write_rows(self, key: str, rows: Results) -> None:
        """Keeps the rows of a cell, and forgets that it ever failed."""
        with _told(self.folder):
            rows.write(self.folder / f"{key}.parquet", lasting=True)
        self._drop(key, "failed")

    def facts(self, key: str) -> dict[str, Any] | None:
        """What is known of maps, or {"refused": why} where there can be none; None where nothing is."""
        return self._read(f"{key}.json")

    def has_maps(self, key: str) -> bool:
        """Whether what is known of maps is there, their rows of completeness included."""
        facts = self.facts(key)
        return facts is not None and "refused" not in facts and (not facts["rows"] or self.has_rows(key))

    def write_maps(self, key: str, rows: Results | None, facts: dict[str, Any]) -> None:
        """Keeps what is known of maps, with their rows of completeness where that is promised."""
        if rows is not None:
            self.write_rows(key, rows)
        self._write(f"{key}.json", facts | {"rows": rows is not None}, lasting=True)
        self._drop(key, "failed")

    def refuse(self, key: str, error: XaiCompareError) -> None:
        """Keeps that a method can't explain this model, or a metric can't judge it: so it will stay."""
        self._write(f"{key}.json", {"refused": str(error)}, lasting=True)
        self._drop(key, "failed")

    def refused(self, key: str) -> str | None:
        """Why there can be nothing; None where that is not known."""
        facts = self.facts(key)
        return None if facts is None else facts.get("refused")

    def fail(self, key: str, error: Exception) -> None:
        """Keeps an error for whoever looks for its cause; the cell is tried again by the next run."""
        lines = "".join(traceback.format_exception(error))
        with contextlib.suppress(DataError):  # a full disk: the error is told all the same
            self._write(f"{key}.failed.json", {"error": told(error), "traceback": lines})

    def failure(self, key: str) -> str | None:
        """The error of a cell; None where there is none."""
        found = self._read(f"{key}.failed.json")
        return None if found is None else found["error"]

    def finished(self, key: str) -> bool:
        """Whether a cell needs no more work."""
        return self.has_rows(key) or self.refused(key) is not None

    def _write(self, name: str, content: object, *, lasting: bool = False) -> None:
        with _told(self.folder), replacing(self.folder / name, lasting=lasting) as path:
            path.write_text(json.dumps(content) + "\n", encoding="utf-8")

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _drop(self, key: str, what: str) -> None:
        with contextlib.suppress(OSError):
            (self.folder / f"{key}.{what}.json").unlink(missing_ok=True)


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Errors of writing become ours."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{folder} can't be written to ({error}); expected free space there.") from error


def told(error: BaseException) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
