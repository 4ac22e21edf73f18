"""The collapse that the source of guided training reports of its largest factor, at a small size.

It says: at factor "10", which is 1.0, accuracy is ahead on small shares of the data and drops drastically beyond 30 %.
Here: the digits, an MLP 64-32-10, 20 epochs of batches of 16.
"""

import pytest

from xaicompare.study.experiment import Cell, Experiment
from xaicompare.study.train import trained_cell


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return Experiment.from_dict(
        {
            "data": "digits",
            "model": {"name": "mlp", "hidden": [64, 32]},
            "shares": [0.1, 0.6, 1.0],
            "repeats": 3,
            "recipe": {"epochs": 20, "batch_size": 16},
            "arms": [{"name": "plain", "label": "plain"}, {"name": "guided", "label": "largest", "factor": 1.0}],
        }
    )


def accuracy(experiment: Experiment, share: float, arm: str, repeat: int = 0) -> float:
    return trained_cell(experiment, Cell(share, repeat, arm))[0].accuracy


def test_the_largest_factor_is_well_on_a_tenth_of_the_data(experiment: Experiment) -> None:
    gaps = [accuracy(experiment, 0.1, "largest", seed) - accuracy(experiment, 0.1, "plain", seed) for seed in range(3)]
    assert min(gaps) > -0.06


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_it_is_lost_on_more(experiment: Experiment, share: float) -> None:
    assert accuracy(experiment, share, "largest") < 0.8


def test_plain_training_is_not(experiment: Experiment) -> None:
    assert accuracy(experiment, 1.0, "plain") > 0.95
