"""What the files of this package share: Captum, called without its habits."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import captum.attr
import torch
from torch import Tensor, nn

from xaicompare.boundary import per_pass
from xaicompare.errors import unknown


def gradient(model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    """df/dx of the explained output of each sample; same shape as inputs."""
    inputs = inputs if inputs.requires_grad else inputs.requires_grad_()
    return captum.attr.Saliency(model).attribute(inputs, target=target, abs=False)


def draws_per_pass(batch_size: int, inputs: Tensor) -> int:
    """How many perturbed copies of all the inputs fit into one pass."""
    return max(1, per_pass(batch_size, inputs) // len(inputs))


@contextmanager
def quiet_captum() -> Iterator[None]:
    """Without Captum's warnings that it will hook modules: `borrowed` takes every hook off again."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Setting (forward, )?backward hooks")
        yield


def layer_named(model: nn.Module, name: str) -> nn.Module:
    """The module of that name.

    Raises:
        UnknownNameError: there is none; the convolutions are listed.
    """
    modules = dict(model.named_modules())
    if name not in modules or name == "":
        convolutions = [key for key, module in modules.items() if isinstance(module, nn.modules.conv._ConvNd)]
        raise unknown("layer", name, convolutions)
    return modules[name]


def repeated(tensor: Tensor, times: int) -> Tensor:
    """(n, ...) -> (times * n, ...): the whole batch, `times` over."""
    return tensor.repeat(times, *[1] * (tensor.ndim - 1))


def summed_draws(values: Tensor, times: int) -> Tensor:
    """(times * n, ...) -> (n, ...): the sum over the repeats that `repeated` made."""
    return values.unflatten(0, (times, -1)).sum(0)


def sample_range(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Least and greatest value of each sample, (n, 1, ...)."""
    dims = tuple(range(1, inputs.ndim))
    return torch.amin(inputs, dims, keepdim=True), torch.amax(inputs, dims, keepdim=True)
