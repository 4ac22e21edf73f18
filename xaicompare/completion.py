"""What the Tab key offers. Nobody waits for Tab, so names are kept in a file, and torch is imported only to make it."""

import hashlib
import json
import os
from contextlib import suppress
from importlib.metadata import entry_points, version
from pathlib import Path

from xaicompare.errors import DataError
from xaicompare.files import cache_root, replacing

_KINDS = ("methods", "metrics", "models", "datasets")


def one(kind: str, incomplete: str) -> list[str]:
    """The names of a kind ("methods", "metrics", "models" or "datasets") that begin so."""
    return [name for name in names()[kind] if name.startswith(incomplete)]


def many(kind: str, incomplete: str) -> list[str]:
    """Lists with commas whose last name begins so; no name comes twice."""
    before, comma, last = incomplete.rpartition(",")
    given = {name.strip() for name in before.split(",")}
    return [before + comma + name for name in one(kind, last.strip()) if name not in given]


def files(suffix: str | None, incomplete: str) -> list[str]:
    """Folders, and files with that suffix, whose path begins so; no files where it is None.

    A folder that is the only choice is entered: its contents are the choices.
    """
    folder, start = os.path.split(incomplete)
    here = Path(folder or ".")
    entries = sorted(here.iterdir()) if here.is_dir() else []
    seen = [entry for entry in entries if entry.name.startswith(start) and entry.name[0] != "."]
    found = [os.path.join(folder, entry.name) + os.sep for entry in seen if entry.is_dir()]
    found += [os.path.join(folder, entry.name) for entry in seen if entry.is_file() and entry.suffix == suffix]
    if len(found) == 1 and found[0].endswith(os.sep):
        return files(suffix, found[0]) or found
    return found


def model_names(incomplete: str) -> list[str]:
    """Networks."""
    return one("models", incomplete)


def dataset_names(incomplete: str) -> list[str]:
    """Data sets."""
    return one("datasets", incomplete)


def method_lists(incomplete: str) -> list[str]:
    """Methods, with commas."""
    return many("methods", incomplete)


def metric_lists(incomplete: str) -> list[str]:
    """Metrics, with commas."""
    return many("metrics", incomplete)


def study_files(incomplete: str) -> list[str]:
    """TOML files."""
    return files(".toml", incomplete)


def folders(incomplete: str) -> list[str]:
    """Folders."""
    return files(None, incomplete)


def names() -> dict[str, list[str]]:
    """Every name that is registered, by kind; from a file in the cache, unless the installation has changed since."""
    place, state = cache_root() / "names.json", _state()
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(place.read_text(encoding="utf-8"))
        if content["state"] == state:
            return {kind: list(content["names"][kind]) for kind in _KINDS}
    found = _registered()
    with suppress(DataError), replacing(place) as path:  # a cache that can't be written makes Tab slow, no more
        path.write_text(json.dumps({"state": state, "names": found}), encoding="utf-8")
    return found


def _registered() -> dict[str, list[str]]:
    import xaicompare.methods
    import xaicompare.metrics
    import xaicompare.zoo  # noqa: F401 (all three register their names)
    from xaicompare.registry import DATASETS, METHODS, METRICS, MODELS

    known = (METHODS.names(), METRICS.names(), MODELS.names(), DATASETS.names())
    return dict(zip(_KINDS, known, strict=True))


def _state() -> str:
    """A digest of what names depend on: this package's files, torchvision, and what other packages add."""
    known = sorted(f"{path} {path.stat().st_mtime_ns}" for path in Path(__file__).parent.rglob("*.py"))
    added = sorted(str(point) for kind in _KINDS for point in entry_points(group=f"xaicompare.{kind}"))
    return hashlib.blake2b("\n".join([version("torchvision"), *known, *added]).encode(), digest_size=8).hexdigest()
