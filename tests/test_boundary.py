from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from nets import mlp
from torch import Tensor, nn

import xaicompare as xc

METHODS = ["saliency", "integrated_gradients", "deeplift", "kernelshap", "lrp", "random"]
NAN, INF = float("nan"), float("inf")


class Returns(nn.Module):
    """A model that makes what it is told of the logits of an MLP."""

    def __init__(self, made: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body, self.made = mlp(), made

    def forward(self, x: Tensor) -> Any:
        return self.made(self.body(x))


def spoilt(value: float) -> Tensor:
    inputs = torch.zeros(3, 12)
    inputs[1, 4] = value
    return inputs


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (spoilt(NAN), r"inputs hold NaN or inf, first in sample 1; expected finite values"),
        (spoilt(-INF), r"inputs hold NaN or inf, first in sample 1"),
        (torch.zeros(3, 12).long(), r"inputs are torch.int64; expected floating point. Use inputs.float\(\)"),
        (torch.zeros(3, 12, dtype=torch.uint8), r"inputs are torch.uint8"),
        (torch.zeros(3, 12, dtype=torch.complex64), r"inputs are torch.complex64"),
        (torch.zeros(0, 12), r"inputs have shape \(0, 12\), an empty batch; expected at least one sample"),
        (torch.zeros(3, 0), r"inputs have shape \(3, 0\), an empty batch"),
        (torch.zeros(12), r"inputs have shape \(12,\); expected \(n, c, h, w\) or \(n, features\).*inputs\[None\]"),
        (torch.zeros(3, 8, 8), r"inputs have shape \(3, 8, 8\); .*inputs\[None\]"),
        (torch.zeros(1, 3, 4, 8, 8), r"inputs have shape \(1, 3, 4, 8, 8\); expected"),
        (
            torch.zeros(3, 12, device="meta"),
            r"model is on cpu, inputs on meta; expected one device. Use inputs.to\('cpu'\)",
        ),
        ([[0.0] * 12], r"inputs are a list; expected a torch.Tensor. Use torch.as_tensor\(inputs\)"),
    ],
)
@pytest.mark.parametrize("call", [xc.attribute, lambda model, inputs: xc.compare(model, inputs, ["lrp"])])
def test_inputs_must_be_a_finite_floating_batch(call: Callable[..., Any], inputs: Any, words: str) -> None:
    with pytest.raises(xc.InputError, match=words):
        call(mlp(), inputs)


def test_model_and_inputs_must_share_a_device() -> None:
    with pytest.raises(xc.InputError, match=r"model is on meta, inputs on cpu; .* Use inputs.to\('meta'\)"):
        xc.attribute(mlp().to("meta"), torch.zeros(1, 12))


def test_the_model_must_be_made_outside_inference_mode() -> None:
    with torch.inference_mode():
        model = mlp()
    with pytest.raises(xc.InputError, match=r"model was made under torch.inference_mode\(\).* Make it outside"):
        xc.attribute(model, torch.zeros(1, 12))


