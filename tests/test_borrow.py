import random

import numpy as np
import pytest
import torch
from nets import cnn
from torch import Tensor, nn

from xaicompare.borrow import borrowed, watched


def test_lends_an_evaluation_model_that_is_frozen_and_free_of_inplace_and_backward_hooks() -> None:
    model = cnn().train()
    model[0].register_full_backward_hook(lambda *_: None)
    with torch.no_grad(), borrowed(model) as lent:
        assert lent is model
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not model[2].inplace
        assert not model[0]._backward_hooks
        assert torch.is_grad_enabled()
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model[2].inplace
    assert len(model[0]._backward_hooks) == 1


def test_gradients_can_be_taken_inside_inference_mode() -> None:
    model = cnn()
    with torch.inference_mode(), borrowed(model):
        inputs = torch.randn(1, 3, 8, 8, requires_grad=True)
        model(inputs).sum().backward()
        assert inputs.grad.abs().max() > 0


def vandalise(model: nn.Module) -> None:
    """What the libraries underneath do, and worse."""
    model.train()
    model[0].register_forward_hook(lambda *_: None)
    model[0].register_forward_pre_hook(lambda *_: None)
    model[4].register_full_backward_hook(lambda *_: None)
    model[0].forward = lambda x: x
    model[0].weight = nn.Parameter(torch.zeros(6, 3, 3, 3))
    model[4].weight.data = torch.zeros(1)
    model[4].weight.grad = torch.ones(1)
    model[4].bias = None
    model[1].running_mean = torch.ones(6)
    model[1].eps = 0.0
    model[9].weight.requires_grad_(True)
    model[2].inplace = True
    model.extra = nn.Linear(1, 1)
    del model[1].running_var
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)


@pytest.mark.parametrize("fails", [False, True])
def test_gives_everything_back_also_after_an_exception(fails: bool) -> None:
    model, inputs = cnn(), torch.randn(2, 3, 8, 8)
    model[9].weight.requires_grad_(False)
    model(inputs).sum().backward()
    objects = dict(model.named_parameters()) | dict(model.named_buffers()) | dict(model.named_modules())
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    bits = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected, states = model(inputs), (torch.get_rng_state(), random.getstate(), str(np.random.get_state()))  # noqa: NPY002
    try:
        with borrowed(model):
            vandalise(model)
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    after = dict(model.named_parameters()) | dict(model.named_buffers()) | dict(model.named_modules())
    assert list(after) == list(objects)
    assert all(after[name] is thing for name, thing in objects.items())
    assert all(parameter.grad is gradients[name] for name, parameter in model.named_parameters())
    assert all(tensor.equal(bits[name]) for name, tensor in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == [name != "9.weight" for name in gradients]
    assert "forward" not in vars(model[0])
    assert not model[0]._forward_hooks
    assert not model[4]._backward_hooks
    assert model(inputs).equal(expected)
    assert torch.get_rng_state().equal(states[0])
    assert (random.getstate(), str(np.random.get_state())) == states[1:]  # noqa: NPY002


def test_a_module_used_twice_and_a_shared_parameter_come_back() -> None:
    relu, first, second = nn.ReLU(inplace=True), nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    model = nn.Sequential(first, relu, second, relu)
    with borrowed(model):
        assert not model[3].inplace
    assert model[1] is model[3]
    assert model[3].inplace
    assert model[0].weight is model[2].weight
    assert model[0].weight.requires_grad


def test_loans_nest() -> None:
    model = cnn().train()
    with borrowed(model), borrowed(model):
        pass
    with borrowed(model):
        with borrowed(model):
            pass
        assert not model.training
    assert model.training


def test_inplace_flags_stay_on_request() -> None:
    model = cnn()
    with borrowed(model, inplace=True):
        assert model[2].inplace


@pytest.mark.parametrize(
    ("passed", "rows"),
    [
        (lambda x: [x], 3),
        (lambda x: [x * 2, torch.cat([x, x * 0]), x * 3], 3),
        (lambda x: [x * 2, x[:2]], None),
        (lambda x: [], None),
    ],
)
def test_watches_for_the_outputs_of_the_inputs(passed: object, rows: int | None) -> None:
    model, inputs = nn.Linear(4, 2), torch.randn(3, 4)
    with watched(model, inputs) as seen:
        for batch in passed(inputs):
            model(batch)
    model(inputs)
    assert [len(output) for output in seen] == ([] if rows is None else [rows])
    assert all(output.equal(model(inputs)) for output in seen)
    assert not model._forward_hooks


def test_watching_ignores_what_is_not_a_tensor() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with watched(Pair(), torch.ones(1, 2)) as seen:
        Pair()(torch.ones(1, 2))
    assert seen == []
