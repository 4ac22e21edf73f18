"""The tables of docs/science.md on guided training say what the committed rows say."""

import re
import tomllib
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
EXPERIMENTS = {"mnist_mlp": 12, "mnist_mlp_readings": 3}


def told(name: str) -> list[list[str]]:
    """The cells of the table that follows a result's name, without its head."""
    text = (ROOT / "docs" / "science.md").read_text(encoding="utf-8").split(f"`benchmarks/results/{name}`", 1)[1]
    lines = re.search(r"\n\n((?:\|.*\n)+)", text)
    assert lines is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1].splitlines()[2:]]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_table_is_of_the_rows(name: str) -> None:
    rows = pd.read_csv(ROOT / "benchmarks" / "results" / name / "runs.csv")
    means = 100 * rows.groupby(["share", "arm"], sort=False)["accuracy"].mean().unstack()
    order = arms_of(name)
    table = told(name)
    assert len(table) == EXPERIMENTS[name]
    for share, *cells in table:
        assert cells == [f"{means.loc[int(share.removesuffix(' %')) / 100, arm]:.2f}" for arm in order]


def arms_of(name: str) -> list[str]:
    """The arms as the experiment's file has them."""
    text = (ROOT / "benchmarks" / "training" / f"{name}.toml").read_text(encoding="utf-8")
    return [arm["label"] for arm in tomllib.loads(text)["arms"]]
