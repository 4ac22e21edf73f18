"""Which layer gets which rule."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from torch import Tensor

from xaicompare.errors import SettingError, UnsupportedModelError, unknown
from xaicompare.lrp.rules import (
    RULES,
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    Pass,
    Rule,
    WSquare,
    ZBox,
    Zero,
    ZPlus,
)

Kind = Literal["convolution", "dense", "normalisation"]


class Place(NamedTuple):
    """Where a layer with weights stands in the network."""

    name: str  # its path
    kind: Kind
    first: bool  # it reads the inputs
    from_top: int  # 0 for the output layer; normalisation isn't counted


@dataclass(frozen=True)
class Composite:
    """Rules by kind, by place and by name; a later line of this list outweighs those before it.

    >>> Composite(first=Flat(), convolution=ZPlus()).rule(Place("0", "convolution", True, 2))
    Flat()
    """

    convolution: Rule = field(default_factory=Epsilon)
    dense: Rule = field(default_factory=Epsilon)
    normalisation: Rule = field(default_factory=Pass)  # BatchNorm that can't be merged with the layer before it
    from_top: tuple[Rule, ...] = ()  # of the layers from the output down
    first: Rule | None = None  # of the layers that read the inputs
    named: Mapping[str, Rule] = field(default_factory=dict)  # by path, with * and ? as in file names
    max_pooling: Literal["winner", "average"] = "winner"
    attention: Literal["constant", "follow"] = "constant"  # the weights of attention: part of the way, or of the reason

    def rule(self, place: Place) -> Rule:
        """The rule of one layer."""
        for pattern, rule in reversed(list(self.named.items())):
            if fnmatchcase(place.name, pattern):
                return rule
        if place.kind == "normalisation":
            return self.normalisation
        if self.first is not None and place.first:
            return self.first
        if place.from_top < len(self.from_top):
            return self.from_top[place.from_top]
        return self.convolution if place.kind == "convolution" else self.dense

    def rules(self, places: Sequence[Place]) -> list[Rule]:
        """The rule of every layer.

        Raises:
            UnsupportedModelError: a name that no layer has.
        """
        for pattern in self.named:
            if not any(fnmatchcase(place.name, pattern) for place in places):
                names = ", ".join(place.name for place in places)
                raise UnsupportedModelError(f"the composite names {pattern!r}; expected one of the layers {names}.")
        return [self.rule(place) for place in places]


@dataclass(frozen=True)
class Numbers:
    """The numbers that named composites use."""

    epsilon: float = 1e-6
    gamma: float = 0.25
    alpha: float = 2.0
    beta: float = 1.0
    low: float | Tensor | None = None
    high: float | Tensor | None = None


def _everywhere(rule: Rule, normalisation: Rule | None = None) -> Composite:
    return Composite(rule, rule, normalisation or Pass())


def _vgg16_layers(n: Numbers) -> Composite:
    """VGG-16 as layers 0 to 37: its convolutions are at these places, the classifier from 31 up."""
    low, middle = (2, 5, 7, 10, 12, 14), (17, 19, 21, 24, 26, 28)
    spread = Epsilon(epsilon=0.25, of="rms")
    named: dict[str, Rule] = {"features.0": ZBox(low=n.low, high=n.high)}
    named |= {f"features.{place}": Gamma(gamma=n.gamma) for place in low}
    named |= {f"features.{place}": spread for place in middle}
    return Composite(dense=Zero(), named=named | {"classifier*": Zero()}, max_pooling="average")


def _mnist_mlp(n: Numbers) -> Composite:
    gamma = Gamma(gamma=n.gamma)
    top = (Zero(), Epsilon(epsilon=0.1, of="std"))
    return Composite(gamma, gamma, from_top=top, first=ZBox(low=n.low, high=n.high))


NAMED: dict[str, Callable[[Numbers], Composite]] = {
    "zero": lambda n: _everywhere(Zero(), Zero()),
    "epsilon": lambda n: _everywhere(Epsilon(epsilon=n.epsilon), Epsilon(epsilon=n.epsilon)),
    "gamma": lambda n: _everywhere(Gamma(gamma=n.gamma)),
    "alpha-beta": lambda n: _everywhere(AlphaBeta(alpha=n.alpha, beta=n.beta)),
    "z-plus": lambda n: _everywhere(ZPlus()),
    "z-box": lambda n: Composite(
        Epsilon(epsilon=n.epsilon), Epsilon(epsilon=n.epsilon), first=ZBox(low=n.low, high=n.high)
    ),
    "w-square": lambda n: _everywhere(WSquare()),
    "flat": lambda n: _everywhere(Flat()),
    "epsilon-plus": lambda n: Composite(ZPlus(), Epsilon(epsilon=n.epsilon)),
    "epsilon-plus-flat": lambda n: Composite(ZPlus(), Epsilon(epsilon=n.epsilon), first=Flat()),
    "epsilon-gamma-box": lambda n: Composite(
        Gamma(gamma=n.gamma), Epsilon(epsilon=n.epsilon), first=ZBox(low=n.low, high=n.high)
    ),
    "epsilon-alpha2-beta1": lambda n: Composite(AlphaBeta(), Epsilon(epsilon=n.epsilon)),
    "epsilon-alpha2-beta1-flat": lambda n: Composite(AlphaBeta(), Epsilon(epsilon=n.epsilon), first=Flat()),
    "attnlrp": lambda n: Composite(Gamma(gamma=n.gamma), Gamma(gamma=n.gamma), attention="follow"),
    "mnist-mlp": _mnist_mlp,
    "vgg16-layers": _vgg16_layers,
}
"""Composites by name. Those that begin with "epsilon-" are Zennit's of that name."""


