"""What is shipped: suites inside the wheel, one version everywhere, and recipes that say what pyproject.toml says."""

import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import xaicompare as xc
from xaicompare.cli import app
from xaicompare.study import Study
from xaicompare.study.experiment import Experiment
from xaicompare.study.shipped import about, asked_for, shipped

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_a_suite_is_known_by_its_name_or_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_path = Study.load(ROOT / "benchmarks/suites/digits.toml")
    monkeypatch.chdir(tmp_path)
    assert Study.load("digits") == by_path
    assert Experiment.load("mnist_mlp_small").text.startswith("#")
    (tmp_path / "digits").write_text("images = 3\n")
    assert asked_for("digits", "suites") == Path("digits")  # a file of that name is meant


def test_an_unknown_suite_is_told_with_the_nearest() -> None:
    with pytest.raises(xc.UnknownNameError, match=r"unknown suite 'digit'; did you mean 'digits'\?"):
        Study.load("digit")
    with pytest.raises(xc.StudyError, match="can't be read"):
        Study.load("nowhere.toml")


def test_the_wheel_has_what_the_checkout_has() -> None:
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {
        "benchmarks/suites": "xaicompare/shipped/suites",
        "benchmarks/training": "xaicompare/shipped/training",
    }
    for kind in ("suites", "training"):
        assert set(shipped(kind)) == {file.stem for file in (ROOT / "benchmarks" / kind).glob("*.toml")}


def test_every_suite_is_listed_with_what_it_is() -> None:
    said = CliRunner().invoke(app, ["suites"])
    assert said.exit_code == 0
    for kind in ("suites", "training"):
        for name, file in shipped(kind).items():
            assert re.search(rf"^ {name} ", said.output, flags=re.M), name
            assert len(about(file)) > 10, f"{file} begins with no comment"


def test_the_version_is_one() -> None:
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), flags=re.M)
    recipe = re.search(r'version = "(\S+)"', (ROOT / "packaging/meta.yaml").read_text(encoding="utf-8"))
    assert cited is not None
    assert recipe is not None
    assert cited[1] == recipe[1] == xc.__version__
    assert f"## {xc.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_recipe_for_conda_has_the_same_dependencies() -> None:
    recipe = (ROOT / "packaging/meta.yaml").read_text(encoding="utf-8")
    run = recipe[recipe.index("  run:") : recipe.index("test:")]
    renamed = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    there = dict(re.findall(r"- ([\w-]+) (\S+)", run))
    there = {renamed.get(name, name): bounds for name, bounds in there.items() if name != "python"}
    here = dict(re.match(r"([\w-]+)(.*)", each).groups() for each in PROJECT["project"]["dependencies"])
    assert there == here


def test_the_steps_of_the_dockerfile_can_be_taken() -> None:
    steps = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    for line in steps:
        for source in line.split()[1:-1] if line.startswith("COPY") else ():
            assert (ROOT / source).exists(), source
    assert [line for line in steps if line.startswith("RUN")] == [
        "RUN pip install --no-cache-dir --constraint constraints.txt ."
    ]
    assert f"python:{PROJECT['project']['requires-python'].removeprefix('>=')}-slim" in steps[1]
