"""The pictures of a report in docs/images: `python docs/screenshots.py runs/digits`. Needs playwright and chromium."""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

import xaicompare as xc

IMAGES = Path(__file__).parent / "images"
VIEWS = {
    "report-desktop": {"viewport": {"width": 1280, "height": 1500}, "color_scheme": "light"},
    "report-phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "device_scale_factor": 2},
}


def main() -> None:
    """Draws every view of the report of the folder that was given."""
    page = xc.report(sys.argv[1])
    with sync_playwright() as driver:
        path = shutil.which("chromium") or driver.chromium.executable_path
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, view in VIEWS.items():
            taken(browser, page, view).save(IMAGES / f"{name}.png", optimize=True)
        browser.close()


def taken(browser: Browser, page: Path, view: dict) -> Image.Image:
    """One view of the page."""
    context = browser.new_context(**view)
    opened = context.new_page()
    opened.goto(page.as_uri())
    opened.wait_for_function("[...document.querySelectorAll('[data-chart]')].every((place) => place.dataset.drawn)")
    if view["viewport"]["width"] < 500:  # the verdict is on the other view already
        opened.locator("#removal").evaluate(
            "(section) => scrollTo({ top: section.offsetTop - 40, behavior: 'instant' })"
        )
        opened.locator(".chips button").first.click()
        opened.wait_for_timeout(500)
    picture = Image.open(io.BytesIO(opened.screenshot())).convert("RGB")
    context.close()
    return picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)  # a third of the bytes


if __name__ == "__main__":
    main()
