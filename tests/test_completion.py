"""The Tab key: names, lists with commas, files, and how it is told to a shell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xaicompare import completion
from xaicompare.cli import app
from xaicompare.registry import DATASETS, METHODS, METRICS, MODELS


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAICOMPARE_CACHE", str(tmp_path / "cache"))


def test_all_names_are_offered() -> None:
    for kind, known in (("methods", METHODS), ("metrics", METRICS), ("models", MODELS), ("datasets", DATASETS)):
        assert completion.one(kind, "") == known.names()
    assert completion.one("methods", "integ") == ["integrated_gradients"]
    assert "squeezenet1_0" in completion.one("models", "squeeze")


def test_names_are_kept_until_the_installation_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    known = completion.names()
    monkeypatch.setattr(completion, "_registered", lambda: pytest.fail("asked again"))
    assert completion.names() == known
    monkeypatch.setattr(completion, "_state", lambda: "another")
    monkeypatch.setattr(completion, "_registered", lambda: known | {"methods": ["new"]})
    assert completion.one("methods", "") == ["new"]


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"state": "STATE", "names": {"methods": 3}}'])
def test_a_broken_cache_is_made_anew(content: str) -> None:
    known = completion.names()
    place = Path(os.environ["XAICOMPARE_CACHE"]) / "names.json"
    place.write_text(content.replace("STATE", completion._state()))
    assert completion.names() == known


def test_a_cache_that_can_not_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XAICOMPARE_CACHE", str(tmp_path / "file"))
    assert completion.one("datasets", "mni") == ["mnist"]


def test_the_last_name_of_a_list_is_completed_and_none_comes_twice() -> None:
    assert completion.method_lists("saliency,guided_g") == ["saliency,guided_gradcam"]
    assert completion.method_lists("guided_gradcam,guided_g") == []
    assert completion.metric_lists("dele") == ["deletion"]


def test_study_files_and_the_folders_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("suites/a.toml", "suites/b.toml", "suites/c.csv", "suites/.hidden.toml", "runs/x/y.txt", "runs/z"):
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("")
    assert completion.study_files("") == ["runs/", "suites/"]
    assert completion.study_files("su") == ["suites/a.toml", "suites/b.toml"]  # entered: no other choice
    assert completion.study_files("suites/b") == ["suites/b.toml"]
    assert completion.folders("run") == ["runs/x/"]
    assert completion.folders("none/") == []
    assert completion.study_files(f"{tmp_path}/suites/a") == [f"{tmp_path}/suites/a.toml"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("xaicompare new-s", {"new-study"}),
        ("xaicompare doctor alexn", {"alexnet"}),
        ("xaicompare grid a.png --model squeezenet1_", {"squeezenet1_0", "squeezenet1_1"}),
        ("xaicompare grid a.png --methods saliency,guided_g", {"saliency,guided_gradcam"}),
        ("xaicompare new-study --data mos", {"mosaic"}),
        ("xaicompare new-study --metrics road,irof,dele", {"road,irof,deletion"}),
        ("xaicompare run benchmarks/suites/dig", {"benchmarks/suites/digits.toml"}),
        ("xaicompare run --jo", {"--jobs"}),
    ],
)
def test_a_shell_is_told(line: str, offered: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    asked = {"_XAICOMPARE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    result = CliRunner().invoke(app, env=asked, prog_name="xaicompare")
    assert set(result.output.split()) == offered


def test_tab_waits_for_no_torch(tmp_path: Path) -> None:
    """Once the names are known."""
    completion.names()
    code = "import sys; from xaicompare import cli; print(cli.__name__, 'torch' in sys.modules)"
    code += "; from xaicompare import completion as c; print(c.one('methods', 'lr'), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["xaicompare.cli", "False", "['lrp']", "False"]
    assert json.loads((tmp_path / "cache" / "names.json").read_text())["names"]["datasets"] == DATASETS.names()
