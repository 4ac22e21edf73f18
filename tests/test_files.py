"""Nobody reads half a file."""

import os
from pathlib import Path

import pytest

from xaicompare.errors import DataError
from xaicompare.files import replacing


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(path.parent.iterdir())
    with replacing(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_replacing_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"can't be written .*XAICOMPARE_CACHE"), replacing(tmp_path / "file" / "below"):
        pass


def test_replacing_shows_nothing_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.csv"
    with replacing(path) as part:
        part.write_text("method")
        assert not path.exists()
        assert part.parent == path.parent, "only within one file system can a file be replaced at once"
    assert path.read_text() == "method"


def test_what_lasts_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, flushed = tmp_path / "cell", list[bool]()
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(path.exists()))
    for lasting in (False, True):
        with replacing(path, lasting=lasting) as part:
            part.write_text("whole")
        path.unlink()
    assert flushed == [False]
