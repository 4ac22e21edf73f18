"""Gradients, plain and guided, of one sequence of layers as a function of its parameters, which `vmap` can stack."""

from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from xaicompare.lrp.forward import window
from xaicompare.lrp.guidance import Start

Leaf = tuple[str, nn.Module]
"""A layer and its name in the model."""

STARTS: tuple[str, ...] = get_args(Start)

_KINDS = (nn.Flatten, nn.Linear, nn.Conv2d, nn.ReLU, nn.MaxPool2d)
_WEIGHTED = (nn.Linear, nn.Conv2d)


class Guide(NamedTuple):
    """How one network is guided, by LRP-epsilon; a network that is not has factors of 0."""

    factors: dict[str, Tensor]  # by layer, each a scalar
    epsilon: Tensor  # a scalar above 0
    start: Tensor  # a whole number: a place in STARTS


def leaves_of(model: nn.Module, name: str = "") -> list[Leaf] | None:
    """The layers in their order; None where the model is more than a sequence of layers that are known here."""
    if type(model) is not nn.Sequential:
        return [(name, model)] if _known(model) else None
    found: list[Leaf] = []
    for child, module in model.named_children():
        below = leaves_of(module, f"{name}.{child}" if name else child)
        if below is None:
            return None
        found += below
    return found


def _known(layer: nn.Module) -> bool:
    if type(layer) not in _KINDS or any(getattr(layer, name) for name in ("_forward_hooks", "_backward_hooks")):
        return False
    if isinstance(layer, nn.Conv2d):
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return not isinstance(layer, nn.MaxPool2d) or not layer.return_indices


