"""Only one run at a time works in a folder."""

import errno
import fcntl
import multiprocessing
import os
import platform
import signal
import time
from pathlib import Path

import pytest

from xaicompare.errors import DataError, StudyError
from xaicompare.study import Study, run
from xaicompare.study.lock import locked


def holding(folder: Path) -> None:
    with locked(folder):
        (folder / "held").touch()
        time.sleep(60)


def test_a_second_run_says_who_is_at_work(study: Study, tmp_path: Path) -> None:
    child = multiprocessing.get_context("forkserver").Process(target=holding, args=(tmp_path,))
    child.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    expected = rf"pid {child.pid} on host {platform.node()} is at work in .* since 20.*xaicompare status"
    with pytest.raises(StudyError, match=expected):
        run(study, tmp_path)
    with pytest.raises(StudyError, match=expected):  # nor did the first refusal wipe out who it is
        run(study, tmp_path)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    with locked(tmp_path):
        assert f'"pid": {os.getpid()},' in (tmp_path / "cells" / "lock").read_text()
    with locked(tmp_path):  # it was let go of
        pass


def test_where_there_are_no_locks_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path), locked(tmp_path):
        assert f'"pid": {os.getpid()},' in (tmp_path / "cells" / "lock").read_text()


def test_a_folder_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="expected a folder to write to"), locked(tmp_path / "file"):
        pass
