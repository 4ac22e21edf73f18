"""Relevance-guided training: gradients that are scaled by relevance while they flow back."""

import math
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, fx, nn

from xaicompare.boundary import picked, resolved_target
from xaicompare.errors import InputError, SettingError, UnsupportedModelError, unknown
from xaicompare.lrp.composite import Composite, rule_from
from xaicompare.lrp.graph import Network
from xaicompare.lrp.guided_pass import GuidedPass, LateChecks
from xaicompare.lrp.known_route import KnownRoute, check_inputs
from xaicompare.lrp.multiplier import Multiplier
from xaicompare.lrp.plan import planned
from xaicompare.lrp.route import Layers, Route, routed
from xaicompare.lrp.rules import Epsilon, Gamma, Rule, Zero
from xaicompare.lrp.weight_gradients import LearnedFactors, filters_scaled

Factor = float | Mapping[str, float] | Callable[[int], float] | Literal["learned"]
"""One number; a number per layer, whose names may hold * and ?; a number for each batch, counted from 0; or learned."""
Start = Literal["outputs", "probabilities", "predicted", "label"]
"""What relevance starts as: the values of all outputs, so that each hands on what it is made of; the probabilities of
all classes; or that of the predicted class or of the label alone. A probability is divided by its output, which may be
near 0: then the relevance below explodes."""
Observer = Callable[[str, Tensor], None]
"""Told, in backward, the relevance of a guided layer's outputs: (n, c, ...), of a linear layer's (n, ..., c)."""


class Quantiles(NamedTuple):
    """The multipliers of one layer in one batch."""

    batch: int
    layer: str
    factor: float
    low: float  # 5 %
    median: float
    high: float  # 95 %
    least: float
    greatest: float


