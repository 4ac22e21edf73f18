"""Every registered method keeps the promises of `Method.attribute`, on four kinds of network."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from nets import MAKERS, attended, cnn, mlp, net_and_inputs, vit
from torch import Tensor, nn

import xaicompare as xc
import xaicompare.methods  # registers them
from xaicompare.core import Attribution, Method
from xaicompare.registry import METHODS

CHEAP = {
    "smoothgrad": {"n_samples": 4},
    "integrated_gradients": {"n_steps": 32},
    "deepshap": {"n_baselines": 3},
    "gradient_shap": {"n_baselines": 3, "n_samples": 4},
    "lime": {"n_samples": 24, "n_segments": 4},
    "kernelshap": {"n_samples": 14, "n_segments": 4},
    "occlusion": {"window": 8},
}
FEW_CHANNELS = {"vgg11_bn": "features.2", "resnet18": "layer1"}
FORWARD_ONLY = (
    *("cam", "gradcam", "gradcam_plus_plus", "layercam", "hirescam", "xgradcam", "eigencam", "lrp"),
    *("attention", "extended_lrp", "attention_refined_lrp", "attention_rollout"),
)
REFUSED = {
    ("mlp", "cam"): xc.InputError,
    ("mlp", "gradcam"): xc.InputError,
    ("mlp", "guided_gradcam"): xc.InputError,
    ("mlp", "edges"): xc.InputError,
    ("vgg11_bn", "cam"): xc.UnsupportedModelError,  # its average pooling keeps 7 x 7
}
NEEDS = {name: METHODS[name].traits.needs for name in METHODS.names() if name != "cam"} | {"cam": None}
MAPS = ("gradcam_plus_plus", "layercam", "hirescam", "xgradcam", "eigencam", "scorecam", "ablationcam", "fullgrad")
REFUSED |= {("mlp", method): xc.InputError for method in MAPS}
REFUSED |= {  # what they need is not there
    (net, method): xc.UnsupportedModelError
    for net in MAKERS
    for method, needs in NEEDS.items()
    if needs is not None and net != {"attention": "attended", "transformer": "vit"}[needs]
}
REFUSED |= {("attended", "cam"): xc.UnsupportedModelError}
PAIRS = [(net, method) for net in MAKERS for method in METHODS.names() if net != "vit" or NEEDS[method] is not None]
EXPLAINED = [pair for pair in PAIRS if pair not in REFUSED]
SMALL = [pair for pair in EXPLAINED if pair[0] in ("mlp", "cnn") or NEEDS[pair[1]] is not None]
SEQUENCES: dict[str, Callable[[], nn.Sequential]] = {"mlp": mlp, "cnn": cnn, "attended": attended}

over = pytest.mark.parametrize


def built(method: str, net: str, **settings: Any) -> Method:
    cheap = CHEAP.get(method, {}) if (net, method) != ("mlp", "occlusion") else {}
    if method in ("scorecam", "ablationcam") and net in FEW_CHANNELS:  # a pass per channel
        cheap = {"layer": FEW_CHANNELS[net]}
    return METHODS.build(method, **cheap, **settings)


@cache
def explained(net: str, method: str) -> Attribution:
    return built(method, net).attribute(*net_and_inputs(net))


ROUNDED = {"ablationcam": 1e-3}
"""Methods that weight by differences of nearly equal outputs, whose last digits are rounding."""


def close(values: Tensor, expected: Tensor, share: float = 3e-5) -> bool:
    """Equal to a share of the scale of the expected values: some processors round a convolution by its batch size."""
    return bool(((values - expected).abs() <= share * expected.abs().max()).all())


def facts(model: nn.Module) -> dict[tuple[str, ...], Any]:
    """Every object that hangs on a model, however it is reached."""
    found: dict[tuple[str, ...], Any] = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            inside = value.items() if isinstance(value, dict) else [("", value)]
            found |= {(name, key, str(part)): held for part, held in inside}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        found |= {(name, "grad"): tensor.grad, (name, "requires_grad"): tensor.requires_grad}
        found[name, "address"] = str(tensor.data_ptr())
    return found


def contents(model: nn.Module) -> list[Tensor]:
    tensors = [*model.parameters(), *model.buffers()]
    return [each.detach().clone() for tensor in tensors for each in (tensor, tensor.grad) if each is not None]


def random_states() -> list[Any]:
    return [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()]  # noqa: NPY002


class Untouched:
    """A context at whose end a model and the global random states must be what they were."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.before = facts(self.model), contents(self.model), random_states(), torch.is_grad_enabled()

    def __exit__(self, *_: object) -> None:
        before, after = self.before[0], facts(self.model)
        same = {
            key for key in before.keys() & after.keys() if before[key] is after[key] or _equal_text(before, after, key)
        }
        assert before.keys() ^ after.keys() | before.keys() - same == set()
        assert all(map(torch.equal, self.before[1], contents(self.model)))
        assert self.before[2:] == (random_states(), torch.is_grad_enabled())


