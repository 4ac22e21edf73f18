"""What all class activation maps are made of: the maps of a layer, their slopes, and the way back to pixels."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xaicompare.attended import Attention
from xaicompare.boundary import checked_outputs, picked, shaped_outputs
from xaicompare.errors import InputError, SettingError, UnsupportedModelError
from xaicompare.methods._common import layer_named


class LayerMaps(NamedTuple):
    """What a layer gave in one pass."""

    maps: Tensor  # (n, k, h', w')
    slopes: Tensor  # (n, k, h', w'), of the explained score
    score: Tensor  # (n,)


def layer_maps(model: nn.Module, inputs: Tensor, target: Tensor, layer: str | None) -> LayerMaps:
    """The maps of a layer, the last one that has any if it is None, and the slopes of the explained score there.

    Raises:
        InputError: inputs that are no images.
        UnknownNameError: no such layer.
        UnsupportedModelError: a layer without a map, or one that runs more than once.
    """
    images = as_images(inputs)
    chosen = map_layer(model, images, layer)
    with kept_outputs(chosen) as kept:
        score = picked(checked_outputs(model(images), len(images)), target)
    only_one(model, chosen, kept)
    (slopes,) = torch.autograd.grad(score.sum(), kept)
    return LayerMaps(as_maps(kept[0].detach(), images), as_maps(slopes, images), score.detach())


@contextmanager
def kept_outputs(layer: nn.Module) -> Iterator[list[Tensor]]:
    """What the layer returns meanwhile, pass after pass."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _given: object, output: object) -> object:
        if not isinstance(output, Tensor):
            return None
        kept.append(output)
        return output.clone()  # what comes next may overwrite it

    handle = layer.register_forward_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()


def only_one(model: nn.Module, layer: nn.Module, kept: list[Tensor]) -> None:
    """Refuses a layer that did not give exactly one tensor in a pass."""
    if len(kept) != 1:
        name = next(path for path, module in model.named_modules() if module is layer)
        raise UnsupportedModelError(f"layer {name!r} gave {len(kept)} tensors in a pass; expected one. Name another.")


def map_layer(model: nn.Module, inputs: Tensor, layer: str | None) -> nn.Module:
    """The layer of that name; of None, the last one that has a map."""
    return _last_map(model, inputs) if layer is None else layer_named(model, layer)


_MOST_EXTRA = 8
"""Tokens before those of the grid: one of the class, and up to seven registers."""