class RelevanceGuidance(nn.Module):
    """A model whose training gradients are multiplied by 1 + factor * relevance, at every guided layer.

    Call it instead of the model, and train as ever: `guidance(inputs)` returns the model's outputs, `loss.backward()`
    scales. At each guided layer the gradient of its outputs (before the activation, and before a BatchNorm) is
    multiplied, neuron by neuron and sample by sample; the product makes the weights' gradients, and flows on. The
    output layer is never guided. Relevance comes from that very forward pass, with its dropout and the batch's own
    statistics. Without gradients (`torch.no_grad()`) it is the model. A function that `guidance.observer` is set to is
    told the relevance, whatever the factor is.

    The model's own modules and parameters are used: `guidance.model` is the model, and evaluates and saves as before.
    For several processes, wrap it: `DistributedDataParallel(RelevanceGuidance(model))`.

    Args:
        model: any model that LRP can trace, except compiled ones.
        factor: 0 trains as without guidance, bit by bit; see `Factor`. "learned" gives each layer a parameter, so hand
            `guidance.parameters()` to the optimizer.
        rule: "zero", "epsilon", "gamma", or such a rule with its number, as `{"rule": "gamma", "gamma": 0.1}`.
        layers: "all", "linear", "conv", or names, with * and ? as in file names.
        start: see `Start`; "label" needs `guidance(inputs, labels)`.
        filters, normalise, centre, clamp: stabilisers; see `Multiplier`.
        bound: a learned factor stays between -bound and bound.
        record_every: every so many batches, the multipliers' quantiles are appended to `guidance.recorded`.
        check_every: every so many batches it is looked whether inputs, relevance and gradients are finite. A GPU waits
            at each look; with more than 1 the error comes that much later, and still names layer and batch.

    Raises:
        UnsupportedModelError: a model that can't be traced, has a step without a rule, or is compiled or wrapped.
        SettingError, UnknownNameError: a setting out of range, a layer that isn't there.
        DivergedError: in `backward`: relevance or gradients that are not finite, told with layer and batch.

    Source: relevance: Bach et al. 2015, doi:10.1371/journal.pone.0130140, equations 56 and 58; what the scaled gradient
    is worth: benchmarks/README.md.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> guidance = RelevanceGuidance(model, factor=0.1)
    >>> loss = nn.functional.cross_entropy(guidance(torch.ones(2, 4)), torch.tensor([0, 2]))
    >>> loss.backward()
    >>> guidance
    RelevanceGuidance(Sequential, factor=0.1, rule=Epsilon(epsilon=1e-06, of=None), layers=[0], start='outputs')
    """

    def __init__(
        self,
        model: nn.Module,
        factor: Factor = 0.1,
        rule: str | Rule | Mapping[str, Any] = "epsilon",
        layers: Layers = "linear",
        start: Start = "outputs",
        *,
        filters: bool = False,
        normalise: Literal["max", "mean"] | None = None,
        centre: bool = False,
        clamp: tuple[float, float] | None = None,
        bound: float = 1.0,
        record_every: int | None = None,
        check_every: int = 1,
    ) -> None:
        super().__init__()
        if isinstance(model, RelevanceGuidance):
            raise UnsupportedModelError("model is guided already; expected the model itself. Use guidance.model.")
        if start not in get_args(Start):
            raise SettingError(f"start={start!r}; expected 'outputs', 'probabilities', 'predicted' or 'label'.")
        if record_every is not None and (type(record_every) is not int or record_every < 1):
            raise SettingError(f"record_every={record_every!r}; expected a number of batches, or None.")
        if type(check_every) is not int or check_every < 1:
            raise SettingError(f"check_every={check_every!r}; expected a number of batches, at least 1.")
        if isinstance(bound, bool) or not (isinstance(bound, (int, float)) and math.isfinite(bound) and bound > 0):
            raise SettingError(f"bound={bound!r}; expected a finite number above 0.")
        self.model = model
        self.rule = _checked_rule(rule)
        self.start = start
        self.multiplier = Multiplier(filters=filters, normalise=normalise, centre=centre, clamp=clamp)
        self.record_every = record_every
        self.check_every = check_every
        self._late = None if check_every == 1 else LateChecks()
        self.recorded: list[Quantiles] = []
        self.batch = 0  # guided batches so far
        self.observer: Observer | None = None
        self._layers = layers
        self._learns = isinstance(factor, str) and factor == "learned"
        if self._learns and filters:
            raise SettingError("factor='learned' beside filters=True; expected one of them.")
        self._route = KnownRoute(model, "RelevanceGuidance", self._routed)
        self.layers: tuple[str, ...] = tuple(dict.fromkeys(self._route.now().guided.values()))
        self.learned: LearnedFactors | None = None
        if self._learns:
            self.learned = LearnedFactors(self.layers, bound, next(model.parameters()).device)
        self._factor = _checked_factor(factor, self.layers)

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> Tensor:
        """The model's outputs (n, classes) for inputs (n, ...); labels (n,) only for start="label"."""
        if not torch.is_grad_enabled():
            return self.model(inputs)
        if self.batch % self.check_every == 0:
            check_inputs(inputs)
            self.look()
        if self.start == "label" and labels is None:
            raise InputError("guidance(inputs) without labels, with start='label'; expected guidance(inputs, labels).")
        route, batch = self._route.proven(inputs, self.batch), self.batch
        self.batch += 1
        factors = self.factors(batch)
        if self.learned is None and self.observer is None and not any(factors.values()):
            return self.model(inputs)
        label = None if self.start != "label" else resolved_target(labels, inputs, None)
        begin = lambda logits: _begun(logits, self.start, label)  # noqa: E731
        passed = GuidedPass(route, _Guide(self, factors), batch, begin, self._late)
        outputs = passed.run(inputs)
        if label is not None:
            picked(outputs.detach(), label)  # a class that isn't there is told here, not in the middle of backward
        return outputs

    def look(self) -> None:
        """Looks at what no batch has looked at yet, where `check_every` is above 1.

        Raises:
            DivergedError: some of it was not finite.
        """
        if self._late is not None:
            self._late.look()

    def factors(self, batch: int | None = None) -> dict[str, float]:
        """The factor of every guided layer, in that batch (None: the next)."""
        if self.learned is not None:
            return self.learned.values()
        given = self._factor
        if callable(given):
            number = given(self.batch if batch is None else batch)
            return dict.fromkeys(self.layers, _checked_number(number, "the schedule gave"))
        return dict(given)

    def _routed(self, network: Network) -> Route:
        plan = planned(network, Composite(convolution=self.rule, dense=self.rule))
        return routed(plan, self._layers, with_inputs=self._learns)

    def get_extra_state(self) -> dict[str, int]:
        """What a schedule needs to go on after `load_state_dict`."""
        return {"batch": self.batch}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Goes on with that batch."""
        self.batch = int(state["batch"])

    def __repr__(self) -> str:
        values = set(self.factors().values())
        factor = "learned" if self.learned is not None else values.pop() if len(values) == 1 else self.factors()
        changed = "".join(f", {name}={value!r}" for name, value in self.multiplier.changed().items())
        layers = f"[{', '.join(self.layers)}]"
        told = f"factor={factor}, rule={self.rule!r}, layers={layers}, start={self.start!r}{changed}"
        return f"RelevanceGuidance({type(self.model).__name__}, {told})"


class _Guide:
    """The guidance of one batch; see `guided_pass.Guide`."""

    def __init__(self, guidance: RelevanceGuidance, factors: dict[str, float]) -> None:
        self.guidance, self.factors = guidance, factors
        self.touches_weights = guidance.multiplier.filters or guidance.learned is not None
        self.for_weights: dict[fx.Node, Tensor] = {}  # mean multipliers of filters, or directions

    def scale(self, layer: str, gradient: Tensor, relevance: Tensor, passed: GuidedPass, node: fx.Node) -> Tensor:
        multiplier, factor = self.guidance.multiplier, self.factors[layer]
        if self.guidance.observer is not None:
            self.guidance.observer(layer, relevance)
        if self._records(passed) or multiplier.filters or self.guidance.learned is not None:
            linear = isinstance(passed.steps[node].module, nn.Linear)
            used = multiplier.used(relevance, channels_last=linear)
            made = multiplier.of(used, factor).mean(0) if multiplier.filters else multiplier.of(used, factor)
            if self._records(passed):
                self.guidance.recorded.append(_quantiles(passed.batch, layer, factor, made))
            if multiplier.filters:
                self.for_weights[node] = made
                return gradient
            if self.guidance.learned is not None:
                self.for_weights[node] = passed.of_weight(node, gradient * used)
        if factor == 0:
            return gradient
        return multiplier.scaled(gradient, relevance, factor, fresh=passed.is_fresh(node))

    def weight_gradient(self, layer: str, gradient: Tensor, passed: GuidedPass, node: fx.Node) -> Tensor:
        kept = self.for_weights.pop(node, None)
        if kept is None:
            return gradient  # no relevance came here
        if self.guidance.learned is not None:
            self.guidance.learned.learn(layer, gradient, kept)
            return gradient
        return filters_scaled(gradient, kept, transposed=bool(getattr(passed.steps[node].module, "transposed", False)))

    def factor(self, layer: str) -> Tensor | None:
        return None if self.guidance.learned is None else self.guidance.learned.parameter(layer)

    def factor_gradient(self, layer: str) -> Tensor | None:
        return None if self.guidance.learned is None else self.guidance.learned.gradient(layer)

    def _records(self, passed: GuidedPass) -> bool:
        every = self.guidance.record_every
        return every is not None and passed.batch % every == 0


def _checked_rule(given: str | Rule | Mapping[str, Any]) -> Rule:
    rule = rule_from(given)
    if not isinstance(rule, (Zero, Epsilon, Gamma)):
        raise SettingError(f"rule={rule.name!r}; expected 'zero', 'epsilon' or 'gamma'.")
    return rule


def _checked_factor(given: Factor, layers: tuple[str, ...]) -> dict[str, float] | Callable[[int], float]:
    """A factor for each layer, or a schedule."""
    if isinstance(given, str):
        if given != "learned":
            raise SettingError(f"factor={given!r}; expected a number, one per layer, a schedule, or 'learned'.")
        return dict.fromkeys(layers, 0.0)
    if callable(given):
        return given
    if not isinstance(given, Mapping):
        return dict.fromkeys(layers, _checked_number(given, "factor"))
    for pattern in given:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise unknown("guided layer", pattern, layers)
    numbers = {name: [value for pattern, value in given.items() if fnmatchcase(name, pattern)] for name in layers}
    for name, found in numbers.items():
        if not found:
            raise SettingError(f"factor={dict(given)!r} has none for {name}; expected one for every guided layer.")
    return {name: _checked_number(found[-1], f"factor of {name}") for name, found in numbers.items()}


def _checked_number(given: object, what: str) -> float:
    if isinstance(given, bool) or not isinstance(given, Real) or not math.isfinite(given):
        raise SettingError(f"{what} {given!r}; expected a finite number.")
    return float(given)


def _begun(logits: Tensor, start: Start, labels: Tensor | None) -> Tensor:
    """The relevance of the outputs, (n, classes)."""
    if start == "outputs":
        return logits
    chances = logits.softmax(1)
    if start == "probabilities":
        return chances
    chosen = logits.argmax(1) if labels is None else labels
    return torch.zeros_like(chances).scatter(1, chosen[:, None], chances.gather(1, chosen[:, None]))


def _quantiles(batch: int, layer: str, factor: float, multiplier: Tensor) -> Quantiles:
    flat = multiplier.detach().flatten().float()
    shown = flat[:: max(1, len(flat) // 100_000)]
    low, median, high = torch.quantile(shown, shown.new_tensor([0.05, 0.5, 0.95])).tolist()
    return Quantiles(batch, layer, factor, low, median, high, float(flat.min()), float(flat.max()))
