"""The code on every page of docs/ runs, and every method and metric has a page with a picture."""

import doctest
import re
from pathlib import Path

import pytest
from latex2mathml.converter import convert

import xaicompare.methods
import xaicompare.metrics
import xaicompare.zoo  # noqa: F401 (these three register what the pages name)
from xaicompare.registry import DATASETS, METHODS, METRICS, MODELS, Registry
from xaicompare.training import fit
from xaicompare.training.arms import ARMS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if ">>>" in page.read_text(encoding="utf-8")]
NOUNS = [("methods", METHODS), ("metrics", METRICS)]


@pytest.fixture(autouse=True)
def _short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digits network of the pages is trained for fewer steps: the code is tested here, not what it finds."""
    monkeypatch.setitem(fit._FEW_IMAGES, ("small_cnn", "digits"), fit.RECIPES["small_cnn"])


class _Page(doctest.DocTestParser):
    """Fences end an example; its expected output would else go on to them."""

    def parse(self, string: str, name: str = "<string>") -> list[str | doctest.Example]:
        return super().parse(re.sub(r"^```.*$", "", string, flags=re.M), name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_code_of_a_page_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for registry in (METHODS, METRICS, MODELS, DATASETS, ARMS):  # what a page adds goes with it
        monkeypatch.setattr(registry, "_makers", dict(registry._makers))
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.testfile(str(page), module_relative=False, optionflags=options, parser=_Page())
    assert tried > 2
    assert not failed


def test_the_code_of_the_readme_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M | re.S)
    session: dict[str, object] = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), session)
    assert len(blocks) > 5
    assert (tmp_path / "grid.png").exists()


@pytest.mark.parametrize(("noun", "registry"), NOUNS, ids=[noun for noun, _ in NOUNS])
def test_every_name_has_a_page_and_every_page_a_name(noun: str, registry: Registry[object]) -> None:
    assert sorted(page.stem for page in (DOCS / noun).glob("*.md")) == sorted(registry.names())
    assert sorted(page.stem for page in (DOCS / "images" / noun).iterdir()) == sorted(registry.names())


@pytest.mark.parametrize("page", [*DOCS.glob("methods/*.md"), *DOCS.glob("metrics/*.md")], ids=lambda page: page.stem)
def test_a_page_has_what_only_a_hand_can_write(page: Path) -> None:
    title, formula, pitfalls = re.split(r"^## (?:Formula|Pitfalls)\n", page.read_text(encoding="utf-8"), flags=re.M)
    assert title.strip() == f"# {page.stem}"
    assert formula.count("$$") >= 2
    assert pitfalls.count("\n- **") >= 1 or pitfalls.lstrip().startswith("- **")


@pytest.mark.parametrize("picture", sorted(DOCS.rglob("*.webp")), ids=lambda path: path.stem)
def test_pictures_are_small(picture: Path) -> None:
    assert picture.stat().st_size < 40_000


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_formulas_can_be_drawn(page: Path) -> None:
    words = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.S)
    for block, inline in re.findall(r"\$\$(.+?)\$\$|(?<!\$)\$([^$\n]+)\$(?!\$)", words, flags=re.S):
        drawn = convert((block or inline).strip())
        assert "\\" not in drawn, f"{block or inline}: a command that the converter does not know"
