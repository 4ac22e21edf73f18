"""benchmarks/full.py: what it runs, what it leaves, and what it takes in."""

import importlib.util
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from xaicompare.errors import DataError
from xaicompare.study.experiment import Experiment
from xaicompare.study.train import train

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
TINY = """
data = "digits"
model = { name = "mlp", hidden = [4] }
shares = [0.1]
repeats = 2

[recipe]
epochs = 1

[[arms]]
name = "plain"
label = "plain"

[[arms]]
name = "guided"
label = "guided"
"""
LIST = """
[[part]]
name = "tiny"
train = "tiny.toml"

[[part]]
name = "table"
speed = ["{script}", "--device", "{{device}}"]
"""


def _full() -> ModuleType:
    spec = importlib.util.spec_from_file_location("full", BENCHMARKS / "full.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["full"] = module
    spec.loader.exec_module(module)
    return module


full = _full()


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A list of a small experiment and a short script."""
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "script.py").write_text("import sys\nprint('a table for', sys.argv[-1])\n")
    path = tmp_path / "list.toml"
    path.write_text(LIST.format(script=tmp_path / "script.py"))
    return path


def test_all_that_is_listed_is_there() -> None:
    todo = full.parts(BENCHMARKS / "full.toml")
    assert len(todo) > 5
    for part in todo:
        if part.train is not None:
            assert len(list(Experiment.load(part.train).cells())) > 1
        else:
            assert (BENCHMARKS / part.speed[0]).exists()


def test_it_runs_packs_and_merges(listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--minutes", "5", "--out", str(tmp_path / "out"), "--list", str(listed), "--lockstep", "2", "--graphs"]
    full.main(run)
    assert (tmp_path / "out" / "parts" / "table" / "output.txt").read_text() == "a table for cpu\n"
    full.main(run)  # nothing is left to do
    assert capsys.readouterr().out.count("done before") == 2
    merge = ["--merge", str(tmp_path / "out" / "full.zip"), "--list", str(listed), "--results", str(tmp_path / "res")]
    for _ in range(2):  # the same archive again adds nothing
        full.main(merge)
        table = pd.read_csv(tmp_path / "res" / "tiny" / "runs.csv")
        assert sorted(zip(table["repeat"], table["arm"], strict=True)) == [
            *((0, "guided"), (0, "plain"), (1, "guided"), (1, "plain"))
        ]
        assert "4 of 4 trainings, answers of 1 shares x 2" in capsys.readouterr().out
    assert "## Verdict" in (tmp_path / "res" / "tiny" / "report.md").read_text()
    assert '"device": "cpu"' in (tmp_path / "res" / "tiny" / "environment.json").read_text()
    assert (tmp_path / "res" / "table" / "output.txt").exists()


def test_rows_of_two_archives_are_joined(listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    todo, results = full.parts(listed), tmp_path / "res"
    whole = Experiment.load(listed.parent / "tiny.toml")
    for name, part in (("one", replace(whole, repeats=1)), ("other", replace(whole, repeats=2))):
        train(part, tmp_path / name / "parts" / "tiny")
        full.merge(full.packed(todo, tmp_path / name), todo, results)
    told = capsys.readouterr().out
    assert "2 of 4 trainings, no answers yet" in told
    assert "4 of 4 trainings, answers of 1 shares x 2" in told
    assert len(pd.read_csv(results / "tiny" / "runs.csv")) == 4


def test_what_has_no_time_left_is_not_begun(listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full.main(["--minutes", "0", "--out", str(tmp_path / "out"), "--list", str(listed)])
    assert capsys.readouterr().out.count("no time left") == 2
    assert zipfile.ZipFile(tmp_path / "out" / "full.zip").namelist() == []


def test_a_part_is_stopped_in_time_and_one_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(60)\n")
    (tmp_path / "wrong.py").write_text("raise SystemExit('no such device')\n")
    slow, wrong = (full.Part(name, None, (str(tmp_path / f"{name}.py"),)) for name in ("slow", "wrong"))
    assert full.run_for(slow, tmp_path, 1, "cpu", []).startswith("stopped when the time was over")
    assert full.run_for(wrong, tmp_path, 60, "cpu", []).startswith("failed")
    assert "no such device" in (tmp_path / "complaint.txt").read_text()
    assert not wrong.is_done(tmp_path)


def test_archives_that_are_none(listed: Path, tmp_path: Path) -> None:
    todo = full.parts(listed)
    (tmp_path / "text.zip").write_text("nothing")
    with pytest.raises(DataError, match="can't be read"):
        full.merge(tmp_path / "text.zip", todo, tmp_path / "res")
    for name in ("../tiny/runs.csv", "tiny/deep/runs.csv", "tiny/evil.py", "/tiny/runs.csv", "other/runs.csv"):
        with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
            archive.writestr(name, "x")
        with pytest.raises(DataError, match=r"expected PART/FILE"):
            full.merge(tmp_path / "odd.zip", todo, tmp_path / "res")
    assert not (tmp_path / "res").exists()


def test_rows_with_other_settings_are_refused(listed: Path, tmp_path: Path) -> None:
    todo = full.parts(listed)
    train(replace(Experiment.load(listed.parent / "tiny.toml"), repeats=1), tmp_path / "out" / "parts" / "tiny")
    archive = full.packed(todo, tmp_path / "out")
    (listed.parent / "tiny.toml").write_text(TINY.replace("epochs = 1", "epochs = 2"))
    with pytest.raises(DataError, match="other settings"):
        full.merge(archive, todo, tmp_path / "res")


def test_an_archive_stays_small(listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    todo = full.parts(listed)
    train(replace(Experiment.load(listed.parent / "tiny.toml"), repeats=1), tmp_path / "parts" / "tiny")
    whole = full.packed(todo, tmp_path).stat().st_size
    monkeypatch.setattr(full, "LARGEST", whole)
    assert "tiny/multipliers.parquet" not in zipfile.ZipFile(full.packed(todo, tmp_path)).namelist()
    monkeypatch.setattr(full, "LARGEST", 100)
    with pytest.raises(DataError, match="expected less than 15"):
        full.packed(todo, tmp_path)


def test_lists_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "list.toml"
    for text, message in (
        ('[[part]]\nname = "a"\n', "either train or speed"),
        ('[[part]]\nname = "../a"\nspeed = ["b.py"]\n', "expected a name"),
        ('[[part]]\nname = "a"\nspeed = ["b.py"]\n' * 2, "two parts of one name"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            full.parts(path)
