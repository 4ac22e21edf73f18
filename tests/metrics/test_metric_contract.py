"""Every registered metric: a finite value per image, the same alone as in a batch; nothing moved; bad input told."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from nets import cnn
from torch import Tensor, nn

import xaicompare as xc
import xaicompare.metrics  # registers their names
from xaicompare.core import Attribution
from xaicompare.errors import InputError
from xaicompare.registry import METRICS

NAMES = METRICS.names()
ASKS = [name for name in NAMES if METRICS[name].traits.masks]


@cache
def net() -> nn.Module:
    return cnn().eval()


def made(n: int = 3, method: str = "input_x_gradient") -> Attribution:
    inputs = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return xc.attribute(net(), inputs, [1, 0, 2][:n], method)


def judged(name: str, explained: Attribution) -> Tensor:
    masks = torch.zeros(len(explained), 16, 16, dtype=torch.bool)
    masks[:, 2:9, 3:12] = True
    return xc.score(net(), explained, name, masks if name in ASKS else None)


@pytest.mark.parametrize("name", NAMES)
def test_one_finite_value_per_image_within_the_range(name: str) -> None:
    values, traits = judged(name, made()), METRICS[name].traits
    assert values.shape == (3,)
    assert torch.isfinite(values).all()
    assert ((values >= traits.low - 1e-6) & (values <= traits.high + 1e-6)).all()
    assert not values.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_alone_as_in_a_batch_and_again(name: str) -> None:
    together, alone = judged(name, made()), judged(name, made(1))
    torch.testing.assert_close(together[:1], alone, rtol=1e-3, atol=1e-4)
    assert torch.equal(together, judged(name, made()))


@pytest.mark.parametrize("name", NAMES)
def test_model_and_random_state_are_given_back(name: str) -> None:
    model, explained = net(), made()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    same = [id(parameter) for parameter in model.parameters()]
    state, values = torch.get_rng_state(), explained.values.clone()
    model.train()
    judged(name, explained)
    assert model.training
    model.eval()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(explained.values, values)
    assert [id(parameter) for parameter in model.parameters()] == same
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("constant", [0.0, 1.0, -1.0])
@pytest.mark.parametrize("name", NAMES)
def test_a_constant_map_has_a_defined_value(name: str, constant: float) -> None:
    explained = made(2)
    flat = replace(explained, values=torch.full_like(explained.values, constant))
    assert torch.isfinite(judged(name, flat)).all()


@pytest.mark.parametrize("name", NAMES)
def test_bad_maps_are_told_by_the_metrics_name(name: str) -> None:
    explained = made(2)
    with pytest.raises(InputError, match=rf"{name}: the attribution has shape \(2, 1, 4, 4\)"):
        judged(name, replace(explained, values=torch.zeros(2, 1, 4, 4)))
    broken = explained.values.clone()
    broken[1, 0, 3, 3] = torch.nan
    with pytest.raises(InputError, match=f"{name}: .*NaN"):
        judged(name, replace(explained, values=broken))


@pytest.mark.parametrize("name", ASKS)
def test_bad_masks_are_told(name: str) -> None:
    explained, masks = made(2), torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[0, 3:5] = True
    for given, told in ((masks, "sample 1 is empty"), (masks[:, :4], "expected bool"), (None, "masks are missing")):
        with pytest.raises(InputError, match=told):
            xc.score(net(), explained, name, given)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ASKS])
def test_masks_that_nothing_looks_at_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="nothing looks at them"):
        xc.score(net(), made(2), name, torch.ones(2, 16, 16, dtype=torch.bool))
