"""A training experiment end to end: fair arms, rows that last, and every way to get the file wrong."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

import xaicompare.study.train as carrying_out
from xaicompare.errors import DataError, StudyError, XaiCompareError
from xaicompare.runs import Runs
from xaicompare.settings import frozen
from xaicompare.study.experiment import Cell, Experiment
from xaicompare.study.experiment_folder import save_experiment
from xaicompare.study.train import train, trained_cell
from xaicompare.training.arms import ARMS, Arm, Guided
from xaicompare.training.course import Course
from xaicompare.training.lesson import Lesson

SHIPPED = sorted((Path(__file__).parent.parent / "benchmarks" / "training").glob("*.toml"))
PLAIN = {"name": "plain", "label": "plain"}
ZERO = {"name": "guided", "label": "zero", "factor": 0.0}
SMALL: dict[str, Any] = {
    "data": "digits",
    "model": {"name": "mlp", "hidden": [16]},
    "shares": [0.1, 0.3],
    "repeats": 2,
    "recipe": {"epochs": 2, "batch_size": 32},
    "arms": [PLAIN, {"name": "guided", "label": "guided", "factor": 1.0, "normalise": "max", "record_every": 2}],
}


def experiment(**changed: Any) -> Experiment:
    return Experiment.from_dict(SMALL | changed)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_experiments_load(path: Path) -> None:
    loaded = Experiment.load(path)
    assert loaded.baseline in {"plain", "uniform", "random"}
    assert len({loaded.key(cell) for cell in loaded.cells()}) == len(list(loaded.cells()))


def test_all_arms_see_the_same(tmp_path: Path) -> None:
    """An arm that changes nothing gives the same weights: same images, initial weights, order of batches."""
    stopped = {"stopping": {"least_batches": 1}}
    for more in ({}, stopped):
        made = experiment(arms=[PLAIN, ZERO], **more)
        for share in made.shares:
            (one, _), (other, _) = (trained_cell(made, Cell(share, 1, arm)) for arm in made.arms)
            assert (one.accuracy, one.loss, one.batches) == (other.accuracy, other.loss, other.batches)
            assert one.accuracy > 0.15


def test_an_arm_may_train_a_network_of_its_own(tmp_path: Path) -> None:
    same = {"name": "plain", "label": "same", "model": {"name": "mlp", "hidden": [16]}}
    thin = {"name": "plain", "label": "thin", "model": {"name": "mlp", "hidden": [2]}}
    made = experiment(arms=[PLAIN, same, thin])
    plain, alike, thinner = (trained_cell(made, Cell(0.3, 0, arm))[0] for arm in made.arms)
    assert plain.accuracy == alike.accuracy > thinner.accuracy
    assert plain.key == experiment().key(Cell(0.3, 0, "plain")), "what others train does not count"
    assert plain.key == alike.key != thinner.key
    small = experiment(arms=[PLAIN, thin], shares=[0.1])
    (tmp_path / "experiment.toml").write_text("")
    save_experiment(small, train(small, tmp_path), tmp_path)
    assert "thin: mlp(hidden=[2])." in (tmp_path / "report.md").read_text()
    with pytest.raises(StudyError, match=r"\[arms, thin: model\] unknown model 'mpl'"):
        experiment(arms=[PLAIN, thin | {"model": "mpl"}])


def test_a_folder_of_images_runs_with_and_without_attention(tmp_path: Path) -> None:
    for number in range(10):
        for name, grey in (("van", 200), ("bus", 50)):
            path = tmp_path / "cars" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (grey + number,) * 3).save(path)
    folder = {"name": "folder", "path": str(tmp_path / "cars"), "size": 16, "train": 0.8}
    thin = {"name": "attended_cnn", "width": 4, "size": 16}
    made = experiment(
        data=folder,
        model=thin | {"middle": "nothing"},
        arms=[PLAIN, {"name": "plain", "label": "attention", "model": thin}],
        recipe={"epochs": 10, "batch_size": 4, "lr": 0.01},
    )
    for arm in made.arms:
        run = trained_cell(made, Cell(1.0, 0, arm))[0]
        assert (run.images, run.accuracy) == (16, 1.0)


def test_repeats_differ_and_repeat_themselves() -> None:
    made = experiment()
    accuracies = [trained_cell(made, Cell(0.3, repeat, "plain"))[0].accuracy for repeat in (0, 1, 0)]
    assert accuracies[0] == accuracies[2] != accuracies[1]


def test_rows_last_and_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Cell] = []

    def stops(made: Experiment, cell: Cell, device: str) -> Any:
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(cell)
        return trained_cell(made, cell, device)

    monkeypatch.setattr(carrying_out, "trained_cell", stops)
    with pytest.raises(KeyboardInterrupt):
        train(experiment(), tmp_path)
    assert len(Runs.load(tmp_path)) == 5
    monkeypatch.undo()
    runs = train(experiment(), tmp_path)
    assert len(runs) == 8
    alone = train(experiment(), tmp_path / "alone")
    columns = ["arm", "share", "repeat", "accuracy", "batches"]
    assert runs.table[columns].equals(alone.table[columns])
    assert set(runs.multipliers["batch"]) >= {0, 2}


def test_several_processes_give_the_same_rows(tmp_path: Path) -> None:
    order = ["share", "repeat", "arm"]
    one, other = (train(experiment(), tmp_path / str(jobs), jobs=jobs).table.sort_values(order) for jobs in (1, 2))
    assert one[[*order, "accuracy"]].to_numpy().tolist() == other[[*order, "accuracy"]].to_numpy().tolist()


def test_the_folder_says_it_all(tmp_path: Path) -> None:
    source = tmp_path / "experiment.toml"
    source.write_text("# the file")
    files = save_experiment(experiment(), train(experiment(), tmp_path), tmp_path)
    names = {path.relative_to(tmp_path).as_posix() for path in files}
    assert names == {
        *("runs.parquet", "runs.csv", "multipliers.parquet", "means.csv", "differences.csv", "report.md"),
        *("experiment.toml", "environment.json", "figures/training.png", "figures/multipliers.png"),
    }
    assert "- **guided**: " in (tmp_path / "report.md").read_text()


def test_other_settings_in_the_same_folder_are_told(tmp_path: Path) -> None:
    train(experiment(shares=[0.1], repeats=1), tmp_path)
    assert len(train(experiment(shares=[0.1], repeats=2), tmp_path)) == 4  # more of the same goes on
    with pytest.raises(StudyError, match=r"holds a training of arm 'plain', share 0\.1, with other settings"):
        train(experiment(recipe={"epochs": 3}), tmp_path)


def test_a_training_that_breaks_off_is_a_result() -> None:
    """And an arm that later code registers takes part."""

    @frozen
    class Exploding(Arm):
        name = "exploding"

        def train(self, course: Course) -> nn.Module:
            model = course.network()
            course.fit(model, Lesson(lambda inputs, _: model(inputs) * torch.inf))
            return model

    ARMS.add("exploding", Exploding)
    try:
        made = experiment(arms=[PLAIN, {"name": "exploding", "label": "exploding"}])
        run, _ = trained_cell(made, Cell(0.1, 0, "exploding"))
    finally:
        del ARMS._makers["exploding"]
    assert "loss is nan in epoch 1" in run.complaint
    assert run.batches == 0
    assert 0 <= run.accuracy < 0.5


def test_a_mistake_is_no_collapse() -> None:
    """An arm that fails for another reason stops the experiment, and leaves no row."""

    @frozen
    class Wrong(Arm):
        name = "wrong"

        def train(self, course: Course) -> nn.Module:
            model = course.network()
            course.fit(model, Lesson(lambda inputs, _: model(inputs)[:, :3]))
            return model

    ARMS.add("wrong", Wrong)
    try:
        made = experiment(arms=[PLAIN, {"name": "wrong", "label": "wrong"}])
        with pytest.raises(XaiCompareError, match=r"shape \(32, 3\) for 32 samples"):
            trained_cell(made, Cell(0.1, 0, "wrong"))
    finally:
        del ARMS._makers["wrong"]


def test_other_cells_of_the_folder_stay_there_and_out_of_the_answers(tmp_path: Path) -> None:
    train(experiment(), tmp_path)
    less = experiment(shares=[0.1], arms=[PLAIN])
    assert len(train(less, tmp_path)) == 2
    assert len(Runs.load(tmp_path)) == 8
    assert save_experiment(less, train(less, tmp_path), tmp_path)  # one arm alone has nothing to compare


def test_no_rows_keep_their_columns() -> None:
    few = Runs.of().of_cells([(0.1, 0, "plain")])
    assert list(few.table) == list(Runs.of().table)
    assert list(few.multipliers) == list(Runs.of().multipliers)


def test_a_factor_for_each_layer_and_a_schedule() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    line = Guided(factor={"from": 1.0, "to": 0.0, "batches": 10}).lesson(model).logits
    assert [line.factors(batch)["0"] for batch in (0, 5, 10, 99)] == [1.0, 0.5, 0.0, 0.0]
    assert Guided(factor={"0": 0.5, "2": 0.1}).lesson(model).logits.factors() == {"0": 0.5, "2": 0.1}
    with pytest.raises(XaiCompareError, match="expected from, to and batches"):
        Guided(factor={"from": 1.0, "to": 0.0}).lesson(model)
    learned = Guided(factor="learned", factor_lr=0.5).lesson(model)
    assert [(len(group["params"]), group["lr"]) for group in learned.more] == [(2, 0.5)]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"share": [0.1]}, "unknown key 'share'; did you mean 'shares'"),
        ({"data": "digit"}, "did you mean 'digits'"),
        ({"model": "mlpp"}, "did you mean 'mlp'"),
        ({"arms": []}, r"\[arms\] is \[\]; expected a list"),
        ({"arms": [PLAIN, PLAIN]}, "label 'plain' is there twice"),
        ({"arms": [PLAIN, {"name": "guidet"}]}, r"\[arms, entry 2\] unknown arm 'guidet'; did you mean 'guided'"),
        ({"arms": [PLAIN, {"name": "guided", "factr": 1}]}, r"\[arms, entry 2\].*did you mean 'factor'"),
        ({"arms": [PLAIN, {"name": "guided", "factor": "much"}]}, r"\[arms, entry 2\].*factor"),
        ({"shares": []}, r"shares=\[\]; expected different shares above 0"),
        ({"shares": [0.1, 0.1]}, "expected different shares"),
        ({"shares": [5]}, "shares"),
        ({"repeats": 0}, "repeats"),
        ({"recipe": {"epoch": 1}}, r"\[recipe\].*did you mean 'epochs'"),
        ({"recipe": {"seed": 7}}, r"\[recipe\] seed=7; expected it to be left out"),
        ({"recipe": {"limit": 100}}, r"\[recipe\] limit=100; expected it to be left out. Use shares"),
        ({"stopping": {"windows": 1}}, r"\[stopping\].*did you mean 'window'"),
        ({"published": {"source": "", "arms": ["plan"], "accuracy": {}}}, "did you mean 'plain'"),
    ],
)
def test_mistakes_in_the_file(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(XaiCompareError, match=told):
        experiment(**changed)


def test_missing_parts_and_files(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="arms is missing"):
        Experiment.from_dict({"data": "digits", "model": "mlp", "shares": [0.1]})
    with pytest.raises(StudyError, match="can't be read"):
        Experiment.load(tmp_path / "none.toml")
    (tmp_path / "runs.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="can't be read as runs"):
        Runs.load(tmp_path)


def test_settings_that_no_model_has(tmp_path: Path) -> None:
    with pytest.raises(XaiCompareError, match="hiden"):
        train(experiment(model={"name": "mlp", "hiden": [3]}), tmp_path)
