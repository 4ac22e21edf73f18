"""Trainings in lockstep against the same trainings one by one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from xaicompare.errors import StudyError
from xaicompare.runs import Runs
from xaicompare.study.experiment import Experiment
from xaicompare.study.train import train
from xaicompare.training.arms import Arm, Guided, Plain
from xaicompare.training.captured import Captured, recorder_for
from xaicompare.training.lockstep import can_join
from xaicompare.training.scaled import Scaled
from xaicompare.zoo import build_model

ARMS = [
    {"name": "plain", "label": "plain"},
    {"name": "guided", "label": "some", "factor": 0.5, "layers": "all"},
    {"name": "guided", "label": "other", "factor": {"1": 1.0, "3": 0.0}, "start": "predicted"},
]
GIVEN: dict[str, Any] = {
    "data": "digits",
    "model": {"name": "mlp", "hidden": [16, 8]},
    "shares": [0.1, 0.2],
    "repeats": 2,
    "recipe": {"epochs": 3, "batch_size": 32},
    "arms": ARMS,
}


def both(tmp_path: Path, lockstep: int = 4, **changed: Any) -> tuple[Runs, Runs]:
    made = Experiment.from_dict(GIVEN | changed)
    alone = train(made, tmp_path / "alone")
    return alone, train(made, tmp_path / "together", lockstep=lockstep)


def check_same(alone: Runs, together: Runs, accuracy: float = 5e-3) -> None:
    by = ["share", "repeat", "arm"]
    one, other = (runs.table.sort_values(by).reset_index(drop=True) for runs in (alone, together))
    for column in (*by, "key", "seed", "images", "batches", "chance", "complaint", "parameters"):
        assert one[column].tolist() == other[column].tolist(), column
    for column, off in (("loss", 1e-3), ("accuracy", accuracy), ("validation", 0.03)):  # sums in another order
        assert one[column].tolist() == pytest.approx(other[column].tolist(), abs=off, nan_ok=True), column


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 3e-3), ("sgd-onecycle", 0.05)])
def test_rows_are_those_of_trainings_one_by_one(tmp_path: Path, optimizer: str, lr: float) -> None:
    recipe = {"epochs": 3, "batch_size": 32, "optimizer": optimizer, "lr": lr, "flip": True}
    alone, together = both(tmp_path, recipe=recipe)
    check_same(alone, together)
    assert together.table["jobs"].tolist() == [4, 4, 4, 4, 2, 2, 4, 4, 4, 4, 2, 2]
    assert alone.table["accuracy"].nunique() > 6


def test_a_cnn(tmp_path: Path) -> None:
    model = {"name": "lenet"}
    recipe = {"epochs": 1, "batch_size": 32}
    runs = both(tmp_path, model=model, shares=[0.1], recipe=recipe, arms=ARMS[:2])
    check_same(*runs, accuracy=0.015)  # some processors round a convolution by its batch size, and 500 images are few


def test_each_stops_early_when_it_would_alone(tmp_path: Path) -> None:
    stopping = {"least_batches": 1, "patience_least": 1, "patience_most": 2, "window": 0.3}
    alone, together = both(tmp_path, stopping=stopping, recipe={"epochs": 12, "batch_size": 16, "lr": 0.004})
    check_same(alone, together)
    assert alone.table["batches"].nunique() > 3


def test_one_that_breaks_off_leaves_the_others_alone(tmp_path: Path) -> None:
    wild = {"name": "guided", "label": "wild", "factor": 1e38, "start": "predicted"}
    made = [{"name": "plain", "label": "plain"}, wild]
    alone, together = (runs.table.set_index("arm") for runs in both(tmp_path, arms=made, shares=[0.1]))
    assert (alone.loc["plain", "accuracy"] - together.loc["plain", "accuracy"]).abs().max() < 5e-3
    assert all("not finite" in told for told in alone.loc["wild", "complaint"])
    assert all("the loss is nan in epoch 1, batch 1" in told for told in together.loc["wild", "complaint"])
    assert (together.loc["plain", "complaint"] == "").all()


def test_arms_that_cannot_join_are_trained_alone(tmp_path: Path) -> None:
    steady = {"name": "guided", "label": "steady", "normalise": "max"}
    _, together = both(tmp_path, arms=[*ARMS[:2], steady], shares=[0.1])
    assert together.table.groupby("arm")["jobs"].first().to_dict() == {"plain": 4, "some": 4, "steady": 1}


@pytest.mark.parametrize("lockstep", [1, 3])
def test_played_back_steps_are_the_same_bit_by_bit(tmp_path: Path, lockstep: int) -> None:
    """The last batch of an epoch is smaller: two records."""
    made = Experiment.from_dict(GIVEN | {"shares": [0.1], "recipe": {"epochs": 3, "batch_size": 40, "lr": 0.01}})
    usual = train(made, tmp_path / "usual", lockstep=max(2, lockstep)).table
    played = train(made, tmp_path / "played", lockstep=lockstep, graphs=True).table
    together = usual["loss"].tolist() if lockstep > 1 else pytest.approx(usual["loss"].tolist(), rel=1e-4)
    assert played["loss"].tolist() == together
    assert usual["loss"].nunique() == 6


def test_what_was_recorded_is_played_back_with_what_is_given() -> None:
    weight = torch.tensor([2.0])
    calls = []

    def function(values: torch.Tensor, more: torch.Tensor) -> dict[str, torch.Tensor]:
        calls.append(values.shape)
        return {"sum": values * weight + more}

    captured = Captured(function, recorder_for(torch.device("cpu")))
    first = captured(torch.ones(3), torch.zeros(3))["sum"]
    assert first.tolist() == [2, 2, 2]
    weight.fill_(5)  # as an optimizer does
    second = captured(torch.ones(3), torch.ones(3))["sum"]
    assert second is first
    assert second.tolist() == [6, 6, 6]
    assert captured(torch.ones(2), torch.ones(2))["sum"].tolist() == [6, 6]
    assert second.tolist() == [6, 6, 6]


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    train(Experiment.from_dict(GIVEN | {"repeats": 1}), tmp_path, lockstep=3)
    assert len(train(Experiment.from_dict(GIVEN), tmp_path, lockstep=3)) == 12


def test_processes_and_lockstep_are_one_or_the_other(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="jobs=2 beside lockstep=2, graphs=False"):
        train(Experiment.from_dict(GIVEN), tmp_path, jobs=2, lockstep=2)


@pytest.mark.parametrize(
    ("arm", "network", "joins"),
    [
        (Plain(), "mlp", True),
        (Guided(factor=0.2, layers="all"), "cnn", True),
        (Guided(factor={"from": 1, "to": 0, "batches": 5}), "mlp", False),
        (Guided(factor="learned"), "mlp", False),
        (Guided(clamp=(0.5, 2)), "mlp", False),
        (Guided(rule="zero"), "mlp", False),
        (Guided(rule={"rule": "epsilon", "epsilon": 0.25, "of": "std"}), "mlp", False),
        (Scaled(), "mlp", False),
        (Plain(), "resnet18", False),
    ],
    ids=repr,
)
def test_who_can_join(arm: Arm, network: str, joins: bool) -> None:
    assert can_join(arm, build_model(network, 10, 3 if network == "resnet18" else 1).train()) is joins
