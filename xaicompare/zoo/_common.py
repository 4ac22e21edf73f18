"""How the makers of models and data sets are called, and the data sets that others are made from."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

from xaicompare.registry import DATASETS
from xaicompare.settings import frozen
from xaicompare.zoo.images import Dataset, ImageArray

Base = Literal["digits", "mnist", "cifar10"]
"""A data set in memory that another is made from."""


def checked_settings(owner: str, maker: Callable[..., object], given: Mapping[str, object]) -> dict[str, Any]:
    """The settings to call `maker` with: the given ones checked by its signature, the others at their defaults.

    Raises:
        UnknownNameError: a setting that the maker does not have.
        SettingError: a value of the wrong type or out of range, or one that lacks.
    """
    known = [each for each in inspect.signature(maker, eval_str=True).parameters.values() if not _is_open(each)]
    types = {each.name: Any if each.annotation is each.empty else each.annotation for each in known}
    defaults = {each.name: each.default for each in known if each.default is not each.empty}
    checked: type = frozen(type(owner, (), {"__annotations__": types, **defaults}))
    settings = checked(**given)
    return {name: getattr(settings, name) for name in types}


def _is_open(parameter: inspect.Parameter) -> bool:
    """Whether a parameter is `*args` or `**kwargs`, which name no setting."""
    return parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


def base_of(name: Base, *, download: bool) -> tuple[Dataset, ImageArray, ImageArray]:
    """The data set that another is made from, and its train and test part.

    Raises:
        DataError: its files are not there, or can't be read.
        UnknownNameError: `download` of one that comes with the installation.
    """
    maker = DATASETS[name]
    made = maker(**checked_settings(name, maker, {"download": True} if download else {}))
    assert isinstance(made, Dataset)
    assert isinstance(made.train, ImageArray)
    assert isinstance(made.test, ImageArray)
    return made, made.train, made.test
