"""LRP's rules: how the relevance of a layer's outputs is shared among its inputs, in proportion to contributions.

Every rule but `Pass` is the same four steps with other contributions: z, the sum of the contributions and of a rest
(the bias); s = relevance / z; the transposed map of s; times the inputs. What falls to the rest is lost.

Source: Bach et al. 2015, doi:10.1371/journal.pone.0130140, equations 56 to 62; Montavon, Binder, Lapuschkin, Samek,
Mueller 2019, doi:10.1007/978-3-030-28954-6_10, section 10.2 and table 10.1.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, TypeAlias, final

import torch
from torch import Tensor

from xaicompare.errors import InputError, SettingError
from xaicompare.lrp.affine import Affine
from xaicompare.settings import Array, NonNegative, frozen

_SLACK = 1e-4  # by which pixels may exceed their bounds
_BLANK = 1e8  # times the least normal number: nearer to 0, relevance / z could overflow
_STABILIZER = 1e-6  # keeps z off zero where a rule has no epsilon of its own
_Parts: TypeAlias = list[tuple[Tensor, Tensor]]


class Passed(NamedTuple):
    """What a layer hands down."""

    relevance: Tensor  # of the layer's inputs, (n, lower)
    lost: Tensor  # what fell to the bias and to epsilon, (n,)


@dataclass(frozen=True, eq=False)
class Situation:
    """A layer in the middle of a sweep."""

    layer: Affine
    a: Tensor  # its inputs (n, lower)
    z: Tensor  # its outputs (n, upper), those of the forward pass
    relevance: Tensor  # of its outputs (n, upper)
    nonnegative: bool  # a >= 0, so that contributions of negative inputs need no pass
    positive: bool  # z >= 0, with relevance 0 where it is 0 (a ReLU follows, and z are its outputs)
    accounts: bool = True  # whether what is lost is asked for; else it is told as 0


class Rule(ABC):
    """How one layer shares relevance; leaves hold the rule's numbers."""

    name: ClassVar[str]
    feeds_zeros: ClassVar[bool] = False  # inputs that are 0 may get relevance

    @property
    def reads_negative(self) -> bool:
        """Whether z below 0 counts, although a ReLU follows."""
        return False

    @final
    def __call__(self, at: Situation) -> Passed:
        """The relevance of the layer's inputs."""
        return self._pass(at)

    @abstractmethod
    def _pass(self, at: Situation) -> Passed:
        """The one hole."""


@frozen
class Zero(Rule):
    """LRP-0: a_j w_jk / z_k. Where z_k is exactly 0, nothing is shared."""

    name: ClassVar[str] = "zero"

    def stabilizer(self, z: Tensor) -> float:
        """What is added to the size of z (n, upper) before it divides."""
        return 0.0

    def _pass(self, at: Situation) -> Passed:
        return _shared(at, [(at.a, at.layer.weight)], at.layer.bias, at.relevance, 0.0, at.z)


@frozen
class Epsilon(Rule):
    """LRP-epsilon: a_j w_jk / (z_k + epsilon sign(z_k)).

    `of` "std" or "rms" takes epsilon as a multiple of that of the sample's z, instead of absolutely.
    """

    name: ClassVar[str] = "epsilon"

    epsilon: NonNegative = 1e-6
    of: Literal["std", "rms"] | None = None

    @property
    def reads_negative(self) -> bool:
        """Whether epsilon comes from all of z."""
        return self.of is not None

    def _pass(self, at: Situation) -> Passed:
        return _shared(
            at, [(at.a, at.layer.weight)], at.layer.bias, at.relevance, self.stabilizer(at.z), at.z, int(at.positive)
        )

    def stabilizer(self, z: Tensor) -> float | Tensor:
        """What is added to the size of z (n, upper) before it divides."""
        if self.of is None:
            return self.epsilon
        flat = z.flatten(1)
        size = flat.std(1) if self.of == "std" else flat.square().mean(1).sqrt()
        return self.epsilon * size.view(-1, *[1] * (z.ndim - 1)) + _STABILIZER