def gradients(
    leaves: Sequence[Leaf], parameters: dict[str, Tensor], guide: Guide, inputs: Tensor, labels: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """The gradients of the mean cross-entropy by parameter, guided as `RelevanceGuidance` does, and the loss.

    Args:
        parameters: by name, as the model's `named_parameters` are.
        inputs: (n, c, h, w).
        labels: (n,).
    """
    below, winners, values = [], [], inputs
    for name, layer in leaves:
        below.append(values)
        values, won = _up(layer, _own(parameters, name), values)
        winners.append(won)
    loss = cross_entropy(values, labels)
    # (n, classes)
    gradient = (values.softmax(1) - _one_hot(labels, values)) / len(labels)
    relevance: Tensor | None = _begun(values, labels, guide.start)
    made: dict[str, Tensor] = {}
    lowest = min((place for place, (name, _) in enumerate(leaves) if name in guide.factors), default=len(leaves))
    weights = [place for place, (_, layer) in enumerate(leaves) if isinstance(layer, _WEIGHTED)]
    for place in range(len(leaves) - 1, weights[0] - 1, -1):
        name, layer = leaves[place]
        if name in guide.factors:
            assert relevance is not None
            gradient = gradient * _multiplier(guide.factors[name], relevance)
        if place <= lowest:
            relevance = None  # nobody below is guided
        above = below[place + 1] if place + 1 < len(leaves) else values
        step = _Step(layer, _own(parameters, name), below[place], above, winners[place])
        if relevance is not None:
            relevance = step.relevance(relevance, guide.epsilon)
        for kind, value in step.of_parameters(gradient).items():
            made[f"{name}.{kind}"] = value
        if place > weights[0]:
            gradient = step.down(gradient)
    return made, loss


def _own(parameters: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """A layer's weight and bias, where it has them."""
    return {kind: parameters[f"{name}.{kind}"] for kind in ("weight", "bias") if f"{name}.{kind}" in parameters}


def _up(layer: nn.Module, own: dict[str, Tensor], values: Tensor) -> tuple[Tensor, Tensor | None]:
    """What a layer makes of values, and the winners of a max-pooling."""
    if isinstance(layer, nn.Linear):
        return linear(values, own["weight"], own.get("bias")), None
    if isinstance(layer, nn.Conv2d):
        settings: Any = (layer.stride, layer.padding, layer.dilation, layer.groups)
        return torch.conv2d(values, own["weight"], own.get("bias"), *settings), None
    if isinstance(layer, nn.ReLU):
        return values.relu(), None
    if isinstance(layer, nn.MaxPool2d):
        pooled, won = torch.ops.aten.max_pool2d_with_indices(values, *window(layer))
        return pooled, won
    return values.flatten(layer.start_dim, layer.end_dim), None  # type: ignore[arg-type] # nn.Flatten


def _one_hot(labels: Tensor, like: Tensor) -> Tensor:
    return (labels[:, None] == torch.arange(like.shape[1], device=like.device)).to(like.dtype)


def _begun(logits: Tensor, labels: Tensor, start: Tensor) -> Tensor:
    """The relevance of the outputs (n, classes) for each reading, of which one counts; see `Start`."""
    chances = logits.softmax(1)
    predicted, label = (_one_hot(chosen, logits) * chances for chosen in (logits.argmax(1), labels))
    ways = dict(zip(STARTS, (logits, chances, predicted, label), strict=True))
    made = torch.zeros_like(logits)
    for place, way in enumerate(STARTS):
        made = torch.where(start == place, ways[way], made)
    return made


def _multiplier(factor: Tensor, relevance: Tensor) -> Tensor:
    """1 + factor * relevance; 1 where the factor is 0, whatever the relevance is."""
    return torch.where(factor == 0, 1, 1 + factor * relevance)


class _Step(NamedTuple):
    """One layer on the way down."""

    layer: nn.Module
    own: dict[str, Tensor]
    below: Tensor  # what it read
    above: Tensor  # what it made
    winners: Tensor | None

    def down(self, s: Tensor) -> Tensor:
        """The transposed map of the layer at its inputs, applied to s of its outputs' shape."""
        if isinstance(self.layer, nn.Linear):
            return s @ self.own["weight"]
        if isinstance(self.layer, nn.Conv2d):
            made: Tensor = self._convolved(s, [True, False, False])[0]
            return made
        if isinstance(self.layer, nn.ReLU):
            return s * (self.above > 0)
        return self.moved(s)

    def relevance(self, relevance: Tensor, epsilon: Tensor) -> Tensor:
        """That of what the layer read, of that of what it made."""
        if isinstance(self.layer, _WEIGHTED):
            z = self.above
            return self.below * self.down(relevance / (z + torch.where(z < 0, -epsilon, epsilon)))
        return relevance if isinstance(self.layer, nn.ReLU) else self.moved(relevance)

    def moved(self, values: Tensor) -> Tensor:
        """Values back to where a max-pooling or a flattening took its own from."""
        if self.winners is None:
            return values.reshape(self.below.shape)
        back = torch.ops.aten.max_pool2d_with_indices_backward
        found: Tensor = back(values, self.below, *window(self.layer), self.winners)
        return found

    def of_parameters(self, gradient: Tensor) -> dict[str, Tensor]:
        """The gradients of weight and bias, of that of the outputs."""
        if isinstance(self.layer, nn.Linear):
            flat, read = gradient.flatten(0, -2), self.below.flatten(0, -2)
            made = {"weight": flat.t() @ read, "bias": flat.sum(0)}
        elif isinstance(self.layer, nn.Conv2d):
            _, weight, bias = self._convolved(gradient, [False, True, True])
            made = {"weight": weight, "bias": bias}
        else:
            return {}
        return {kind: made[kind] for kind in self.own}

    def _convolved(self, s: Tensor, wanted: list[bool]) -> Any:
        layer: Any = self.layer
        settings = (layer.stride, layer.padding, layer.dilation, False, [0, 0], layer.groups)
        sizes = [len(self.own["weight"])]
        return torch.ops.aten.convolution_backward(s, self.below, self.own["weight"], sizes, *settings, wanted)
