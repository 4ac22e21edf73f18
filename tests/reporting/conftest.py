"""A folder that all tests of pages share."""

from pathlib import Path

import pytest
from small_study import STUDY, studied


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return studied(tmp_path_factory.mktemp("study"), STUDY)
