"""The short edition: two printed pages, from the same folder, without a script."""

import html
import re
from pathlib import Path

import pytest
from small_study import HOSTILE
from typer.testing import CliRunner

import xaicompare as xc
from xaicompare.cli import app


@pytest.fixture(scope="module")
def short(folder: Path) -> Path:
    return xc.report(folder, short=True)


def test_it_answers_as_the_full_page_does(short: Path, folder: Path) -> None:
    told, full = (html.unescape(file.read_text(encoding="utf-8")) for file in (short, xc.report(folder)))
    said = [re.sub("<[^>]+>", "", re.search(r'<p class="said">(.*?)</p>', text)[1]) for text in (told, full)]
    assert said[0] == said[1]
    for costs in re.findall(r"<dd>(.*?)</dd>", told):
        assert costs in re.sub("</?button[^>]*>", "", full)


def test_it_runs_nothing_asks_for_nothing_and_escapes(short: Path) -> None:
    text = short.read_text(encoding="utf-8")
    assert short.name == "report-short.html"
    assert "<script" not in text
    assert "default-src 'none'" in text
    assert HOSTILE not in text
    assert html.escape(HOSTILE) in text
    assert set(re.findall(r'\b(?:src|href)="(data:|[^"]*)', text)) == {"data:"}
    assert short.stat().st_size < 400_000


def test_it_has_two_printed_pages(short: Path, browser: object) -> None:
    opened = browser.new_page()
    opened.goto(short.as_uri())
    paper = opened.pdf(format="A4", prefer_css_page_size=True)
    opened.set_viewport_size({"width": 390, "height": 844})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    opened.close()
    assert paper.count(b"/Type /Page\n") == 2


def test_the_command_writes_it_beside_the_full_one(folder: Path) -> None:
    for name in ("report.html", "report-short.html"):
        (folder / name).unlink(missing_ok=True)
    ran = CliRunner().invoke(app, ["report", str(folder), "--short"])
    assert ran.exit_code == 0, ran.output
    assert (folder / "report.html").exists()
    assert (folder / "report-short.html").exists()
