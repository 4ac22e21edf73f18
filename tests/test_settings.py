from typing import Any, ClassVar, Literal

import pytest
import torch

import xaicompare as xc
from xaicompare.settings import Array, BatchSize, Count, Positive, Seed, Settings, Share, frozen, setting_names


@frozen
class Knobs(Settings):
    name: ClassVar[str] = "knobs"

    needed: Count
    batch_size: BatchSize = 8
    seed: Seed = 0
    share: Share = 0.5
    width: Positive = 1.0
    how: Literal["fast", "slow"] = "fast"
    baseline: float | Array | None = None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"needed": 0}, r"knobs: needed=0; expected greater than or equal to 1\."),
        ({"needed": 2.5}, r"knobs: needed=2.5; expected a valid integer"),
        ({"needed": True}, r"knobs: needed=True; expected .*a number, not True or False"),
        ({"needed": "many"}, r"knobs: needed='many'; expected a valid integer"),
        ({"needed": None}, r"knobs: needed=None; expected a valid integer"),
        ({}, r"knobs lacks 'needed'; expected a value for it"),
        ({"needed": 1, "batch_size": -1}, r"batch_size=-1; expected greater than or equal to 1"),
        ({"needed": 1, "seed": -1}, r"seed=-1; expected greater than or equal to 0"),
        ({"needed": 1, "share": 1.5}, r"share=1.5; expected less than or equal to 1"),
        ({"needed": 1, "share": float("nan")}, r"share=nan; expected"),
        ({"needed": 1, "width": 0}, r"width=0; expected greater than 0"),
        ({"needed": 1, "width": float("inf")}, r"width=inf; expected a finite number"),
        ({"needed": 1, "how": "fats"}, r"how='fats'; expected 'fast' or 'slow'\. Did you mean 'fast'\?"),
        ({"needed": 1, "how": "x"}, r"how='x'; expected 'fast' or 'slow'\.$"),
        ({"needed": 1, "baseline": "black"}, r"baseline='black'; expected .*number"),
    ],
)
def test_wrong_values_are_told_with_what_was_expected(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(xc.SettingError, match=words):
        Knobs(**settings)


def test_an_unknown_setting_lists_the_known_ones_nearest_first() -> None:
    words = r"unknown setting of knobs 'batchsize'; did you mean 'batch_size'\? Known: baseline, batch_size, how,"
    with pytest.raises(xc.UnknownNameError, match=words):
        Knobs(needed=1, batchsize=3)
    with pytest.raises(xc.UnknownNameError, match="did you mean 'n_steps'"):
        xc.IntegratedGradients(nsteps=3)


def test_settings_are_frozen_and_named() -> None:
    made = Knobs(needed=3)
    with pytest.raises(AttributeError):
        made.needed = 4
    with pytest.raises(TypeError):
        Knobs(3)
    assert setting_names(Knobs) == ["needed", "batch_size", "seed", "share", "width", "how", "baseline"]


def test_the_repr_is_all_settings_and_the_label_those_that_were_changed() -> None:
    made = Knobs(needed=3, how="slow", baseline=torch.tensor([0.5, -1]))
    assert repr(made) == ("Knobs(needed=3, batch_size=8, seed=0, share=0.5, width=1.0, how='slow', baseline=[0.5, -1])")
    assert made.changed().keys() == {"needed", "how", "baseline"}
    assert made.label() == "knobs(needed=3, how=slow, baseline=[0.5, -1])"
    assert xc.LRP().label() == "lrp"
    assert xc.LRP(composite="zero").label() == "lrp(composite=zero)"


@pytest.mark.parametrize("shape", [(3,), (3, 8, 8), (5, 3, 8, 8)])
def test_tensors_that_differ_look_different(shape: tuple[int, ...]) -> None:
    one, same, other = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape).index_fill(0, torch.tensor(2), 1e-4)
    labels = [xc.DeepSHAP(baselines=each).label() for each in (one, same, other)]
    assert labels[0] == labels[1] != labels[2]
    assert len(labels[2]) < 50


def test_lists_become_tensors() -> None:
    assert Knobs(needed=1, baseline=[0.5, 1]).baseline.equal(torch.tensor([0.5, 1.0]))
    with pytest.raises(xc.SettingError, match="baseline="):
        Knobs(needed=1, baseline=[[1], [1, 2]])


@pytest.mark.parametrize("baseline", [0.0, torch.zeros(3)])
def test_equal_settings_are_equal(baseline: float | torch.Tensor) -> None:
    one, other = (xc.IntegratedGradients(baseline=baseline) for _ in range(2))
    assert one == other
