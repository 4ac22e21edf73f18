"""Digits, two networks that read them, and the pages that show them; all tests of pages share them."""

import os
import shutil
from collections.abc import Iterator

import pytest

pytest.importorskip("uvicorn", reason="needs the extra: pip install '.[explore]'")

from xaicompare.explore.exhibit import Exhibit, of_dataset
from xaicompare.explore.live import Explorer


@pytest.fixture(scope="session")
def digits() -> Exhibit:
    return of_dataset("digits")


@pytest.fixture(scope="session")
def exhibits(digits: Exhibit) -> tuple[Exhibit, Exhibit]:
    return digits, of_dataset("digits", "lenet")


@pytest.fixture(scope="session")
def live(exhibits: tuple[Exhibit, Exhibit]) -> Iterator[Explorer]:
    with Explorer(exhibits) as explorer:
        yield explorer


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Debian's chromium, or playwright's own where that was installed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    found = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
    with sync_api.sync_playwright() as driver:
        path = found or driver.chromium.executable_path
        if not os.path.exists(path):
            pytest.skip("needs a browser: apt-get install chromium, or playwright install chromium")
        try:
            launched = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"needs a browser that starts; {path} does not: {str(error).splitlines()[0]}")
        yield launched
        launched.close()
