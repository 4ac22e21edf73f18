"""How the makers of models and data sets are called."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from xaicompare.settings import frozen


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
