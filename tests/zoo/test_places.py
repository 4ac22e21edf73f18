"""Where things lie."""

from pathlib import Path

import pytest

from xaicompare.errors import DataError
from xaicompare.zoo.places import cache_root, data_root, located


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XAICOMPARE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root."""
    monkeypatch.setenv("XAICOMPARE_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_roots_follow_the_environment(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.delenv("XAICOMPARE_DATA", raising=False)
    assert data_root() == cache / "data"
    monkeypatch.delenv("XAICOMPARE_CACHE")
    assert cache_root() == Path.home() / ".cache" / "xaicompare"
    assert data_root() == cache_root() / "data"


def test_located_prefers_the_current_folder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "file").touch()
    monkeypatch.chdir(tmp_path)
    assert located("file", "file") == root / "file"
    (tmp_path / "file").touch()
    assert located("file", "file") == Path("file")
    with pytest.raises(DataError, match="file '/nowhere/at/all' does not exist; expected"):
        located("/nowhere/at/all", "file")
