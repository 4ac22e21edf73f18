"""What a method costs, measured: images passed forward and backward for each one explained."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from xaicompare.core import Method
from xaicompare.draws import generator


class Passes(NamedTuple):
    """Images through the network for one image explained."""

    forward: int
    backward: int


def passes(method: Method) -> Passes:
    """Counts what the method sends through a small network for one image of 32 x 32, its target given.

    Raises:
        XaiCompareError: the method can't explain that network.
    """
    model, counted = _probe(), [0, 0]

    def count(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        counted[0] += len(output)
        if output.requires_grad:
            output.register_hook(count_backward)

    def count_backward(gradient: Tensor) -> None:
        counted[1] += len(gradient)

    # On the layer inside: whatever replaces the root's output meanwhile, every pass goes through it.
    model[0].register_forward_hook(count)
    method.attribute(model, torch.rand(1, 3, 32, 32, generator=generator(0)), target=0)
    return Passes(*counted)


def _probe() -> nn.Sequential:
    """A network that every method of this package can explain."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        )
