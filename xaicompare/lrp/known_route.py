"""The route through a model that is being trained: traced when something changes, and proven against the model."""

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn

from xaicompare.boundary import finite, shaped_outputs
from xaicompare.diagnosis.repair import as_modules
from xaicompare.errors import InputError, UnsupportedModelError
from xaicompare.lrp.graph import Network, network_of
from xaicompare.lrp.guided_pass import out_of_place
from xaicompare.lrp.route import Route


class KnownRoute:
    """The route through a model in the modes that its modules are in now.

    Args:
        wrapper: who walks it, for messages.
        routed: the route through a network.
    """

    def __init__(self, model: nn.Module, wrapper: str, routed: Callable[[Network], Route]) -> None:
        _check_model(model, wrapper)
        self.model = model
        self.routed = routed
        self._key: object = None
        self._known: Route | None = None
        self._proven: Route | None = None

    def now(self) -> Route:
        """The route, traced anew if modules, modes, parameters or buffers are others than before."""
        modules = list(self.model.modules())
        # Buffers that were replaced, as by `.to(device)`, must not live on in a graph.
        tensors = [*self.model.parameters(), *self.model.buffers()]
        key = (tuple(map(id, modules)), tuple(module.training for module in modules), tuple(map(id, tensors)))
        if self._known is None or self._key != key:
            traced = as_modules(self.model if list(self.model.children()) else nn.Sequential(self.model))
            self._known, self._key = self.routed(network_of(traced, partly=True)), key
        return self._known

    def proven(self, inputs: Tensor, batch: int) -> Route:
        """The route, compared with the model at batches 0, 1, 2, 4, 8, ...: what changes on the way must be told."""
        route = self.now()
        if route is not self._proven or batch & (batch - 1) == 0:
            _prove(self.model, route, inputs)
            self._proven = route
        return route


def check_inputs(inputs: Tensor) -> None:
    """Inputs that a training step can take.

    Raises:
        InputError: they are no tensor, empty, or not finite.
    """
    if not isinstance(inputs, Tensor):
        raise InputError(f"inputs are a {type(inputs).__name__}; expected a torch.Tensor. Use torch.as_tensor(inputs).")
    if inputs.numel() == 0:
        raise InputError(f"inputs have shape {tuple(inputs.shape)}, an empty batch; expected at least one sample.")
    if inputs.is_floating_point() and not finite(inputs):
        raise InputError("inputs hold NaN or inf; expected finite values.")


def _check_model(model: nn.Module, wrapper: str) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f"model is a {type(model).__name__}; expected a torch.nn.Module.")
    name = type(model).__name__
    if hasattr(model, "_orig_mod"):
        raise UnsupportedModelError(
            "model is compiled, and its inner values are out of reach; expected the model itself. "
            f"Use {wrapper}(model._orig_mod)."
        )
    if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        raise UnsupportedModelError(
            f"model is wrapped in {name}; expected the model itself. Wrap the other way round: "
            f"{name}({wrapper}(model))."
        )


def _prove(model: nn.Module, route: Route, inputs: Tensor) -> None:
    """The traced graph computes what the model does, for two seeds; random states and buffers stay as they were.

    Raises:
        UnsupportedModelError: it computes something else.
    """
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    state = random.getstate()

    def outcome(computed: nn.Module, seed: int) -> Tensor:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            random.seed(seed)
            made = computed(inputs)
        for buffer, before in buffers:
            buffer.copy_(before)
        return shaped_outputs(made, len(inputs))

    try:
        with torch.no_grad(), out_of_place(route.inplace):
            pairs = [(outcome(model, seed), outcome(route.plan.network.traced, seed)) for seed in (1, 2)]
    finally:
        random.setstate(state)
    for expected, found in pairs:
        if torch.isfinite(expected).all() and not torch.allclose(
            expected, found, rtol=1e-4, atol=1e-4 * float(expected.abs().max())
        ):
            raise UnsupportedModelError(
                f"a traced copy differs by up to {float((expected - found).abs().max()):.2g} from the outputs; "
                "expected a model whose forward takes the same way for every batch. Random or changing branches in "
                "Python can't be traced; move them into modules such as Dropout."
            )