def _equal_text(before: dict, after: dict, key: tuple[str, ...]) -> bool:
    return isinstance(before[key], str) and before[key] == after[key]


@over(("net", "method"), REFUSED)
def test_refuses_what_it_has_no_answer_for(net: str, method: str) -> None:
    model, inputs = net_and_inputs(net)
    with Untouched(model), pytest.raises(REFUSED[net, method], match=f"^{method}"):
        built(method, net).attribute(model, inputs, target=0)


@over(("net", "method"), EXPLAINED)
def test_values_target_and_score(net: str, method: str) -> None:
    model, inputs = net_and_inputs(net)
    made, logits = explained(net, method), model(inputs)
    n, channels, *spatial = inputs.shape
    assert tuple(made.values.shape) in {(n, channels, *spatial), (n, 1, *spatial)}
    assert made.map.shape == (n, *(spatial or [channels]))
    assert torch.isfinite(made.values).all()
    assert made.values.abs().amax(tuple(range(1, inputs.ndim))).min() > 0
    assert made.values.dtype == inputs.dtype
    assert not made.values.requires_grad
    assert made.target.equal(logits.argmax(1))
    assert torch.allclose(made.score, logits.amax(1), rtol=1e-5, atol=1e-6)
    assert made.inputs.equal(inputs)
    assert made.method == built(method, net)
    assert made.seconds > 0


@over("method", METHODS.names())
def test_float64_stays_float64(method: str) -> None:
    net: nn.Module = {None: cnn, "attention": attended, "transformer": vit}[NEEDS[method]]()
    made = built(method, "cnn").attribute(net.double(), net_and_inputs("cnn")[1].double())
    assert made.values.dtype == made.score.dtype == torch.float64


@over(("net", "method"), EXPLAINED)
def test_alone_as_in_a_batch(net: str, method: str) -> None:
    model, inputs = net_and_inputs(net)
    together = explained(net, method)
    for i in range(len(inputs)):
        alone = built(method, net).attribute(model, inputs[i : i + 1], target=int(together.target[i]))
        assert close(alone.values[0], together.values[i], ROUNDED.get(method, 3e-5))
        assert close(alone.score[0], together.score[i])


@over(("net", "method"), EXPLAINED)
def test_batch_size_changes_nothing(net: str, method: str) -> None:
    small = built(method, net, batch_size=2).attribute(*net_and_inputs(net))
    assert close(small.values, explained(net, method).values, ROUNDED.get(method, 3e-5))


@over(("net", "method"), EXPLAINED)
def test_the_same_again_whatever_the_global_random_state(net: str, method: str) -> None:
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    again = built(method, net).attribute(*net_and_inputs(net))
    assert again.values.equal(explained(net, method).values)


@over(("net", "method"), EXPLAINED)
def test_the_model_in_use_comes_back_untouched(net: str, method: str, in_use: Callable[[str], nn.Module]) -> None:
    model, inputs = in_use(net), net_and_inputs(net)[1]
    with Untouched(model):
        made = built(method, net).attribute(model, inputs)
    assert close(made.values, explained(net, method).values)


