"""A quick look: smaller numbers, a folder of its own, and results that say so."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from small_cells import SMALL
from typer.testing import CliRunner

import xaicompare as xc
from xaicompare.cli import app
from xaicompare.errors import DataError, StudyError
from xaicompare.study import Study
from xaicompare.study.folder import claimed
from xaicompare.study.quick import TOLD, quick_folder

LARGE = SMALL.replace("images = 5\n", "images = 40\n").replace(
    '"cam"', '{ name = "lime", n_samples = 100 }, "smoothgrad"'
)


def test_numbers_are_smaller_and_never_greater(tmp_path: Path) -> None:
    file = tmp_path / "large.toml"
    file.write_text(LARGE)
    full, quick = Study.load(file), Study.load(file, quick=True)
    assert (full.images, full.references, full.grid_images, full.quick) == (40, 16, 2, False)
    assert (quick.images, quick.references, quick.grid_images, quick.quick) == (16, 4, 2, True)
    assert quick.methods["lime(n_samples=100)"].n_samples == 100, "less than a quarter of 1000"
    assert quick.methods["smoothgrad(n_samples=8)"].n_samples == 8
    assert quick.methods["integrated_gradients(n_steps=13)"].n_steps == 13
    assert full.metrics == quick.metrics
    assert replace(quick, text="") == Study.from_dict(tomllib.loads(LARGE) | {"quick": True})
    file.write_text(quick.text)
    assert Study.load(file) == quick, "a folder's file means what ran"


def test_what_is_no_number_is_an_error_as_ever(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    for old, new, said in (
        ("images = 40", 'images = "many"', "images"),
        ('"smoothgrad"', '"smothgrad"', "did you mean"),
        ('"smoothgrad"', '{ name = "smoothgrad", n_samples = true }', "n_samples=True"),
    ):
        file.write_text(LARGE.replace(old, new))
        with pytest.raises(StudyError, match=said):
            Study.load(file, quick=True)
    file.write_text("quick = false\n" + LARGE)
    with pytest.raises(StudyError, match="quick = False; expected true"):
        Study.load(file, quick=True)


def test_its_results_are_in_a_folder_of_their_own_and_say_so(tmp_path: Path) -> None:
    file, out = tmp_path / "small.toml", tmp_path / "out"
    file.write_text(SMALL.replace('"cam", ', ""))
    told = CliRunner().invoke(app, ["run", str(file), "--out", str(out), "--quick"])
    assert told.exit_code == 0, told.output
    assert TOLD in told.output
    assert not out.exists()
    quick = tmp_path / "out-quick"
    assert TOLD in (quick / "README.md").read_text()
    assert json.loads((quick / "environment.json").read_text())["quick"] is True
    assert Study.load(quick / "study.toml").quick
    assert "A quick look: " in xc.report(quick).read_text(encoding="utf-8")
    with pytest.raises(DataError, match="holds the results of a quick look; expected another folder for a full study"):
        claimed(quick)
    claimed(quick, quick=True)
    (quick / "study.toml").write_text(SMALL)
    with pytest.raises(DataError, match="holds the results of a full study; expected another folder for a quick look"):
        claimed(quick, quick=True)


def test_a_folder_without_a_name_gets_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert quick_folder(Path()) == tmp_path.with_name(f"{tmp_path.name}-quick")
