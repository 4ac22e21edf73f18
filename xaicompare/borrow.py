"""Borrow a model: whatever a method does to it meanwhile, it is given back as it came.

The libraries underneath register hooks, swap `forward`, replace parameters, and move the global random number
generators; on an exception some of that stays behind. Instead of trusting each to tidy up, `borrowed` takes a
shallow snapshot of every module and puts it back.
"""

import copy
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from xaicompare.turns import turn

# nn.Module keeps these as dictionaries which handles refer to, so they are restored in place, not replaced.
_BACKWARD_HOOKS = ("_backward_hooks", "_backward_pre_hooks")

Module = TypeVar("Module", bound=nn.Module)


@contextmanager
def borrowed(model: nn.Module, *, inplace: bool = False) -> Iterator[nn.Module]:
    """The model in evaluation mode, without in-place activations, gradients on, parameters frozen.

    Frozen parameters save the memory of weight gradients that no attribution needs. The user's backward hooks rest
    meanwhile (they are not part of the function that is explained, and Captum skips modules that have any).
    On leaving, also by an exception: modes, `requires_grad`, `.grad`, hooks, attributes, parameters, buffers and the
    global random states of torch, numpy and python are what they were. A second thread waits for its turn on the model.

    Args:
        inplace: leave in-place flags as they are.
    """
    with turn(model), torch.inference_mode(False), torch.enable_grad(), _random_state_kept(model):
        snapshot = _Snapshot(model)
        try:
            snapshot.lend(inplace)
            yield model
        finally:
            snapshot.restore()


class _Snapshot:
    """The shallow state of every module and tensor of a model."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = [(module, dict(vars(module)), _copied_dicts(module)) for module in model.modules()]
        tensors = [*model.parameters(), *model.buffers()]
        self.tensors = [(tensor, tensor.data, tensor.grad, tensor.requires_grad) for tensor in tensors]

    def lend(self, inplace: bool) -> None:
        for module, _, _ in self.modules:
            module.training = False
            if not inplace and getattr(module, "inplace", False) is True:
                module.inplace = False  # type: ignore[assignment]
            for hooks in _BACKWARD_HOOKS:
                vars(module)[hooks].clear()
        for tensor, _, _, needs_grad in self.tensors:
            if needs_grad:
                tensor.requires_grad_(False)

    def restore(self) -> None:
        for module, attributes, dicts in self.modules:
            state = vars(module)
            state.clear()
            state.update(attributes)
            for name, content in dicts.items():
                if content or state[name]:  # most stay empty
                    state[name].clear()
                    state[name].update(content)
        for tensor, data, grad, needs_grad in self.tensors:
            if tensor.data_ptr() != data.data_ptr() or tensor.shape != data.shape:
                tensor.data = data
            if tensor.requires_grad != needs_grad:
                tensor.requires_grad_(needs_grad)
            tensor.grad = grad


def sharing_copy(model: Module) -> Module:
    """A second module with the same parameters and buffers, and the same tensors that a module keeps between passes."""
    kept = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        for held in vars(module).values():
            inside = held.values() if isinstance(held, dict) else [held]
            kept += [each for each in inside if isinstance(each, Tensor)]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in kept})


def _copied_dicts(module: nn.Module) -> dict[str, dict[Any, Any]]:
    """Copies of the dictionaries inside a module: parameters, buffers, children and hooks."""
    return {name: dict(value) for name, value in vars(module).items() if isinstance(value, dict)}


_inside: Counter[int] = Counter()  # how many borrowings each thread is in
_first: list[Callable[[], None]] = []  # puts back what was before the first of them
_entering = threading.Lock()


@contextmanager
def _random_state_kept(model: nn.Module) -> Iterator[None]:
    """Puts back the global random states of python, numpy and torch (with the devices of the model).

    While other threads are inside, putting them back would make theirs repeat; the last to leave does.
    """
    me, put_back = threading.get_ident(), _random_states(model)
    with _entering:
        if not _inside:
            _first[:] = [put_back]
        _inside[me] += 1
    try:
        yield
    finally:
        with _entering:
            _inside[me] -= 1
            if not _inside[me]:
                del _inside[me]
            if not _inside:
                _first.pop()()
            elif _inside.keys() == {me}:
                put_back()


def _random_states(model: nn.Module) -> Callable[[], None]:
    """What puts the global random states back as they are now."""
    devices = {tensor.device for tensor in model.parameters() if tensor.device.type == "cuda"}
    python, old_numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 (libraries' own)
    cuda = {device: torch.cuda.get_rng_state(device) for device in devices}

    def put_back() -> None:
        random.setstate(python)
        np.random.set_state(old_numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        for device, state in cuda.items():
            torch.cuda.set_rng_state(state, device)

    return put_back


@contextmanager
def watched(model: nn.Module, inputs: Tensor) -> Iterator[list[Tensor]]:
    """Collects what the model returns for these inputs (n, ...), so that no pass is run twice for it.

    A batch that begins with them counts too (Captum's DeepLift appends the baselines). The list stays empty where a
    method never passes the inputs through the model.
    """
    seen: list[Tensor] = []

    def look(_: nn.Module, given: tuple[Any, ...], output: object) -> None:
        batch = given[0] if given else None
        if seen or not isinstance(batch, Tensor) or not isinstance(output, Tensor):
            return
        if batch.shape[1:] == inputs.shape[1:] and torch.equal(batch[: len(inputs)], inputs):
            seen.append(output[: len(inputs)].detach())

    handle = model.register_forward_hook(look)
    try:
        yield seen
    finally:
        handle.remove()
