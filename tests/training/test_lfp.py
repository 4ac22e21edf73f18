"""Feedback propagation as an arm: it takes the course's steps, and learns."""

import pytest
import torch

from xaicompare.lrp import FeedbackPropagation
from xaicompare.study.experiment import Cell, Experiment
from xaicompare.study.train import trained_cell
from xaicompare.training.lfp import LFP
from xaicompare.zoo import build_model

SMALL = {
    "data": "digits",
    "model": {"name": "mlp", "hidden": [32]},
    "shares": [0.5],
    "repeats": 1,
    "recipe": {"epochs": 6, "batch_size": 32},
}


@pytest.mark.parametrize("settings", [{}, {"rule": "zero"}, {"reward": "sign"}], ids=lambda each: str(each))
def test_the_arm_learns(settings: dict[str, str]) -> None:
    arms = [{"name": "plain", "label": "plain"}, {"name": "lfp", "label": "lfp", **settings}]
    made = Experiment.from_dict({**SMALL, "arms": arms})
    run, _ = trained_cell(made, Cell(0.5, 0, "lfp"))
    assert run.complaint == ""
    assert run.accuracy > (0.3 if "reward" in settings else 0.7)


def test_gain_is_for_sgd() -> None:
    """One step of SGD goes gain times as far."""
    steps = []
    inputs = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    for gain in (1.0, 5.0):
        model = build_model("mlp", 10, 1, hidden=(8,)).train()
        before = model[3].weight.detach().clone()
        arm = LFP(gain=gain)
        feedback = FeedbackPropagation(model, arm.rule, arm.reward, gain=arm.gain)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        torch.nn.functional.cross_entropy(feedback(inputs), torch.arange(4)).backward()
        optimizer.step()
        steps.append(model[3].weight.detach() - before)
    torch.testing.assert_close(steps[1], 5 * steps[0], rtol=1e-4, atol=1e-7)