@frozen
class Gamma(Rule):
    """LRP-gamma: contributions of z's own sign count 1 + gamma times.

    The generalised form holds for inputs of both signs; the classic one, a_j (w_jk + gamma w_jk+), equals it where
    inputs are at least 0 and z is above 0.

    Source: generalised form: Andeol et al. 2021, arXiv:2106.01107.
    """

    name: ClassVar[str] = "gamma"

    gamma: NonNegative = 0.25
    generalised: bool = True

    def _pass(self, at: Situation) -> Passed:
        weight, bias = at.layer.weight, at.layer.bias
        up = weight + self.gamma * weight.clamp(min=0)
        bias_up = None if bias is None else bias + self.gamma * bias.clamp(min=0)
        if not self.generalised or (at.nonnegative and at.positive):
            return _shared(at, [(at.a, up)], bias_up, at.relevance)
        down = weight + self.gamma * weight.clamp(max=0)
        bias_down = None if bias is None else bias + self.gamma * bias.clamp(max=0)
        a, b = at.a.clamp(min=0), at.a.clamp(max=0)
        if at.positive:
            return _shared(at, [(a, up), (b, down)], bias_up, at.relevance)
        above = _shared(at, [(a, up), (b, down)], bias_up, at.relevance * (at.z > 0))
        below = _shared(at, [(a, down), (b, up)], bias_down, at.relevance * (at.z < 0))
        return Passed(above.relevance + below.relevance, above.lost + below.lost + _total(at.relevance * (at.z == 0)))


@frozen
class AlphaBeta(Rule):
    """LRP-alpha-beta: alpha times the positive contributions' shares less beta times the negative ones'."""

    name: ClassVar[str] = "alpha-beta"

    alpha: NonNegative = 2.0
    beta: NonNegative = 1.0

    def __post_init__(self) -> None:
        if abs(self.alpha - self.beta - 1) > 1e-9:
            raise SettingError(f"alpha-beta: alpha={self.alpha}, beta={self.beta}; expected alpha - beta = 1.")

    def _pass(self, at: Situation) -> Passed:
        positive = _signed(at, 1)
        if not self.beta:
            return Passed(self.alpha * positive.relevance, self.alpha * positive.lost)
        lower = _scaled(positive.relevance, self.alpha)
        negative = _signed(at, -1)
        lower = _plus(lower, _scaled(negative.relevance, -self.beta))
        return Passed(lower, self.alpha * positive.lost - self.beta * negative.lost)


@frozen
class ZPlus(Rule):
    """z+: alpha-beta with alpha 1 and beta 0; negative contributions get nothing."""

    name: ClassVar[str] = "z-plus"

    def _pass(self, at: Situation) -> Passed:
        return _signed(at, 1)


@frozen
class ZBox(Rule):
    """z-box, for pixels from `low` to `high`: a_j w_jk - low_j w_jk+ - high_j w_jk-, without the bias.

    Bounds are numbers, one per channel (c,), or of a sample's shape; None takes each sample's own extremes.
    """

    name: ClassVar[str] = "z-box"
    feeds_zeros: ClassVar[bool] = True

    low: float | Array | None = None
    high: float | Array | None = None

    def _pass(self, at: Situation) -> Passed:
        low, high = _bound(self.low, at.a, torch.amin), _bound(self.high, at.a, torch.amax)
        beyond = bool((at.a < low - _SLACK).any() or (at.a > high + _SLACK).any())
        if beyond:
            raise InputError(f"inputs reach beyond low={self.low}, high={self.high}; expected bounds of every pixel.")
        weight = at.layer.weight
        plus, minus = weight.clamp(min=0), weight.clamp(max=0)
        constant = at.layer.up(low, plus) + at.layer.up(high, minus)
        bias = at.layer.bias
        z = at.z - constant if bias is None else at.z - (constant + _like(bias, constant, at.layer))
        return _shared(at, [(at.a - low, plus), (at.a - high, minus)], None, at.relevance, z=z)


@frozen
class WSquare(Rule):
    """w^2: w_jk^2 / sum_j w_jk^2, whatever the inputs are."""

    name: ClassVar[str] = "w-square"
    feeds_zeros: ClassVar[bool] = True

    def _pass(self, at: Situation) -> Passed:
        return _shared(at, [(torch.ones_like(at.a[:1]), at.layer.weight.square())], None, at.relevance)


@frozen
class Flat(Rule):
    """Flat: every input that a neuron sees gets the same."""

    name: ClassVar[str] = "flat"
    feeds_zeros: ClassVar[bool] = True

    def _pass(self, at: Situation) -> Passed:
        return _shared(at, [(torch.ones_like(at.a[:1]), torch.ones_like(at.layer.weight))], None, at.relevance)


@frozen
class Pass(Rule):
    """Relevance stays where it is: for layers that map each neuron to one."""

    name: ClassVar[str] = "pass"
    feeds_zeros: ClassVar[bool] = True

    def _pass(self, at: Situation) -> Passed:
        return Passed(at.relevance, at.relevance.new_zeros(len(at.relevance)))


RULES: dict[str, type[Rule]] = {
    rule.name: rule for rule in (Zero, Epsilon, Gamma, AlphaBeta, ZPlus, ZBox, WSquare, Flat, Pass)
}


