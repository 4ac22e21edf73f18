"""What a trained network says of images that it may still learn from: its outputs, and what they depend on."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from xaicompare.borrow import borrowed
from xaicompare.core import Attribution, Method
from xaicompare.errors import DivergedError, SettingError
from xaicompare.registry import METHODS
from xaicompare.zoo.images import Images

_AT_ONCE = 256


def built_method(given: str | dict[str, Any], baselines: Tensor | None = None) -> Method:
    """The method of a name, or of a table with a name and settings.

    Args:
        baselines: images (m, c, h, w) for a method that compares with some, unless its settings name them.

    Raises:
        UnknownNameError, SettingError: no such method, or no such setting of it.
    """
    settings = {"name": given} if isinstance(given, str) else dict(given)
    if "name" not in settings:
        raise SettingError(f"method={given}; expected a name, or a table with a name and settings.")
    method = METHODS.build(settings.pop("name"), **settings)
    if baselines is not None and getattr(method, "baselines", baselines) is None:
        return replace(method, baselines=baselines)  # type: ignore[type-var] # every leaf is a frozen dataclass
    return method


def logits_of(model: nn.Module, images: Images) -> Tensor:
    """The outputs for all images, (n, classes), on the CPU.

    Raises:
        DivergedError: they are not finite: a training that broke off at its very end.
    """
    images = images.to(next(model.parameters()).device)
    with borrowed(model, inplace=True), torch.no_grad():
        batches = [model(images.batch(where)[0]).float().cpu() for where in _batches(len(images))]
    logits = torch.cat(batches)
    if not bool(torch.isfinite(logits).all()):
        raise DivergedError("the outputs of the trained network are not finite; expected finite ones. Lower lr.")
    return logits


def attributions(method: Method, model: nn.Module, images: Images, target: Tensor) -> Iterator[Attribution]:
    """The attributions of all images for target (n,), some images at a time, in their order.

    Also incomplete ones: nobody reads them, and some lost digits of one image are no reason to break a training off.
    """
    images = images.to(next(model.parameters()).device)
    for where in _batches(len(images)):
        inputs, _ = images.batch(where)
        yield method.attribute(model, inputs, target[where].to(inputs.device), strict=False)


def _batches(n: int) -> tuple[Tensor, ...]:
    return torch.arange(n).split(_AT_ONCE)
