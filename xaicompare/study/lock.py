"""One run at a time in a folder: a locked file, of which the system lets go however the process ends."""

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from xaicompare.errors import DataError, StudyError

_NAME = "cells/lock"


@contextlib.contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Meanwhile no other run works in a study's folder; where files can't be locked, it may all the same.

    Raises:
        StudyError: another run does.
        DataError: the folder can't be written to.
    """
    path = Path(folder) / _NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")  # "w" would wipe out who holds it
    except OSError as error:
        raise DataError(f"{path} can't be written ({error}); expected a folder to write to. Choose another.") from error
    with file:
        try:
            _lock(file)
        except BlockingIOError as error:
            raise StudyError(
                f"{_holder(path)}; expected one run in {folder} at a time. Wait for it, or choose another folder; see "
                f"`xaicompare status {folder}`."
            ) from error
        with contextlib.suppress(OSError):  # a full disk: it is locked, though by nobody known
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "host": platform.node(), "since": time.time()}) + "\n")
            file.flush()
        yield


def _lock(file: IO[str]) -> None:
    """Locks a file until it is closed, which the end of a process does, too.

    Raises:
        BlockingIOError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system that knows no locks
        return


def _holder(path: Path) -> str:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        since = datetime.fromtimestamp(told["since"], UTC).isoformat(" ", timespec="seconds")
        return f"pid {told['pid']} on host {told['host']} is at work in {path.parent.parent} since {since}"
    except (OSError, ValueError, LookupError, TypeError):  # it has not said so yet
        return f"another process is at work in {path.parent.parent}"