def composite(given: str | Composite | Mapping[str, Any], numbers: Numbers | None = None) -> Composite:
    """A composite from its name, or from a mapping as TOML writes it.

    >>> composite({"first": "flat", "convolution": {"rule": "gamma", "gamma": 0.1}, "dense": "epsilon"}).first
    Flat()

    Raises:
        UnknownNameError, SettingError: an unknown composite, rule, part or setting.
    """
    if isinstance(given, Composite):
        return given
    if isinstance(given, str):
        if given not in NAMED:
            raise unknown("composite", given, NAMED)
        return NAMED[given](numbers or Numbers())
    if not isinstance(given, Mapping):
        raise SettingError(
            f"composite={given!r}; expected a name, a Composite, or a mapping such as {{'first': 'flat'}}."
        )
    parts = {entry: _part(entry, value) for entry, value in given.items()}
    return Composite(**parts)


_CHOICES = {"max_pooling": ("winner", "average"), "attention": ("constant", "follow")}


def _part(entry: str, value: Any) -> Any:
    known = list(Composite.__dataclass_fields__)
    if entry not in known:
        raise unknown("part of a composite", entry, known)
    if entry in _CHOICES:
        if value not in _CHOICES[entry]:
            first, second = _CHOICES[entry]
            raise SettingError(f"composite: {entry}={value!r}; expected {first!r} or {second!r}.")
        return value
    expected = {"from_top": (list, tuple), "named": Mapping}.get(entry)
    if expected is not None and not isinstance(value, expected):  # type: ignore[arg-type]
        raise SettingError(
            f"composite: {entry}={value!r}; expected a {'list of rules' if entry == 'from_top' else 'table'}."
        )
    if entry == "from_top":
        return tuple(rule_from(each) for each in value)
    if entry == "named":
        return {name: rule_from(each) for name, each in value.items()}
    return rule_from(value)


def rule_from(given: str | Rule | Mapping[str, Any]) -> Rule:
    """A rule from its name, or from a mapping with its name under "rule" and its settings.

    Raises:
        UnknownNameError, SettingError: an unknown rule or setting.
    """
    if isinstance(given, Rule):
        return given
    if not isinstance(given, (str, Mapping)) or (isinstance(given, Mapping) and "rule" not in given):
        raise SettingError(f"rule {given!r}; expected a name, or a table with the name under 'rule'.")
    settings = {} if isinstance(given, str) else dict(given)
    name = given if isinstance(given, str) else settings.pop("rule", None)
    if name not in RULES:
        raise unknown("rule", str(name), RULES)
    return RULES[name](**settings)
