"""A folder that all tests of pages share, and its page in a browser."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_study import STUDY, studied

import xaicompare as xc

SIZES = {
    "wide": {"width": 1400, "height": 900},
    "desktop": {"width": 1280, "height": 900},
    "phone": {"width": 390, "height": 844},
}
DRAWN = "[...document.querySelectorAll('[data-chart]')].every((place) => place.dataset.drawn)"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return studied(tmp_path_factory.mktemp("study"), STUDY)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Debian's chromium, or playwright's own where that was installed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    with sync_api.sync_playwright() as driver:
        path = found or driver.chromium.executable_path
        if not os.path.exists(path):
            pytest.skip("needs a browser: apt-get install chromium, or playwright install chromium")
        try:
            launched = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except sync_api.Error as error:  # such as a stub that asks for another package manager
            pytest.skip(f"needs a browser that starts; {path} does not: {str(error).splitlines()[0]}")
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    return xc.report(folder)


@pytest.fixture(params=["desktop"])
def page(browser: object, file: Path, request: pytest.FixtureRequest) -> Iterator[object]:
    """The page, opened; at the end, what it said to console, network or user must have been nothing."""
    size, _, scheme = request.param.partition(" ")
    context = browser.new_context(viewport=SIZES[size], color_scheme=scheme or "light")
    opened, said = context.new_page(), []
    opened.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    opened.on("request", lambda asked: said.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None)
    opened.goto(file.as_uri())
    opened.wait_for_function(DRAWN, timeout=60_000)
    yield opened
    context.close()
    assert said == []
