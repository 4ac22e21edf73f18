"""One attribution in one file of safetensors: its columns as tensors, its method as text, nothing that runs."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import xaicompare.methods  # noqa: F401 (registers the methods)
from xaicompare.core import Attribution, Method
from xaicompare.errors import DataError, XaiCompareError
from xaicompare.files import replacing
from xaicompare.lrp.composite import Composite
from xaicompare.lrp.rules import Rule
from xaicompare.registry import METHODS

_KIND = "xaicompare.Attribution 1"
_COLUMNS = ("values", "inputs", "target", "score")  # and residual, where the method promises completeness
_SETTING = "setting."  # before the number of a tensor among the settings


def save(attribution: Attribution, path: str | Path) -> Path:
    """Writes an attribution, as `Attribution.save` says."""
    path, columns = Path(path), {name: getattr(attribution, name) for name in _COLUMNS}
    if attribution.residual is not None:
        columns["residual"] = attribution.residual
    name, settings = _told(attribution.method, columns)
    tensors = {key: column.detach().cpu().contiguous().clone() for key, column in columns.items()}
    told = {"kind": _KIND, "method": name, "settings": settings, "seconds": repr(float(attribution.seconds))}
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt", **told})
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} can't be written ({error}); expected the path of a file, and free space.") from error
    return path


def load(path: str | Path) -> Attribution:
    """Reads an attribution, as `Attribution.load` says."""
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()} if told.get("kind") == _KIND else {}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} can't be read ({error}); expected a file that Attribution.save wrote.") from error
    if missing := [name for name in _COLUMNS if name not in tensors]:
        raise DataError(f"{path} has no {', '.join(missing)} of an attribution; expected what Attribution.save wrote.")
    try:
        maker, settings = METHODS[told["method"]], _read(json.loads(told["settings"]), tensors)
        method, seconds = maker(**settings), float(told["seconds"])
    except XaiCompareError as error:
        raise DataError(f"{path}: {error} Its method is not known here with these settings.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error!r}); expected what Attribution.save wrote.") from error
    columns = {name: tensors[name] for name in _COLUMNS}
    return Attribution(**columns, method=method, residual=tensors.get("residual"), seconds=seconds)


def _told(method: Method, tensors: dict[str, Tensor]) -> tuple[str, str]:
    """Name and settings of a method as text; tensors among the settings go to the others."""
    if method.name not in METHODS or METHODS[method.name] is not type(method):
        raise XaiCompareError(
            f"{method!r} can't be saved; expected a registered method. See xaicompare.registry.method."
        )
    return method.name, json.dumps({name: _written(value, tensors) for name, value in _fields(method).items()})


def _fields(settings: Any) -> dict[str, object]:
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings) if field.init}


def _written(value: Any, tensors: dict[str, Tensor]) -> object:
    """A setting as JSON; what JSON has no word for is an object of one key, which says what it is."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        key = f"{_SETTING}{len(tensors)}"
        tensors[key] = value
        return {"tensor": key}
    if isinstance(value, (tuple, list)):
        return {type(value).__name__: [_written(each, tensors) for each in value]}
    if isinstance(value, Mapping):
        return {"mapping": {str(key): _written(each, tensors) for key, each in value.items()}}
    for name, known in _lrp_classes().items():
        if type(value) is known:
            return {"lrp": [name, {field: _written(each, tensors) for field, each in _fields(value).items()}]}
    raise XaiCompareError(f"the setting {value!r} can't be saved; expected numbers, text, tensors or rules of LRP.")


def _read(settings: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any]:
    """What `_written` made of settings, by name."""
    return {name: _value(written, tensors) for name, written in settings.items()}


def _value(written: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(written, dict):
        return written
    ((kind, content),) = written.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "tuple" | "list":
            values = [_value(each, tensors) for each in content]
            return values if kind == "list" else tuple(values)
        case "mapping":
            return _read(content, tensors)
        case "lrp":
            return _lrp_classes()[content[0]](**_read(content[1], tensors))
    raise ValueError(f"unknown kind of setting {kind!r}")


def _lrp_classes() -> dict[str, Any]:
    """Composite and our own rules by name; a rule of a user is not there when another process loads it."""
    ours: list[Any] = [rule for rule in Rule.__subclasses__() if rule.__module__ == Rule.__module__]
    return {cls.__name__: cls for cls in [Composite, *ours]}
