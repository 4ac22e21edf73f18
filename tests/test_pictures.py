"""Every picture that README and docs show says by which command it is drawn, and shows what the words beside it say."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
MADE = tomllib.loads((IMAGES / "made.toml").read_text(encoding="utf-8"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def shown() -> list[tuple[Path, str]]:
    """Page and picture."""
    pictures = re.compile(r"\]\((?:docs/)?images/([\w-]+\.png)\)")
    return [(page, name) for page in PAGES for name in pictures.findall(page.read_text(encoding="utf-8"))]


def test_every_picture_has_its_command_and_every_command_a_picture() -> None:
    assert set(MADE) == {path.name for path in IMAGES.glob("*.png")}
    assert {name for _, name in shown()} <= set(MADE)


@pytest.mark.parametrize("name", MADE)
def test_the_command_can_be_given(name: str) -> None:
    command = MADE[name]["command"].split()
    assert command[0] in ("python", "xaicompare")
    if command[0] == "python" or command[1] == "run":
        assert (ROOT / command[1 if command[0] == "python" else 2]).exists()


@pytest.mark.parametrize("name", [name for name, made in MADE.items() if "copy_of" in made])
def test_a_copy_is_the_figure_of_the_committed_results(name: str) -> None:
    assert (IMAGES / name).read_bytes() == (ROOT / MADE[name]["copy_of"]).read_bytes()


@pytest.mark.parametrize(("page", "name"), shown(), ids=str)
def test_the_page_names_what_the_picture_is_of(page: Path, name: str) -> None:
    assert MADE[name].get("says", "") in page.read_text(encoding="utf-8")
