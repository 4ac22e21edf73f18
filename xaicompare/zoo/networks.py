"""Networks that people hand in: out of their wrappings, in single precision, with one output."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xaicompare.boundary import logits_among
from xaicompare.errors import InputError, SettingError
from xaicompare.scripted import callable_network
from xaicompare.zoo.preprocessing import preprocess_of
from xaicompare.zoo.spec import Opened, open_model


def opened_model(model: nn.Module | str, weights: str | Path | None, key: str | None, name: str | None) -> Opened:
    """The network that a person hands in, an object or a SPEC, and what its library knows of it.

    Raises:
        InputError: neither.
        SettingError: weights for a network that has some.
        DataError, UnknownNameError: see `open_model`.
    """
    if isinstance(model, str):
        found = open_model(model, weights=weights, key=key)
        return replace(found, name=name or found.name)
    if not isinstance(model, nn.Module):
        if callable(getattr(model, "module", None)):  # a program of torch.export
            return opened_model(model.module(), weights, key, name)
        raise InputError(f"model is a {type(model).__name__}; expected an nn.Module, or a SPEC such as 'resnet18'.")
    if weights is not None:
        raise SettingError(f"weights={weights!r} beside a model that has some; expected them for a SPEC alone.")
    bare = callable_network(unwrapped(model))
    own = getattr(getattr(bare, "config", None), "id2label", None)
    names = tuple(str(own[place]) for place in range(len(own))) if isinstance(own, Mapping) and own else None
    return Opened(bare, name or type(bare).__name__, "weights as given", names, preprocess_of(bare))


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside what torch.compile, DataParallel and DistributedDataParallel put around it."""
    while True:
        inside = getattr(model, "_orig_mod", None)
        if inside is None and isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inside = model.module
        if not isinstance(inside, nn.Module):
            return model
        model = inside


class PickedOutput(nn.Module):
    """A network of which one of the things that it returns is explained."""

    def __init__(self, model: nn.Module, output: str | Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.output = output

    def forward(self, inputs: Tensor) -> Tensor:
        """The logits (n, classes)."""
        returned = self.model(inputs)
        if callable(self.output):
            return self.output(returned)
        try:
            found = returned[self.output] if isinstance(returned, Mapping) else getattr(returned, self.output)
        except (KeyError, AttributeError) as error:
            known = list(returned) if isinstance(returned, Mapping) else sorted(vars(returned))
            raise InputError(
                f"output={self.output!r}: the model returns {', '.join(map(str, known))}. Give one of them."
            ) from error
        made: Tensor = logits_among(found)  # type: ignore[assignment]
        return made


def plain_model(model: nn.Module, output: str | Callable[[Any], Tensor] | None) -> tuple[nn.Module, str]:
    """The network that is explained: in single precision, with one output; and what is to be told of that."""
    note = ""
    halves = {tensor.dtype for tensor in model.parameters() if tensor.dtype in (torch.float16, torch.bfloat16)}
    if halves:
        model = copy.deepcopy(model).float()
        kinds = " and ".join(sorted(str(each).removeprefix("torch.") for each in halves))
        note = f"The weights are {kinds}; maps and metrics are computed in float32."
    return (model if output is None else PickedOutput(model, output)), note
