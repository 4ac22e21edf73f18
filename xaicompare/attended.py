"""Attention over positions: a module that trains with a convolutional network, and how one gets into a network."""

import contextlib
import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xaicompare.borrow import borrowed
from xaicompare.boundary import checked_inputs, fitting
from xaicompare.errors import InputError, SettingError, UnsupportedModelError, unknown

Scorer = Literal["linear", "mlp"]
"""How a position is scored: by one linear map of its channels, or by two with tanh between them."""

_SIDES = (64, 224)  # of the blank images that tell how many channels a layer has


class PositionSoftmax(nn.Module):
    """Softmax over all positions, times their number: weights of mean 1."""

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, scores: Tensor) -> Tensor:
        """(n, 1, h, w) -> (n, 1, h, w), above 0, with mean 1."""
        flat = scores.flatten(1)  # (n, h * w)
        return (torch.softmax(flat / self.temperature, 1) * flat.shape[1]).view_as(scores)

    def extra_repr(self) -> str:
        """Shown by `repr`."""
        return f"temperature={self.temperature:g}"


class Attention(nn.Module):
    """Scores positions, e_i = g(x_i), and weights them: x_i times a_i times their number, a = softmax(e / temperature).

    The last layer of the scorer starts at 0: the module returns what it is given until it is trained.

    Args:
        channels: of the maps that it is given.
        scorer: see `Scorer`.
        hidden: neurons between the maps of an "mlp"; None: half the channels.
        temperature: above 1 for flatter weights, below 1 for sharper ones.

    >>> Attention(4).weights(torch.randn(2, 4, 5, 5)).sum((1, 2, 3)).detach().round(decimals=4)
    tensor([1., 1.])

    Raises:
        SettingError: a setting out of range.

    Source: softmax over positions: Xu et al. 2015, arXiv:1502.03044, equations 4, 5 and 13.
    Differs: positions are weighted, not summed, and weights have mean 1, so that the map keeps its shape and its scale.
    """

    def __init__(
        self, channels: int, scorer: Scorer = "linear", hidden: int | None = None, temperature: float = 1.0
    ) -> None:
        super().__init__()
        _check(scorer, hidden, temperature)
        wide = max(1, channels // 2) if hidden is None else hidden
        last = nn.Conv2d(channels if scorer == "linear" else wide, 1, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        below = [] if scorer == "linear" else [nn.Conv2d(channels, wide, 1), nn.Tanh()]
        self.scorer = nn.Sequential(*below, last)
        self.gate = PositionSoftmax(temperature)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c, h, w)."""
        return x * self.gate(self.scorer(x))

    def weights(self, x: Tensor) -> Tensor:
        """a: (n, c, h, w) -> (n, 1, h, w), above 0; they sum to 1 over positions."""
        gate: Tensor = self.gate(self.scorer(x))
        return gate / gate[0].numel()


def _check(scorer: str, hidden: int | None, temperature: float) -> None:
    if scorer not in ("linear", "mlp"):
        raise unknown("scorer", scorer, ("linear", "mlp"))
    if not (temperature > 0 and math.isfinite(temperature)):
        raise SettingError(f"attention: temperature={temperature!r}; expected a finite number above 0.")
    if hidden is not None and hidden < 1:
        raise SettingError(f"attention: hidden={hidden!r}; expected at least 1.")


def attend(
    model: nn.Module,
    after: str,
    *,
    scorer: Scorer = "linear",
    hidden: int | None = None,
    temperature: float = 1.0,
    channels: int | None = None,
    seed: int = 0,
) -> nn.Module:
    """A copy of a network with an attention module after one of its layers; names of the other layers stay.

    Until it is trained, the copy computes what the model computes: the module starts with equal weights everywhere.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> list(dict(attend(net, after="1").named_children()))
    ['0', '1', 'attention_1', '2', '3', '4']

    Args:
        model: not changed.
        after: the name of a layer inside an `nn.Sequential`, such as "features.16", that gives maps (n, c, h, w).
        scorer: how a position is scored; see `Attention` for this, `hidden` and `temperature`.
        channels: of those maps; None: found by a pass of a blank image.
        seed: of the weights inside an "mlp".

    Raises:
        UnknownNameError: no such layer, or no such scorer.
        UnsupportedModelError: the layer stands in no `nn.Sequential`, or gives no maps.
        SettingError: a setting out of range.
    """

    def made(found: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return Attention(found, scorer, hidden, temperature)

    _check(scorer, hidden, temperature)
    return inserted(model, after, "attention", made, channels)


def inserted(
    model: nn.Module, after: str, name: str, made: Callable[[int], nn.Module], channels: int | None = None
) -> nn.Module:
    """A copy of the model with one more module, made for the channels it finds; called `name`_ and the layer's own.

    Raises:
        UnknownNameError, UnsupportedModelError: see `attend`.
    """
    modules = dict(model.named_modules())
    if after not in modules or after == "":
        raise unknown("layer", after, [each for each in modules if each])
    home, _, own = after.rpartition(".")
    if not isinstance(modules[home], nn.Sequential):
        raise UnsupportedModelError(
            f"after={after!r} stands in a {type(modules[home]).__name__}; expected a layer inside an nn.Sequential, "
            "where one more can stand behind it. Name another layer."
        )
    copied = copy.deepcopy(model)
    extra = made(_channels(copied, after) if channels is None else channels)
    like = next(copied.parameters(), None)
    extra = extra.to(like).train(model.training) if like is not None else extra
    _insert(copied.get_submodule(home), own, f"{name}_{own}", extra)
    return copied


def _insert(chain: nn.Module, after: str, name: str, extra: nn.Module) -> None:
    """Keeps the order of the others, and their names, by which weights and composites know them."""
    children: OrderedDict[str, Any] = OrderedDict()
    for key, child in chain.named_children():
        children[key] = child
        if key == after:
            children[name] = extra
    chain._modules.clear()
    chain._modules.update(children)


class _ReachedError(Exception):
    """Ends a pass where its answer is known."""


def _channels(model: nn.Module, layer: str) -> int:
    """How many channels the maps of a layer have."""
    first = [module for module in model.modules() if isinstance(module, nn.Conv2d)][:1]
    shapes: list[torch.Size] = []

    def note(_: nn.Module, __: object, output: Tensor) -> None:
        shapes.append(output.shape)
        raise _ReachedError

    for conv, side in product(first, _SIDES):
        with borrowed(model), torch.no_grad(), contextlib.suppress(_ReachedError, RuntimeError, ValueError):
            model.get_submodule(layer).register_forward_hook(note)  # `borrowed` takes it off again
            model(conv.weight.new_zeros(1, conv.in_channels, side, side))
        if shapes:
            break
    if not shapes or len(shapes[0]) != 4:
        given = f"gives shape {tuple(shapes[0])}" if shapes else "was not reached by a blank image"
        raise UnsupportedModelError(
            f"after={layer!r} {given}; expected maps (n, c, h, w). Name a convolution, activation or pooling, or give "
            "channels."
        )
    return shapes[0][1]


def attention_modules(model: nn.Module) -> dict[str, Attention]:
    """The attention modules of a network by name.

    Raises:
        UnsupportedModelError: it has none; the message says how to add one.
    """
    found = {name: module for name, module in model.named_modules() if isinstance(module, Attention)}
    if not found:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no attention module; expected a network with one. Add it with "
            "xaicompare.attend(model, after=LAYER) and train it, or take the model 'attended_cnn'."
        )
    return found


def attention_map(model: nn.Module, inputs: Tensor, layer: str | None = None) -> Tensor:
    """The weights that an attention module gives to positions, (n, 1, h, w): above 0, with sum 1 for each sample.

    They are read during one pass in evaluation mode; nothing is kept on the model.

    Args:
        inputs: (n, c, h, w).
        layer: the name of the attention module; None: the last one.

    Raises:
        UnsupportedModelError: the network has no attention module.
        UnknownNameError: no such attention module.
        InputError: inputs that don't fit the model, or never reach the module.
    """
    checked = checked_inputs(model, inputs)
    with borrowed(model), torch.no_grad(), fitting(model, checked), watched_attention(model, layer) as seen:
        model(checked)
    return sole(seen)


@contextlib.contextmanager
def watched_attention(model: nn.Module, layer: str | None = None) -> Iterator[list[Tensor]]:
    """Collects the weights (n, 1, h, w) of an attention module from the passes inside the context.

    Raises:
        UnsupportedModelError, UnknownNameError: see `attention_map`.
    """
    known = attention_modules(model)
    if layer is not None and layer not in known:
        raise unknown("attention module", layer, known)
    seen: list[Tensor] = []

    def note(_: nn.Module, __: object, gate: Tensor) -> None:
        seen.append(gate.detach() / gate[0].numel())

    handle = known[layer if layer is not None else list(known)[-1]].gate.register_forward_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def sole(seen: list[Tensor]) -> Tensor:
    """The one tensor that was seen.

    Raises:
        InputError: none, or several.
    """
    if len(seen) != 1:
        raise InputError(f"the attention module ran {len(seen)} times in a pass; expected once. Name another layer.")
    return seen[0]
