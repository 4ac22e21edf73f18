"""What the tests of a study's cells share: the study, its cache, and its table where nothing disturbed it."""

from pathlib import Path

import pandas as pd
import pytest
from small_cells import SMALL, bare

from xaicompare.study import Study, run


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAICOMPARE_CACHE", str(cache))
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def study(file: Path) -> Study:
    return Study.load(file)


@pytest.fixture(scope="session")
def undisturbed(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    path = tmp_path_factory.mktemp("undisturbed") / "small.toml"
    path.write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAICOMPARE_CACHE", str(cache))
        return bare(run(Study.load(path)).results)
