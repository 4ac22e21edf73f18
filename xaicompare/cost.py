"""What a method or a metric costs, measured: images passed forward and backward for each one explained or judged."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from xaicompare.core import Attribution, Method, Metric
from xaicompare.draws import generator


class Passes(NamedTuple):
    """Images through the network for one image."""

    forward: int
    backward: int


def passes(method: Method) -> Passes:
    """Counts what the method sends through a small network for one image of 32 x 32, its target given.

    Raises:
        XaiCompareError: the method can't explain that network.
    """
    model = _probe()
    with _counted(model) as seen:
        method.attribute(model, _image(), target=0)
    return Passes(*seen)


def judging_passes(metric: Metric, method: Method) -> Passes:
    """Counts what the metric sends through the same network to judge one map of that method.

    Raises:
        XaiCompareError: the metric can't judge it.
    """
    model = _probe()
    made: Attribution = method.attribute(model, _image(), target=0)
    masks = torch.zeros(1, 32, 32, dtype=torch.bool)
    masks[:, 8:24, 8:24] = True
    with _counted(model) as seen:
        metric(model, made, masks if metric.traits.masks else None)
    return Passes(*seen)


@contextmanager
def _counted(model: nn.Sequential) -> Iterator[list[int]]:
    """Images that pass forward and backward meanwhile."""
    seen = [0, 0]

    def count(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        seen[0] += len(output)
        if output.requires_grad:
            output.register_hook(count_backward)

    def count_backward(gradient: Tensor) -> None:
        seen[1] += len(gradient)

    # On the layer inside: whatever replaces the root's output meanwhile, every pass goes through it.
    handle = model[0].register_forward_hook(count)
    try:
        yield seen
    finally:
        handle.remove()


def _image() -> Tensor:
    return torch.rand(1, 3, 32, 32, generator=generator(0))


def _probe() -> nn.Sequential:
    """A network that every method of this package can explain."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        )
