"""Training experiments on a page: alone, and beside a study."""

import html
import json
import re
import shutil
from pathlib import Path

import pytest
import vl_convert

import xaicompare as xc
from xaicompare.errors import DataError
from xaicompare.study.experiment import Experiment
from xaicompare.study.experiment_folder import save_experiment
from xaicompare.study.train import train
from xaicompare.study.verdict import report as markdown

EXPERIMENT = """
title = "Guided & <plain>"
data = "digits"
model = { name = "mlp", hidden = [8] }
shares = [0.3, 0.6]
repeats = 2
arms = ["plain", "guided"]
recipe = { epochs = 1, batch_size = 64 }
"""


COMMITTED = sorted(
    path.parent for path in (Path(__file__).parents[2] / "benchmarks" / "results").glob("*/experiment.toml")
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("experiment")
    file = place / "experiment.toml"
    file.write_text(EXPERIMENT)
    experiment = Experiment.load(file)
    runs = train(experiment, place / "results")
    save_experiment(experiment, runs, place / "results")
    return place / "results"


def test_an_experiment_has_a_page_with_the_numbers_of_its_report(trained: Path) -> None:
    page = xc.report(trained).read_text(encoding="utf-8")
    assert "<h1>Guided &amp; &lt;plain&gt;</h1>" in page
    assert 'id="leaderboard"' not in page
    told = html.unescape(page)
    cells = re.findall(r"\d\d\.\d\d \([^)]*\)", (trained / "report.md").read_text())
    assert len(cells) == 4
    assert all(cell in told for cell in cells)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert set(data["charts"]) == {"gains-0", "accuracies-0"}
    for spec in data["charts"].values():
        vl_convert.vegalite_to_vega(json.dumps(spec | {"width": 300}))
    (gain,) = data["charts"]["gains-0"]["data"]["values"]
    means = {(row["arm"], row["share"]): row["accuracy"] for row in data["charts"]["accuracies-0"]["data"]["values"]}
    by_hand = sum(means["guided", share] - means["plain", share] for share in (30.0, 60.0)) / 2
    assert gain["difference"] == pytest.approx(by_hand, abs=2e-3)


def test_training_alone_has_no_short_edition(trained: Path) -> None:
    with pytest.raises(DataError, match="holds training experiments alone; expected a study"):
        xc.report(trained, short=True)


def test_networks_of_several_sizes_have_a_table(trained: Path, tmp_path: Path) -> None:
    assert "Size and speed" not in xc.report(trained).read_text(encoding="utf-8")
    file = tmp_path / "experiment.toml"
    pruned = '["plain", { name = "pruned", label = "half", first = 1 }]'
    file.write_text(EXPERIMENT.replace('["plain", "guided"]', pruned))
    experiment = Experiment.load(file)
    files = save_experiment(experiment, train(experiment, tmp_path / "results"), tmp_path / "results")
    assert {"sizes.csv", "size.png"} <= {path.name for path in files}
    told = html.unescape(xc.report(tmp_path / "results").read_text(encoding="utf-8"))
    assert "Size and speed" in told
    cells = re.findall(r"\| ([\d,]+) \| (\d+%) \|", (tmp_path / "results" / "report.md").read_text())
    assert len(cells) == 4
    assert all(f">{number}</td>" in told and f">{ratio}</td>" in told for number, ratio in cells)


def test_experiments_beside_a_study_are_a_section_of_its_page(folder: Path, trained: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "both")
    shutil.copytree(trained, place / "training")
    page = xc.report(place).read_text(encoding="utf-8")
    assert 'id="leaderboard"' in page
    assert 'id="training"' in page


def test_trainings_without_runs_are_named(trained: Path, tmp_path: Path) -> None:
    place = shutil.copytree(trained, tmp_path / "broken")
    (place / "runs.parquet").unlink()
    from_table = xc.report(place).read_bytes()  # as committed results are: text alone
    assert from_table == xc.report(trained).read_bytes()
    (place / "runs.csv").write_text("key,arm\n")
    with pytest.raises(DataError, match=r"runs\.csv lacks the columns share, repeat"):
        xc.report(place)
    (place / "runs.csv").unlink()
    with pytest.raises(DataError, match=r"holds neither runs\.parquet nor runs\.csv"):
        xc.report(place)
    (shutil.copytree(trained, tmp_path / "untold") / "experiment.toml").unlink()
    with pytest.raises(DataError, match=r"untold lacks experiment\.toml"):
        xc.report(tmp_path / "untold")


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.name)
def test_committed_experiments_have_a_page(folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "copy")
    page = html.unescape(xc.report(place).read_text(encoding="utf-8"))
    told = re.findall(r"^\| \d[^|]*\|(.*)\|$", (folder / "report.md").read_text(), re.M)
    cells = [cell.strip() for line in told for cell in line.split("|")]
    assert cells
    assert sum(cell in page for cell in cells) >= len(cells) / 2


def test_the_markdown_report_is_what_it_was(trained: Path) -> None:
    experiment = Experiment.load(trained / "experiment.toml")
    text = markdown(experiment, xc.study.train.Runs.load(trained))
    assert text == (trained / "report.md").read_text()
    assert "| share | plain | guided |" in text
