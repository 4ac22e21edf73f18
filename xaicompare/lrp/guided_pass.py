"""One training pass: an ordinary forward, and a backward whose gradients relevance scales on their way down."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from xaicompare.boundary import finite
from xaicompare.errors import DivergedError, XaiCompareError
from xaicompare.lrp.affine import affine_of
from xaicompare.lrp.forward import Forward, in_single, pooled_with_winners
from xaicompare.lrp.graph import Step
from xaicompare.lrp.route import Route
from xaicompare.lrp.sweep import Sweep

_HOOKS = ("_backward_hooks", "_backward_pre_hooks", "_forward_hooks", "_forward_pre_hooks")


class Guide(Protocol):
    """What happens at a guided layer."""

    touches_weights: bool  # whether the gradients of weights are wanted, too

    def scale(self, layer: str, gradient: Tensor, relevance: Tensor, passed: "GuidedPass", node: fx.Node) -> Tensor:
        """The gradient of the layer's outputs that goes on."""

    def weight_gradient(self, layer: str, gradient: Tensor, passed: "GuidedPass", node: fx.Node) -> Tensor:
        """The gradient of the layer's weight that goes on; it comes after that of the outputs."""

    def factor(self, layer: str) -> Tensor | None:
        """The parameter of the layer's factor, where it is learned."""

    def factor_gradient(self, layer: str) -> Tensor | None:
        """The gradient of that parameter."""


class GuidedPass:
    """Remembers what the sweep needs; the sweep goes down beside the gradient, one layer ahead of it."""

    def __init__(
        self,
        route: Route,
        guide: Guide,
        batch: int,
        start: Callable[[Tensor], Tensor],
        late: "LateChecks | None" = None,
    ) -> None:
        self.route, self.guide, self.batch, self.start, self.late = route, guide, batch, start, late
        self.steps = route.steps
        self.forward = Forward(route.plan, 0, single=True)
        self.found: dict[fx.Node, Tensor | None] = {}
        self.waiting = set(route.guided)
        self.walk: Iterator[fx.Node] | None = None

    def run(self, inputs: Tensor) -> Tensor:
        """The outputs (n, classes), which the model itself would have returned."""
        route = self.route
        self.forward.n = len(inputs)
        with out_of_place(route.inplace):
            return self._run(inputs)

    def _run(self, inputs: Tensor) -> Tensor:
        route, network = self.route, self.route.plan.network
        values: dict[fx.Node, Any] = {}
        guides = torch.is_grad_enabled()
        for node in network.traced.graph.nodes:
            if node.op == "output":
                continue
            step = self.steps.get(node)
            if node is network.entry:
                made = inputs
            elif node.op == "placeholder":
                continue  # an argument that keeps its default
            else:
                made = network.computed(node, values) if step is None else self._made(step, values)
            if guides and node in route.guided:
                made = _Scaled.apply(made, self.guide.factor(route.guided[node]), self, node)
            values[node] = made
            if node in route.kept:
                self.forward.values[node] = _detached(made)
            for spent in route.spent[node]:
                values.pop(spent, None)
        for layer, stand in route.stands.items():
            self.forward.values[layer] = self.forward.values[stand]
        outputs: Tensor = values[network.exit]
        self.forward.values[network.exit] = outputs.detach()
        return outputs

    def _made(self, step: Step, values: dict[fx.Node, Any]) -> Any:
        if step.node in self.route.guided and self.guide.touches_weights:
            assert step.module is not None
            weight = _Weight.apply(step.module.weight, self, step.node)
            return functional_call(step.module, {"weight": weight}, (values[step.sources[0]],))
        if step.node in self.route.above and self.route.plan.takes_winners(step):
            made, self.forward.winners[step.node] = pooled_with_winners(step.module, values[step.sources[0]])
            return made
        swept = step.node in self.route.above or step.node in self.route.guided
        if swept and isinstance(step.module, nn.modules.batchnorm._BatchNorm) and step.module.training:
            self._note_statistics(step, values[step.sources[0]].detach())
        return self.route.plan.network.computed(step.node, values)

    def _note_statistics(self, step: Step, values: Tensor) -> None:
        owner = step.sources[0] if step.sources[0] in self.route.plan.network.norms else step.node
        variance, mean = torch.var_mean(in_single(values), [0, *range(2, values.ndim)], correction=0)
        self.forward.statistics[owner] = mean, variance

    def scaled(self, node: fx.Node, gradient: Tensor) -> Tensor:
        """The gradient of a guided layer's outputs, times their multiplier."""
        layer = self.route.guided[node]
        if node not in self.waiting:
            raise XaiCompareError(
                f"a second backward through guided batch {self.batch}; expected one: relevance is dropped on the way. "
                "Call guidance(inputs) again."
            )
        self.waiting.remove(node)
        relevance = self._relevance(node)
        if relevance is None:
            made = gradient  # no relevance comes here
        else:
            made = self.guide.scale(layer, gradient, relevance, self, node)
            self._check(layer, gradient, relevance, made)
        if not self.waiting:
            self.walk, self.forward.values, self.forward.winners = None, {}, {}
        return made

    def is_fresh(self, node: fx.Node) -> bool:
        """Whether the gradient of a layer's outputs was made for it alone, by the ReLU or BatchNorm after it."""
        users = [self.steps[user].module for user in node.users if user in self.steps]
        makers = (nn.ReLU, nn.modules.batchnorm._BatchNorm)
        return len(users) == 1 and isinstance(users[0], makers) and not any(vars(users[0])[name] for name in _HOOKS)

    def of_weight(self, node: fx.Node, gradient: Tensor) -> Tensor:
        """What a gradient of a guided layer's outputs makes of its weights."""
        step = self.steps[node]
        layer = affine_of(step.module)  # type: ignore[arg-type]
        assert layer is not None
        return layer.weight_gradient(self.forward.padded(step), gradient)

    def _check(self, layer: str, gradient: Tensor, relevance: Tensor, made: Tensor) -> None:
        halved = gradient.dtype == torch.float16  # there a GradScaler looks for infinite gradients, and skips the step
        checked = relevance if halved else made
        if self.late is not None:
            self.late.note(checked, "relevance" if halved else "scaled gradient", layer, self.batch)
            return
        if finite(checked):
            return
        what = next(
            (name for name, values in (("relevance", relevance), ("gradient", gradient)) if not finite(values)),
            "scaled gradient",
        )
        raise _diverged(what, layer, self.batch)

    def _relevance(self, node: fx.Node) -> Tensor | None:
        """The relevance of a layer's outputs: the sweep goes on until it is complete."""
        if self.walk is None:
            self.walk = self._down()
        with torch.no_grad():
            while node not in self.found:
                next(self.walk)
        return self.found.pop(node)

    def _down(self) -> Iterator[fx.Node]:
        forward, route = self.forward, self.route
        sweep = Sweep(forward, self.start(forward.outputs), accounts=False)
        for step in reversed(route.plan.network.steps):
            relevance = sweep.relevance.pop(step.node, None)
            if step.node in route.guided:
                self.found[step.node] = relevance
                yield step.node
            if relevance is not None and step.node in route.above:
                sweep.send(step, relevance)
            forward.values.pop(step.node, None)