@pytest.fixture
def in_use() -> Iterator[Callable[[str], nn.Module]]:
    """Makes a model as it is in the middle of a training: gradients, hooks, modes and frozen layers of its own."""
    lent = []

    def lend(net: str) -> nn.Module:
        model, inputs = net_and_inputs(net)
        lent.append((model, {module: module.training for module in model.modules()}))
        first = next(model.parameters())
        model(inputs).sum().backward()
        first.requires_grad_(False)
        model.train()
        next(model.children()).eval()
        for module in list(model.modules())[1:]:
            hooks = module.register_forward_hook(_nothing), module.register_full_backward_hook(_nothing)
            lent.extend((hook, None) for hook in hooks)
        return model

    yield lend
    for thing, modes in lent:
        if isinstance(thing, nn.Module):
            thing.requires_grad_(True).zero_grad()
            for module, training in modes.items():
                module.training = training
        else:
            thing.remove()


def _nothing(*_: object) -> None: ...


SURROUNDINGS: dict[str, Callable[[nn.Module], AbstractContextManager[Any]]] = {
    "no_grad": lambda model: torch.no_grad(),
    "inference_mode": lambda model: torch.inference_mode(),
    "frozen": lambda model: nullcontext(model.requires_grad_(False)),
    "train": lambda model: nullcontext(model.train()),
}


@over("surroundings", SURROUNDINGS)
@over(("net", "method"), SMALL)
def test_same_values_in_all_surroundings(net: str, method: str, surroundings: str) -> None:
    model, inputs = net_and_inputs(net)
    try:
        with SURROUNDINGS[surroundings](model), Untouched(model):
            made = built(method, net).attribute(model, inputs.clone(), target=explained(net, method).target.clone())
            assert close(made.values, explained(net, method).values)
    finally:
        model.requires_grad_(True).eval()


class Fuse(nn.Module):
    """Blows at its n-th forward call, or where n is 0 in the backward pass."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, x: Tensor) -> Tensor:
        self.calls -= 1
        if self.calls == 0:
            self._blow(x)
        if self.calls < 0 and x.requires_grad:
            x.register_hook(self._blow)
        return x

    def _blow(self, _: Tensor) -> None:
        raise RuntimeError("the fuse blew")


@over("calls", [0, 1, 2])
@over(("net", "method"), [pair for pair in SMALL if pair[0] in SEQUENCES])
def test_an_exception_inside_leaves_no_trace(net: str, method: str, calls: int) -> None:
    model, asked = SEQUENCES[net](), built(method, net)
    model.insert(2, Fuse(calls))
    blew = False
    with Untouched(model):
        try:
            asked.attribute(model, net_and_inputs(net)[1], target=0)
        except xc.XaiCompareError as error:
            blew = "the fuse blew" in str(error)
    goes_back = asked.traits.kind in ("gradient", "propagation") and method not in FORWARD_ONLY
    assert blew == {0: goes_back, 1: True, 2: blew}[calls]


def test_the_users_hooks_rest_meanwhile_and_work_afterwards() -> None:
    model, inputs = mlp(), torch.randn(2, 12)
    fired = []
    model[2].register_full_backward_hook(lambda *_: fired.append("backward"))
    model[2].register_forward_hook(lambda *_: fired.append("forward"))
    xc.attribute(model, inputs, method="saliency")
    assert "backward" not in fired
    fired.clear()
    model(inputs).sum().backward()
    assert fired == ["forward", "backward"]


def test_the_optimizer_still_moves_the_weights_after_lrp() -> None:
    model, inputs = cnn(), torch.randn(2, 3, 16, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    xc.attribute(model, inputs, method="lrp")
    before = contents(model)
    model(inputs).square().sum().backward()
    optimizer.step()
    assert not torch.equal(before[0], contents(model)[0])
