"""What a method or a metric costs, measured: images passed for each one explained or judged, and memory."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from xaicompare.attended import Attention
from xaicompare.borrow import borrowed
from xaicompare.core import Attribution, Method, Metric
from xaicompare.draws import generator


class Passes(NamedTuple):
    """Images through the network for one image."""

    forward: int
    backward: int


class Cost(NamedTuple):
    """What it costs to explain images."""

    passes: float  # the arithmetic for each image, in units of one forward pass
    mebibytes: float  # of tensors held at once, at most, beyond what was there, by the whole batch


def measured(method: Method, model: nn.Module, inputs: Tensor, target: Tensor) -> Cost:
    """What it costs to explain these images (n, ...), their explained output included; a first run fills the caches.

    Multiplications are counted where they are carried out, in convolutions and matrix products: a method that goes
    through half of the network counts half, a rule that convolves four times counts four.

    Raises:
        XaiCompareError: the method can't explain the model.
    """
    method.attribute(model, inputs, target, strict=False)
    with borrowed(model), torch.no_grad(), _Meter() as once:
        model(inputs)
    with _Meter() as meter:
        method.attribute(model, inputs, target, strict=False)
    return Cost(meter.flops / once.flops if once.flops else 0.0, meter.most / 2**20)


class _Meter(TorchDispatchMode):
    """Counts the arithmetic of convolutions and matrix products, by torch's own formulas, and the bytes of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.held = self.most = 0
        self._known: dict[int, Any] = {}  # storages that are alive, by their identity

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        for made in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(made, Tensor) and func._schema.returns[0].alias_info is None:
                self._hold(made.untyped_storage())
        return out

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return

        def let_go(_: object) -> None:
            self._known.pop(key, None)
            self.held -= size

        self._known[key] = weakref.ref(storage, let_go)
        self.held += size
        self.most = max(self.most, self.held)


def passes(method: Method) -> Passes:
    """Counts what the method sends through a small network for one image of 32 x 32, its target given.

    Raises:
        XaiCompareError: the method can't explain that network.
    """
    model = _probe(method)
    with _counted(model) as seen:
        method.attribute(model, _image(), target=0)
    return Passes(*seen)


def judging_passes(metric: Metric, method: Method) -> Passes:
    """Counts what the metric sends through the same network to judge one map of that method.

    Raises:
        XaiCompareError: the metric can't judge it.
    """
    model = _probe(method)
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


def _probe(method: Method) -> nn.Sequential:
    """A network that the method can explain: one for all that need no attention."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if method.traits.needs == "transformer":
            blocks = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), _Tokens(4))  # one layer: gradients may end inside
            return nn.Sequential(blocks, nn.Linear(4, 3))
        middle = [Attention(4)] if method.traits.needs == "attention" else []
        maps = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), *middle
        return nn.Sequential(*maps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


class _Tokens(nn.Module):
    """One block of self-attention over patches and a class token, which it returns: (n, c, h, w) -> (n, c)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(channels, 2, batch_first=True)

    def forward(self, maps: Tensor) -> Tensor:
        patches = maps.flatten(2).transpose(1, 2)
        tokens = torch.cat([patches.mean(1, keepdim=True), patches], 1)  # (n, 1 + h * w, c)
        mixed: Tensor = self.attend(tokens, tokens, tokens, need_weights=False)[0]
        return mixed[:, 0]