def as_maps(values: Tensor, inputs: Tensor) -> Tensor:
    """Values of a layer as maps (n, k, h', w'): of a convolution, of tokens (n, h', w', k), or of tokens (n, t, k).

    Tokens are told by the shape of the inputs (n, c, h, w), which the grid of tokens shares; a class token and
    registers, which come first, are left out.

    Raises:
        UnsupportedModelError: values that are no map of the inputs.
    """
    high, wide = inputs.shape[2:]
    if values.ndim == 4:
        _, a, b, c = values.shape
        tokens = b * wide != c * high and a * wide == b * high
        return values.movedim(3, 1) if tokens else values
    if values.ndim == 3:
        for extra in range(_MOST_EXTRA + 1):
            count = values.shape[1] - extra
            rows = round((count * high / wide) ** 0.5)
            if rows and count % rows == 0 and rows * wide == count // rows * high:
                return values[:, extra:].transpose(1, 2).unflatten(2, (rows, count // rows))
    raise UnsupportedModelError(
        f"a layer gives shape {tuple(values.shape)} for inputs {tuple(inputs.shape)}; expected maps (n, k, h, w) or "
        "the tokens of a grid. Name a convolution, or a LayerNorm."
    )


class _Ran(NamedTuple):
    """A module that ran, and the map that it gave."""

    module: nn.Module
    output: Tensor

    def size(self, inputs: Tensor) -> torch.Size:
        """Height and width of the map."""
        return as_maps(self.output, inputs).shape[2:]


def _last_map(model: nn.Module, inputs: Tensor) -> nn.Module:
    """The layer whose map comes last, larger than 1 x 1; found by one pass of one sample.

    That is the last convolution or LayerNorm, and whatever comes after it with a map of that size: its normalisation
    and activation, the sum with what went around it, the other branches beside it. With attention, what comes last may
    have slopes at the class token alone. So it is the LayerNorm before the last `nn.MultiheadAttention`; where
    attention is of another kind, the last layer of tokens with slopes on the grid.
    """
    ran, logits = _run(model, inputs)
    attention = [place for place, one in enumerate(ran) if isinstance(one.module, nn.MultiheadAttention)]
    named = ran[: attention[-1]] if attention else ran
    found = [one for one in named if isinstance(one.module, (nn.Conv2d, nn.LayerNorm))]
    if found and found[-1].output.ndim == 3 and not attention:
        found = _with_slopes(found, shaped_outputs(logits, 1), inputs)
    if not found:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no convolution with a map larger than 1 x 1; expected a convolutional "
            "network. Name a layer that has a map, or use a method that needs none."
        )
    last = found[-1]
    if last.output.ndim == 3:
        return last.module
    place = next(place for place, one in enumerate(ran) if one is last)  # tensors are not compared
    times = Counter(one.module for one in ran)
    alike = [one for one in ran[place:] if times[one.module] == 1 and one.output.ndim == last.output.ndim]
    after = [one for one in alike if one.size(inputs) == last.size(inputs)]
    return after[-1].module if after else last.module


def _run(model: nn.Module, inputs: Tensor) -> tuple[list[_Ran], object]:
    """The modules that gave a map of one sample, in the order in which they ended, and what the model returned."""
    ran: list[_Ran] = []

    def note(module: nn.Module, _: tuple[Tensor, ...], output: object) -> object:
        if isinstance(module, nn.MultiheadAttention):
            ran.append(_Ran(module, inputs))
        elif isinstance(output, Tensor) and _is_map(output, inputs):
            ran.append(_Ran(module, output))
            return output.clone()
        return None

    scoring = {part for module in model.modules() if isinstance(module, Attention) for part in module.modules()}
    looked = [module for module in model.modules() if module is not model and module not in scoring]
    handles = [module.register_forward_hook(note) for module in looked]
    try:
        with torch.set_grad_enabled(_has_tokens(model)):
            return ran, model(inputs[:1].detach().requires_grad_(_has_tokens(model)))
    finally:
        for handle in handles:
            handle.remove()


def _has_tokens(model: nn.Module) -> bool:
    """Whether attention of another kind than torch's may be inside: only then slopes are looked at."""
    return any(isinstance(module, nn.LayerNorm) for module in model.modules()) and not any(
        isinstance(module, nn.MultiheadAttention) for module in model.modules()
    )


def _with_slopes(maps: list[_Ran], logits: Tensor, inputs: Tensor) -> list[_Ran]:
    """Those of the layers whose maps the outputs depend on."""
    reached = [one for one in maps if one.output.requires_grad]
    slopes = torch.autograd.grad(logits.square().sum(), [one.output for one in reached], allow_unused=True)
    return [
        one
        for one, slope in zip(reached, slopes, strict=True)
        if slope is not None and bool(as_maps(slope, inputs).any())
    ]


def _is_map(values: Tensor, inputs: Tensor) -> bool:
    try:
        return as_maps(values, inputs).shape[2:].numel() > 1
    except UnsupportedModelError:
        return False


def as_images(inputs: Tensor) -> Tensor:
    """The inputs, if they are images."""
    if inputs.ndim != 4:
        raise InputError(f"inputs have shape {tuple(inputs.shape)}; expected images (n, c, h, w).")
    return inputs


def enlarged(maps: Tensor, inputs: Tensor) -> Tensor:
    """Maps (n, k, h', w') bilinearly in the size of the inputs."""
    return F.interpolate(maps, size=inputs.shape[-2:], mode="bilinear", align_corners=False)


Layers = str | tuple[str, ...] | None
"""A layer's name, several whose maps are fused, or the last layer that has a map."""


def over_layers(layer: Layers, of: Callable[[str | None], Tensor]) -> Tensor:
    """The map (n, 1, h, w) of one layer; of several, the mean of theirs, each divided by its greatest size."""
    if layer is None or isinstance(layer, str):
        return of(layer)
    if not layer:
        raise SettingError("layer=() names none; expected a layer's name, or several.")
    made = [of(name) for name in layer]
    tiny = torch.finfo(made[0].dtype).tiny
    return torch.stack([values / values.abs().amax((1, 2, 3), keepdim=True).clamp(min=tiny) for values in made]).mean(0)


def by_slopes(
    model: nn.Module, inputs: Tensor, target: Tensor, layer: Layers, combine: Callable[[LayerMaps], Tensor]
) -> Tensor:
    """Maps (n, k, h', w') of each layer combined into one, (n, 1, h', w'), which is enlarged to (n, 1, h, w)."""
    return over_layers(layer, lambda name: enlarged(combine(layer_maps(model, inputs, target, name)), inputs))
