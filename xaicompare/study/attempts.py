"""Who works on which task, and how often that killed the process: a file for each attempt, there while it lasts."""

import contextlib
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xaicompare.errors import DataError
from xaicompare.files import replacing
from xaicompare.study.cells import Task

_TRIES = 2  # a process may be killed for another's want of memory; twice in the same cell, and the cell is the reason
_KILLED = (
    "the process was killed, as systems do that run out of memory; expected room for a model in each. Use fewer --jobs."
)
DEATHS = 3  # of one task, after which nothing more of it is tried in this run: a cluster gives up after the fourth
_FORGOTTEN = 86400.0  # seconds after which a process on another machine counts as dead, unless it began a cell since


@dataclass(eq=False)
class Attempt:
    """One process's work on a task of a run: which cell it is at, and in which of them earlier ones were killed."""

    path: Path
    told: dict[str, Any]
    deaths: Counter[str]  # by the key of the cell, or of the maps
    began: float = 0.0  # the present cell, in seconds of `time.perf_counter`

    def begins(self, key: str, metric: str | None) -> None:
        """Says that the work on a cell begins, or, without a metric, on the maps.

        Raises:
            MemoryError: earlier attempts were killed in it.
        """
        self.began = time.perf_counter()
        if self.deaths[key] >= _TRIES or self.deaths.total() >= DEATHS:
            raise MemoryError(_KILLED)
        self.says(key, metric)

    def says(self, key: str, metric: str | None) -> None:
        """Writes down what this process is at."""
        content = self.told | {"key": key, "metric": metric, "deaths": self.deaths}
        with contextlib.suppress(DataError, OSError), replacing(self.path) as path:
            path.write_text(json.dumps(content), encoding="utf-8")

    @property
    def seconds(self) -> float:
        """Since the present cell was begun."""
        return time.perf_counter() - self.began

    @property
    def worker(self) -> str:
        """Host and process."""
        return f"{self.told['host']}:{self.told['pid']}"


class Attempts:
    """The folder of the attempts that are going on, in that of a study's cells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def at(self, task: Task, run: str) -> Iterator[Attempt]:
        """An attempt of this process at a task; what is left of an earlier one of the same run tells of its death."""
        earlier = self._read(task.key) or {}
        deaths = Counter(earlier["deaths"] if earlier.get("run") == run else {})
        if earlier.get("run") == run:
            deaths[earlier["key"]] += 1
        who = {
            "run": run,
            "pid": os.getpid(),
            "host": platform.node(),
            "since": time.time(),
            "born": _born(os.getpid()),
        }
        what = {"label": task.label, "start": task.start, "stop": task.stop}
        attempt = Attempt(self._path(task.key), who | what, deaths)
        attempt.says("", None)
        try:
            yield attempt
        finally:
            self._drop(task.key)

    def was_begun(self, key: str) -> bool:
        """Whether somebody works on a task, or was killed while doing so."""
        return self._read(key) is not None

    def is_running(self, key: str) -> bool:
        """Whether a live process works on a task; one on another machine, or on Windows, counts as alive for a day."""
        found = self._read(key)
        return found is not None and _is_alive(found, self._path(key))

    def running(self) -> list[dict[str, Any]]:
        """What the live processes do: pid, host, label, start, stop, metric (None: the maps), since."""
        found = {path: self._read(path.stem) for path in self._paths()}
        return [told for path, told in found.items() if told is not None and _is_alive(told, path)]

    def clear(self) -> None:
        """Forgets attempts of processes that are no more."""
        for path in self._paths():
            if not self.is_running(path.stem):
                self._drop(path.stem)

    def _paths(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.json") if not path.name.startswith("."))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _read(self, key: str) -> dict[str, Any] | None:
        try:
            return dict(json.loads(self._path(key).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    def _drop(self, key: str) -> None:
        with contextlib.suppress(OSError):
            self._path(key).unlink(missing_ok=True)


def _is_alive(told: dict[str, Any], path: Path) -> bool:
    if told["host"] != platform.node() or sys.platform == "win32":  # where signal 0 would end the process
        with contextlib.suppress(OSError):
            return time.time() - path.stat().st_mtime < _FORGOTTEN
        return False
    try:
        os.kill(told["pid"], 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        pass
    return told.get("born") is None or told["born"] == _born(told["pid"])  # else a later one got its number


def _born(pid: int) -> int | None:
    """When a process was started, in the kernel's ticks since it was; None where the system does not tell so."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])  # the 22nd field; the 2nd, a name in brackets, may hold blanks