def _diverged(what: str, layer: str, batch: int) -> DivergedError:
    return DivergedError(
        f"{what} at layer {layer} in guided batch {batch} is not finite; expected finite values. "
        "Lower the factor or the learning rate, or use clamp=(0.5, 2), normalise='max' or a larger epsilon."
    )


class LateChecks:
    """What has to be finite, and is looked at later: a GPU waits at every look."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor, str, str, int]] = []

    def note(self, values: Tensor, what: str, layer: str, batch: int) -> None:
        """Remembers the greatest magnitude of values, which is finite if they all are."""
        self._waiting.append((values.detach().abs().amax().float(), what, layer, batch))

    def look(self) -> None:
        """Looks at all that waits.

        Raises:
            DivergedError: some values are not finite; the first layer and batch are named.
        """
        waiting, self._waiting = self._waiting, []
        if waiting:
            good = torch.isfinite(torch.stack([most for most, *_ in waiting])).tolist()
            for fine, (_, what, layer, batch) in zip(good, waiting, strict=True):
                if not fine:
                    raise _diverged(what, layer, batch)


@contextmanager
def out_of_place(modules: tuple[nn.Module, ...]) -> Iterator[None]:
    """What is kept must not be written over."""
    for module in modules:
        module.inplace = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in modules:
            module.inplace = True  # type: ignore[assignment]


class _Scaled(torch.autograd.Function):
    """The same values; their gradient is multiplied on its way down."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: Tensor | None, passed: GuidedPass, node: fx.Node) -> Tensor:
        ctx.passed, ctx.node = passed, node
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        passed, node = ctx.passed, ctx.node
        with torch.no_grad():
            made = passed.scaled(node, gradient)
        return made, passed.guide.factor_gradient(passed.route.guided[node]), None, None


class _Weight(torch.autograd.Function):
    """The same weight, in this pass alone; its gradient goes through the guide."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, passed: GuidedPass, node: fx.Node) -> Tensor:
        ctx.passed, ctx.node = passed, node
        return weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        passed, node = ctx.passed, ctx.node
        with torch.no_grad():
            return passed.guide.weight_gradient(passed.route.guided[node], gradient, passed, node), None, None


def _detached(values: Any) -> Any:
    if isinstance(values, Tensor):
        return values.detach()
    return tuple(_detached(value) for value in values) if isinstance(values, (tuple, list)) else values
