"""What comes after a layer, run without what comes before it."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from xaicompare.boundary import checked_outputs


def after(model: nn.Module, layer: nn.Module, image: Tensor) -> Callable[[Tensor], Tensor]:
    """The function from what a layer gives, (k, ...), to the model's outputs (k, classes), for one image (c, h, w).

    Modules that ended before the layer began return what they returned for the image, so that they cost nothing. Code
    between modules runs as ever. Whether that gives the model's own outputs is tried; where not, whole passes are made.
    """
    kept, given, expected = _once(model, layer, image)

    def quick(values: Tensor) -> Tensor:
        with torch.no_grad(), _returning(kept | {layer: given}, {layer: values}, len(values)):
            return checked_outputs(model(image.expand(len(values), *image.shape)), len(values))

    def whole(values: Tensor) -> Tensor:
        handle = layer.register_forward_hook(lambda *_: values)
        try:
            with torch.no_grad():
                return checked_outputs(model(image.expand(len(values), *image.shape)), len(values))
        finally:
            handle.remove()

    try:
        same = torch.allclose(quick(given.expand(2, *given.shape[1:]).clone()), expected, rtol=1e-4, atol=1e-4)
    except RuntimeError:  # something is written in place
        same = False
    return quick if same else whole


def _once(model: nn.Module, layer: nn.Module, image: Tensor) -> tuple[dict[nn.Module, Any], Tensor, Tensor]:
    """What ended before the layer did and ran once, with what it returned; the layer's own; and the model's outputs."""
    ended: list[tuple[nn.Module, object]] = []

    def note(module: nn.Module, _given: object, output: object) -> None:
        ended.append((module, tree_map_only(Tensor, Tensor.clone, output)))

    handles = [module.register_forward_hook(note) for module in model.modules() if module is not model]
    try:
        with torch.no_grad():
            logits = checked_outputs(model(image[None]), 1)
    finally:
        for handle in handles:
            handle.remove()
    times = Counter(module for module, _ in ended)
    place = next(place for place, (module, _) in enumerate(ended) if module is layer)
    given = ended[place][1]
    assert isinstance(given, Tensor)
    return {module: made for module, made in ended[:place] if times[module] == 1 and _of_one(made)}, given, logits


def _of_one(output: object) -> bool:
    """Whether all tensors in it are a batch of one sample, so that they can be had n times over."""
    return all(part.ndim and len(part) == 1 for part in tree_leaves(output) if isinstance(part, Tensor))


@contextmanager
def _returning(kept: dict[nn.Module, Any], exactly: dict[nn.Module, Tensor], n: int) -> Iterator[None]:
    """Meanwhile these modules compute nothing: they return what is kept, n times over, or exactly what is given."""

    def constant(values: object) -> Callable[..., Any]:
        return lambda *_, **__: values

    def repeated(values: Tensor) -> Tensor:
        return values.expand(n, *values.shape[1:])

    made = {module: tree_map_only(Tensor, repeated, output) for module, output in kept.items()} | exactly
    before = {module: module.__dict__.get("forward") for module in made}
    try:
        for module, values in made.items():
            module.__dict__["forward"] = constant(values)
        yield
    finally:
        for module, forward in before.items():
            if forward is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = forward
