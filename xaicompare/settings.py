"""Settings: frozen dataclasses whose values are checked when they are made [only home of pydantic].

Methods, metrics and study files share them, so that a wrong value reads the same wherever it was written.
"""

import dataclasses
import hashlib
import re
from abc import ABC
from difflib import get_close_matches
from itertools import pairwise
from typing import Annotated, Any, ClassVar, TypeVar, dataclass_transform

import pydantic
import torch
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor

from xaicompare.errors import SettingError, UnknownNameError, unknown

T = TypeVar("T")


def _not_bool(value: object) -> object:
    """True and False are ints in Python; as a number of samples they are a slip."""
    if isinstance(value, bool):
        raise ValueError("Input should be a number, not True or False")
    return value


Count = Annotated[int, Field(ge=1), BeforeValidator(_not_bool)]
"""A whole number of at least 1."""
Whole = Annotated[int, Field(ge=0), BeforeValidator(_not_bool)]
"""A whole number of at least 0."""
BatchSize = Annotated[int, Field(ge=1), BeforeValidator(_not_bool)]
"""The largest number of images in one forward pass; bounds the memory, never changes the values."""
Seed = Annotated[int, Field(ge=0), BeforeValidator(_not_bool)]
"""Fixes all random draws; the global random state is neither read nor moved."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A finite number above 0."""
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A finite number of at least 0."""
Share = Annotated[float, Field(ge=0, le=1)]
"""A share of the whole, from 0 to 1."""

Part = Annotated[float, Field(ge=0, lt=1)]
"""A share that leaves some of the whole: from 0 to below 1."""


def _rising(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) == 0 or any(later <= earlier for earlier, later in pairwise(values)):
        raise ValueError("Input should be at least one share, each greater than the one before")
    return values


Shares = Annotated[tuple[Share, ...], AfterValidator(_rising)]
"""Shares of the whole in rising order."""
Word = Annotated[str, Field(max_length=200)]
"""A short text, such as the name of a layer."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
"""A finite number."""


def _as_tensor(value: object) -> object:
    """Lists of numbers become tensors: TOML has no other way to write one."""
    if isinstance(value, (list, tuple)):
        try:
            return torch.tensor(value, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError):
            return value
    return value


Array = Annotated[Tensor, BeforeValidator(_as_tensor)]
"""A tensor, or nested lists of numbers that make one."""


class Settings(ABC):
    """What methods and metrics have in common: a name, and fields that are all their settings."""

    name: ClassVar[str]

    def __repr__(self) -> str:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        shown = ", ".join(f"{field.name}={_short(getattr(self, field.name))}" for field in fields)
        return f"{type(self).__name__}({shown})"

    def changed(self) -> dict[str, object]:
        """The settings that differ from their defaults, by name: what tells two variants apart."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        values = {field.name: getattr(self, field.name) for field in fields}
        return {f.name: values[f.name] for f in fields if _differs(values[f.name], f.default)}

    def label(self) -> str:
        """The name, with the changed settings in brackets: `lrp(composite=zero)`."""
        changed = ", ".join(f"{key}={_short(value).strip(chr(39))}" for key, value in self.changed().items())
        return f"{self.name}({changed})" if changed else self.name


def _differs(value: object, default: object) -> bool:
    return isinstance(value, Tensor) or value != default


def _short(value: object) -> str:
    """The value as a repr and a label show it; tensors that differ must look different, also large ones."""
    if not isinstance(value, Tensor):
        return repr(value)
    numbers = value.detach().cpu().contiguous()
    if numbers.ndim == 1 and len(numbers) <= 4:
        return f"[{', '.join(format(number, '.7g') for number in numbers.tolist())}]"
    content = hashlib.blake2b(numbers.view(-1).view(torch.uint8).numpy().tobytes(), digest_size=3)
    return f"Tensor{tuple(value.shape)}#{content.hexdigest()}"


@dataclass_transform(frozen_default=True, kw_only_default=True)
def frozen(cls: type[T]) -> type[T]:
    """Turns a class into a frozen dataclass with keyword-only fields, whose values are checked by their types.

    A wrong value raises `SettingError`, an unknown name `UnknownNameError`, both in the same words everywhere.
    """
    config = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    own_repr = "__repr__" in vars(cls) or issubclass(cls, Settings)
    made: Any = checked_dataclass(cls, frozen=True, kw_only=True, repr=not own_repr, config=config)
    init = made.__init__

    def __init__(self: T, **settings: Any) -> None:
        try:
            init(self, **settings)
        except pydantic.ValidationError as error:
            raise _in_our_words(cls, error) from None

    made.__init__ = __init__
    return made


def _in_our_words(cls: type, error: pydantic.ValidationError) -> SettingError | UnknownNameError:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"][:1])
    owner = getattr(cls, "name", cls.__name__)
    if first["type"] == "value_error" and isinstance(first["ctx"]["error"], SettingError):
        return first["ctx"]["error"]
    if first["type"] == "unexpected_keyword_argument":
        return unknown(f"setting of {owner}", where, setting_names(cls))
    if first["type"] == "missing":
        return SettingError(f"{owner} lacks {where!r}; expected a value for it.")
    messages = {entry["msg"] for entry in error.errors() if entry["loc"][:1] == first["loc"][:1]}
    expected = " or ".join(sorted(message.removeprefix("Input should be ") for message in messages))
    near = get_close_matches(str(first["input"]), re.findall("'([^']+)'", expected), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return SettingError(f"{owner}: {where}={first['input']!r}; expected {expected}.{hint}")


def setting_names(cls: type) -> list[str]:
    """The names of all settings of a class made by `frozen`."""
    return [field.name for field in dataclasses.fields(cls)]
