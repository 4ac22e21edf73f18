"""A function of tensors that is recorded once for each shape, and played back: a CUDA graph, launched as one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

Recorder = Callable[[Callable[[], Any]], tuple[Callable[[], None], Any]]
"""Of a function without arguments: what repeats its work, and its results, which are written over each time."""


class Captured:
    """Calls `function(*tensors)` as it was recorded for tensors of these shapes.

    What else it reads (weights, say) must stay where it is in memory, and it must not ask the device for a number.
    Its results are the same tensors at each call with one shape: they hold until the next.
    """

    def __init__(self, function: Callable[..., Any], recorder: Recorder) -> None:
        self.function, self.recorder = function, recorder
        self._known: dict[object, tuple[list[Tensor], Callable[[], None], Any]] = {}

    def __call__(self, *given: Tensor) -> Any:
        """Copies what is given to where it was recorded, and plays back."""
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in given)
        if shapes not in self._known:
            own = [tensor.clone() for tensor in given]
            self._known[shapes] = (own, *self.recorder(lambda: self.function(*own)))
        own, replay, made = self._known[shapes]
        for mine, tensor in zip(own, given, strict=True):
            mine.copy_(tensor)
        replay()
        return made


def recorder_for(device: torch.device) -> Recorder:
    """A CUDA graph on a GPU; elsewhere the function itself, whose results are copied to one place."""
    return _graphed if device.type == "cuda" else _called_again


def _graphed(function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # libraries choose their algorithms and get their memory
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = function()
    return graph.replay, made


def _called_again(function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    made = function()

    def replay() -> None:
        for mine, fresh in zip(tree_leaves(made), tree_leaves(function()), strict=True):
            mine.copy_(fresh)

    return replay, made