@pytest.mark.parametrize("model", [lambda x: x, "resnet18", None])
def test_the_model_must_be_a_module(model: Any) -> None:
    words = rf"model is a {type(model).__name__}; expected a torch.nn.Module"
    with pytest.raises(xc.InputError, match=words):
        xc.Saliency().attribute(model, torch.zeros(1, 12))
    if not isinstance(model, str):  # which the verb takes for a SPEC: tests/test_comparison.py
        with pytest.raises(xc.InputError, match=words):
            xc.attribute(model, torch.zeros(1, 12))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (5, "target holds 5; expected classes from 0 to 4"),
        (torch.tensor([0, 99, 1]), "target holds 99; expected classes from 0 to 4"),
        (-1, "target holds -1; expected classes from 0 up"),
        ([0, 1], r"target has shape \(2,\); expected \(3,\), one class per sample, or one int"),
        (torch.zeros(3, 1).long(), r"target has shape \(3, 1\)"),
        (1.0, "target is torch.float32; expected int64 class numbers"),
        (torch.tensor([0.0, 1.0, 2.0]), "target is torch.float32"),
        (torch.tensor([True, False, True]), "target is torch.bool"),
        ("cat", "target is 'cat'; expected None, a class number, or 3 of them"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_targets_must_be_classes(method: str, target: Any, words: str) -> None:
    with pytest.raises(xc.InputError, match=words):
        xc.attribute(mlp(), torch.ones(3, 12), target, method)


@pytest.mark.parametrize("target", [2, [2, 2, 2], torch.tensor(2), torch.tensor([2, 2, 2], dtype=torch.uint8)])
def test_targets_become_int64_of_each_sample(target: Any) -> None:
    made = xc.attribute(mlp(), torch.ones(3, 12), target)
    assert made.target.dtype == torch.int64
    assert made.target.tolist() == [2, 2, 2]


def test_the_target_is_a_copy() -> None:
    target = torch.tensor([0, 1, 2])
    made = xc.attribute(mlp(), torch.ones(3, 12), target)
    target.zero_()
    assert made.target.tolist() == [0, 1, 2]


@pytest.mark.parametrize("target", [None, 0])
@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda logits: (1, logits), r"the model returns a tuple; expected a tensor \(n, classes\), .* Wrap it"),
        (lambda logits: {"out": logits}, "the model returns a dict"),
        (lambda logits: logits[..., None], r"the model returns shape \([13], 5, 1\) for [13] samples"),
        (lambda logits: logits[:1], r"the model returns shape \(1, 5\) for 3 samples"),
        (lambda logits: logits * NAN, "the model returns NaN or inf; expected finite outputs"),
    ],
)
@pytest.mark.parametrize("method", ["saliency", "lrp", "occlusion", "random"])
def test_the_model_must_return_finite_classes(
    method: str, made: Callable[[Tensor], Any], words: str, target: int | None
) -> None:
    with pytest.raises(xc.UnsupportedModelError, match=words):
        xc.attribute(Returns(made), torch.ones(3, 12), target, method)


class Said(NamedTuple):
    hidden: Tensor
    logits: Tensor


@pytest.mark.parametrize(
    "made",
    [
        lambda logits: (logits, logits * 2),
        lambda logits: [logits],
        lambda logits: {"hidden": logits * 2, "logits": logits},
        lambda logits: Said(hidden=logits * 2, logits=logits),
    ],
    ids=["tuple", "list", "dict", "object"],
)
@pytest.mark.parametrize("method", ["saliency", "lrp", "deeplift", "guided_backprop", "occlusion", "kernelshap"])
def test_logits_are_found_among_what_a_model_returns(method: str, made: Callable[[Tensor], Any]) -> None:
    inputs = torch.rand(3, 12, generator=torch.Generator().manual_seed(0))
    plain = Returns(lambda logits: logits)
    other = Returns(made)
    other.body = plain.body
    found, wanted = (xc.attribute(model, inputs, method) for model in (other, plain))
    torch.testing.assert_close(found.values, wanted.values)
    torch.testing.assert_close(found.target, wanted.target)
    torch.testing.assert_close(xc.score(other, found, "deletion"), xc.score(plain, wanted, "deletion"))


@pytest.mark.parametrize("inputs", [torch.ones(3, 11), torch.ones(3, 12).double(), torch.ones(3, 12).half()])
@pytest.mark.parametrize("target", [None, 0])
def test_inputs_that_the_model_cannot_take_are_named(inputs: Tensor, target: int | None) -> None:
    shape = rf"\(3, {inputs.shape[1]}\)"
    with pytest.raises(xc.XaiCompareError, match=rf"inputs {shape}"):
        xc.attribute(mlp(), inputs, target)


def test_the_users_inputs_are_not_touched() -> None:
    inputs = torch.ones(2, 12, requires_grad=True)
    made = xc.attribute(mlp(), inputs, method="input_x_gradient")
    assert inputs.grad is None
    assert inputs.requires_grad
    assert not made.inputs.requires_grad