def _signed(at: Situation, sign: int) -> Passed:
    """The contributions of one sign alone."""
    weight, bias = at.layer.weight, at.layer.bias
    rest = None if bias is None else _of_sign(bias, sign)
    if at.nonnegative:
        return _shared(at, [(at.a, _of_sign(weight, sign))], rest, at.relevance, sign=sign)
    parts = [(_of_sign(at.a, each), _of_sign(weight, each * sign)) for each in (1, -1)]
    return _shared(at, parts, rest, at.relevance, sign=sign)


def _of_sign(values: Tensor, sign: int) -> Tensor:
    return values.clamp(min=0) if sign > 0 else values.clamp(max=0)


def _shared(
    at: Situation,
    parts: _Parts,
    rest: Tensor | None,
    relevance: Tensor,
    epsilon: float | Tensor = _STABILIZER,
    z: Tensor | None = None,
    sign: int = 0,
) -> Passed:
    """Relevance shared by the contributions of parts (inputs, weights) and a rest (a bias).

    z is their sum, computed unless it is given; `sign` says that it has this sign everywhere.
    """
    layer = at.layer
    if z is None:
        (a, weight), *others = parts
        z = layer.up(a, weight, rest)
        for a, weight in others:
            z = _plus(z, layer.up(a, weight))
    whole = _total(relevance) if at.accounts else relevance.new_zeros(len(relevance))
    s = quotient(relevance, z, epsilon, sign)
    lost = whole - _dot(s, z) if at.accounts else whole
    del z  # the largest tensors of the sweep: none lives longer than it is read
    if rest is not None and at.accounts:
        lost = lost + layer.of_bias(s, rest)
    (a, weight), *others = parts
    lower = _times(layer.down(s, weight, a), a)
    for a, weight in others:
        lower = _plus(lower, _times(layer.down(s, weight, a), a))
    return Passed(lower, lost)


def quotient(relevance: Tensor, z: Tensor, epsilon: float | Tensor = _STABILIZER, sign: int = 0) -> Tensor:
    """relevance / (z + epsilon sign(z)), with sign(0) = 1; `sign` where all of z has one, or counts only there.

    With epsilon 0, it is 0 where z is 0, to the last digits of the number format.
    """
    if isinstance(epsilon, (int, float)) and epsilon == 0:
        blank = z.abs() < _BLANK * torch.finfo(z.dtype).tiny
        return torch.where(blank, 0.0, relevance / torch.where(blank, 1.0, z))
    if sign:
        return _over(relevance, z + sign * epsilon)
    size = epsilon if isinstance(epsilon, Tensor) else z.new_tensor(epsilon)
    return _over(relevance, _plus(torch.copysign(size, z), z))


# Where no graph is recorded, fresh tensors are written over: half the memory, and less time.


def _plus(fresh: Tensor, other: Tensor) -> Tensor:
    return fresh + other if torch.is_grad_enabled() else fresh.add_(other)


def _times(fresh: Tensor, other: Tensor) -> Tensor:
    return fresh * other if torch.is_grad_enabled() or len(fresh) < len(other) else fresh.mul_(other)


def _scaled(fresh: Tensor, number: float) -> Tensor:
    return fresh * number if torch.is_grad_enabled() else fresh.mul_(number)


def _over(above: Tensor, fresh: Tensor) -> Tensor:
    if torch.is_grad_enabled() or above.shape != fresh.shape:
        return above / fresh
    return torch.div(above, fresh, out=fresh)


def _total(values: Tensor) -> Tensor:
    return values.sum(tuple(range(1, values.ndim)))


def _dot(s: Tensor, z: Tensor) -> Tensor:
    """The sum of s * z over each sample, (n,)."""
    if torch.is_grad_enabled() or s.shape != z.shape:
        return _total(s * z)
    if s.ndim == 4 and s.is_contiguous(memory_format=torch.channels_last):
        s, z = s.permute(0, 2, 3, 1), z.permute(0, 2, 3, 1)  # flat without a copy
    return torch.linalg.vecdot(s.flatten(1), z.flatten(1))


def _like(bias: Tensor, z: Tensor, layer: Affine) -> Tensor:
    """A bias (upper,) in a shape that broadcasts over z."""
    on_last = layer.convolution is None and not layer.diagonal
    return bias if on_last else bias.view(-1, *[1] * (z.ndim - 2))


def _bound(bound: float | Tensor | None, a: Tensor, extreme: Callable[[Tensor, int], Tensor]) -> Tensor:
    """A bound as (1 or n, lower)."""
    if bound is None:
        return extreme(a.flatten(1), 1).view(-1, *[1] * (a.ndim - 1)).expand_as(a)
    value = torch.as_tensor(bound, dtype=a.dtype, device=a.device)
    if value.ndim == 1 and a.ndim > 2:
        value = value.view(-1, *[1] * (a.ndim - 2))
    return value.expand_as(a[:1]) if value.ndim < a.ndim else value
