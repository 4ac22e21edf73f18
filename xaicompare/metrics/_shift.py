"""A model that gives for inputs moved by a constant what another gives for the inputs themselves."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from xaicompare.borrow import sharing_copy
from xaicompare.boundary import outputs
from xaicompare.core import Method
from xaicompare.errors import UnsupportedModelError

_LEFT = 1e-3  # of the largest output, or of what the shift does to the model's own where that is less
_ROUNDING = 1e-5  # of the largest output


def twin(model: nn.Module, inputs: Tensor, shift: float, method: Method) -> nn.Module:
    """A model whose outputs for inputs + shift are the model's for the inputs; it shares the model's parameters.

    Raises:
        UnsupportedModelError: there is none that the method could tell from the model by the shift alone.
    """
    expected, bare = (outputs(model, each, method.batch_size) for each in (inputs, inputs + shift))
    # Of a model that hardly notices, one that takes nothing back would pass for a twin.
    largest, moved = expected.abs().max(), (bare - expected).abs().max()
    bound = _LEFT * torch.minimum(largest, moved) + _ROUNDING * largest

    def agrees(made: nn.Module) -> bool:
        return bool((outputs(made, inputs + shift, method.batch_size) - expected).abs().max() <= bound)

    corrected = _corrected(model, inputs, shift)
    if corrected is not None and agrees(corrected):
        return corrected
    if method.traits.kind == "propagation":
        raise UnsupportedModelError(
            f"the first layers of {type(model).__name__} do not read the inputs as they are, so no bias takes back a "
            f"shift of {shift:g}, and the rules of {method.name} would see one that is subtracted before them; "
            "expected layers that read the inputs, or a method without rules."
        )
    subtracting = _subtracting(model, shift)
    if agrees(subtracting):
        return subtracting
    raise UnsupportedModelError(
        f"outputs for inputs that are moved by {shift:g} and back differ from what they were, by more than rounding; "
        "expected a shift of the inputs' own size, and a model that calls its own forward."
    )


def moved_method(method: Method, shift: float) -> Method:
    """The method with the bounds of pixels that it knows moved; its baselines stay where they are."""
    bounds = {name: getattr(method, name, None) for name in ("low", "high")}
    moved: dict[str, Any] = {name: bound + shift for name, bound in bounds.items() if bound is not None}
    return dataclasses.replace(method, **moved) if moved else method  # type: ignore[type-var]


def _corrected(model: nn.Module, inputs: Tensor, shift: float) -> nn.Module | None:
    """A copy in which every layer that reads the inputs has a bias that takes the shift back; None without any."""
    copied = sharing_copy(model)
    readers = _readers(copied, inputs)
    for name, layer in readers.items():
        parent, _, child = name.rpartition(".")
        made = _absorbing(layer, shift)
        if not name:
            return made
        setattr(copied.get_submodule(parent), child, made)
    return copied if readers else None


def _readers(model: nn.Module, inputs: Tensor) -> dict[str, nn.Module]:
    """The linear layers and convolutions that are given the inputs themselves, flattened or not."""
    sample, found = inputs[:1], set[nn.Module]()

    def note(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if given and isinstance(given[0], Tensor) and torch.equal(given[0].flatten(), sample.flatten()):
            found.add(module)

    kinds = (nn.Linear, nn.Conv2d)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, kinds)}
    handles = [layer.register_forward_pre_hook(note) for layer in layers.values()]
    try:
        outputs(model, sample, 1)
    finally:
        for handle in handles:
            handle.remove()
    return {name: layer for name, layer in layers.items() if layer in found}


def _absorbing(layer: Any, shift: float) -> nn.Module:
    """The layer, made to give for moved inputs what it gave before.

    What it pads with zeros is padded with the shift: an image's border moves with it.
    """
    moved = shift * layer.weight.detach().flatten(1).sum(1)
    bias = -moved if layer.bias is None else layer.bias.detach() - moved
    layer.bias = nn.Parameter(bias, requires_grad=False)
    if not isinstance(layer, nn.Conv2d) or layer.padding_mode != "zeros":
        return layer
    around = list(layer._reversed_padding_repeated_twice)
    if not any(around):
        return layer
    layer.padding, layer._reversed_padding_repeated_twice = (0, 0), [0, 0, 0, 0]
    # In the layer's own place, under whose name methods still find these outputs.
    return nn.Sequential(nn.ConstantPad2d(tuple(around), shift), layer)  # type: ignore[arg-type]


def _subtracting(model: nn.Module, shift: float) -> nn.Module:
    """A copy that subtracts the shift first; its modules keep their names, by which methods find them."""
    copied = sharing_copy(model)
    kind: Any = type(copied)

    def forward(self: nn.Module, inputs: Tensor) -> Tensor:
        made: Tensor = kind.forward(self, inputs - shift)
        return made

    copied.__class__ = type(kind.__name__, (kind,), {"forward": forward})
    return copied
