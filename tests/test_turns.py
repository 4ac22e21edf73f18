"""Several threads on one model, and on different ones: the maps of one after the other, and nothing left behind."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from nets import cnn, mlp
from torch import Tensor, nn

import xaicompare as xc

METHODS = ["saliency", "guided_backprop", "deeplift", "lrp", "integrated_gradients", "kernelshap"]


class Written(nn.Module):
    """Functions that must become modules, so that rule-based methods trace it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first, self.last = nn.Linear(12, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)))


def hooks(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


@pytest.mark.parametrize("made", [mlp, cnn, lambda: Written(0)], ids=["mlp", "cnn", "written"])
def test_threads_on_one_model_take_turns(made) -> None:
    model = made()
    inputs = torch.rand(2, 3, 16, 16) if isinstance(model, nn.Sequential) and model[0].__class__ is nn.Conv2d else None
    inputs = torch.rand(2, 12) if inputs is None else inputs
    with torch.no_grad():
        before = model(inputs)
    wanted = {name: xc.attribute(made_like(made, model), inputs, name).values for name in METHODS}
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda name: (name, xc.attribute(model, inputs, name).values), METHODS * 4))
    for name, values in found:
        torch.testing.assert_close(values, wanted[name], rtol=1e-4, atol=1e-6)
    assert hooks(model) == 0
    assert all(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        torch.testing.assert_close(model(inputs), before)


def made_like(made, model: nn.Module) -> nn.Module:
    other = made()
    other.load_state_dict(model.state_dict())
    return other


def test_models_side_by_side_while_others_are_traced() -> None:
    inputs = torch.rand(2, 12)
    models = [Written(seed) for seed in range(24)]  # none is known yet, so that each is traced
    wanted = [model(inputs).argmax(1).tolist() for model in models]
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda pair: xc.attribute(pair[1], inputs, METHODS[pair[0] % 4]), enumerate(models)))
    assert [attribution.target.tolist() for attribution in made] == wanted
    assert [hooks(model) for model in models] == [0] * len(models)


def test_the_random_state_is_the_users_after_threads() -> None:
    models = [Written(seed) for seed in range(8)]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    inputs = torch.rand(2, 12, generator=torch.Generator().manual_seed(0))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda model: xc.attribute(model, inputs, "kernelshap"), models))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_thread_inside_another_models_turn_does_not_block_tracing() -> None:
    """One thread explains a model from within a hook of another; a second traces meanwhile."""
    inner, inputs = Written(1), torch.rand(2, 12)

    def explains(module: nn.Module, given: object, output: object) -> None:
        xc.attribute(inner, inputs, "deeplift")

    outer = mlp()
    outer.register_forward_hook(explains)
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(xc.attribute, outer, inputs, "saliency") for _ in range(2)]
        jobs += [pool.submit(xc.attribute, inner, inputs, "lrp") for _ in range(4)]
        assert all(len(job.result(timeout=60)) == 2 for job in jobs)
