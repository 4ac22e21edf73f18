"""A quick look: the same study with fewer images and samples, for a first impression in a fraction of the time."""

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from xaicompare.registry import METHODS, METRICS, Registry

MOST = {"images": 16, "references": 4, "grid_images": 4}
"""What a quick study has at most of each; see `Study`."""

SAMPLES = ("n_samples", "n_steps", "n_subsets", "n_baselines")
"""The settings of methods and metrics that are at most a quarter of their defaults, rounded up."""

TOLD = (
    "A quick look: fewer images, and fewer samples for methods and metrics that draw them, so that maps are noisier "
    "and fewer methods can be told apart. Run the study without `quick` before you rely on it."
)
"""What results say of it."""


def quickened(content: Mapping[str, Any], defaults: Mapping[str, object]) -> dict[str, Any]:
    """The tables of a study file with smaller numbers; what is no number is left to whoever checks it.

    Args:
        defaults: what a file without a key means.
    """
    fewer = {name: _at_most(content.get(name, defaults[name]), most) for name, most in MOST.items()}
    listed = (("methods", METHODS), ("metrics", METRICS))
    entries = {table: _entries(content[table], known) for table, known in listed if table in content}
    return {**content, **fewer, **entries}


def quick_folder(folder: Path) -> Path:
    """The folder for the quick look at a study whose results go, or will go, to another.

    >>> quick_folder(Path("runs/digits")).as_posix()
    'runs/digits-quick'
    """
    place = folder if folder.name not in ("", "..") else folder.resolve()
    return place.with_name(f"{place.name}-quick")


def _entries(given: object, known: Registry[Any]) -> object:
    return [_entry(entry, known) for entry in given] if isinstance(given, list) else given


def _entry(given: object, known: Registry[Any]) -> object:
    entry = {"name": given} if isinstance(given, str) else given
    if not isinstance(entry, Mapping) or entry.get("name") not in known.names():
        return given
    made: Any = known[entry["name"]]
    found = {field.name: field.default for field in fields(made) if field.name in SAMPLES}
    fewer = {
        name: _at_most(entry.get(name, default), math.ceil(default / 4))
        for name, default in found.items()
        if isinstance(default, int)
    }
    return {**entry, **fewer}


def _at_most(value: object, most: int) -> object:
    return min(value, most) if isinstance(value, int) and not isinstance(value, bool) else value
