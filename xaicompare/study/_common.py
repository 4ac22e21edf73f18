"""What study files and experiment files share: tables, names in them, and errors that say where."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from xaicompare.errors import StudyError, XaiCompareError, unknown
from xaicompare.registry import Registry
from xaicompare.settings import Settings

T = TypeVar("T", bound=Settings)


def read(path: Path) -> tuple[dict[str, Any], str]:
    """The tables of a TOML file, and its text.

    Raises:
        StudyError: the file is absent, or no TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text), text
    except OSError as error:
        near = get_close_matches(path.name, (other.name for other in path.parent.glob("*.toml")), n=1)
        hint = f" Did you mean {str(path.with_name(near[0]))!r}?" if near else ""
        raise StudyError(f"{path} can't be read ({error.strerror}); expected a study file.{hint}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is no TOML: {error}") from error


def check_keys(content: Iterable[str], known: set[str]) -> None:
    """A key at the top level that no field has is told, with the nearest one."""
    for key in content:
        if key not in known:
            raise unknown("key", key, known)


@contextmanager
def in_table(table: str) -> Iterator[None]:
    """Errors say in which table of the file they are; what is already said inside stays."""
    try:
        yield
    except StudyError as error:
        raise StudyError(str(error) if table == "top level" else f"{table}: {error}") from error
    except XaiCompareError as error:
        raise StudyError(f"{table}: {error}") from error


def named(table: str, given: object, known: Registry[Any]) -> tuple[str, dict[str, Any]]:
    """Name and settings of an entry that is a name, or a table with one."""
    entry = {"name": given} if isinstance(given, str) else given
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise StudyError(f"[{table}] is {given!r}; expected a name, or a table with a name.")
    name, settings = entry["name"], {key: value for key, value in entry.items() if key != "name"}
    if name not in known:
        raise StudyError(f"[{table}] {known.unknown(name)}")
    return name, settings


_OF_THE_DATA = {
    "classes": ("classes", "numclasses", "nclasses", "numclass", "nclass", "numlabels", "outfeatures"),
    "channels": ("inchannels", "inchans", "channels", "numchannels", "nchannels", "inputchannels"),
}
"""What a network takes from its data set, and how other libraries spell it, without lines between words."""


def check_network(given: object) -> None:
    """Settings of a network may not name what its data set or recipe decides: classes, channels, seed.

    Raises:
        StudyError: they do.
    """
    for key, value in given.items() if isinstance(given, Mapping) else ():
        plain = str(key).lower().replace("_", "").replace("-", "")
        for noun, spellings in _OF_THE_DATA.items():
            if plain in spellings:
                way = " For a folder of images, write `classes` in [data]." if noun == "classes" else ""
                raise StudyError(
                    f"{key}={value!r} for a network; expected none, for it gets the {noun} of the data set. "
                    f"Leave it out.{way}"
                )
        if plain == "seed":
            raise StudyError(f"{key}={value!r} for a network; expected none. Write `seed` in the recipe.")


def entries(table: str, given: object) -> Sequence[object]:
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) == 0:
        raise StudyError(f"[{table}] is {given!r}; expected a list of names, or of tables with a name.")
    return given


def apart(given: Sequence[object], key: str) -> tuple[list[object], list[object]]:
    """The entries without a key, and what each says by it; None where it says nothing."""
    tables = [entry if isinstance(entry, Mapping) else None for entry in given]
    rest = [
        entry if table is None else {name: value for name, value in table.items() if name != key}
        for entry, table in zip(given, tables, strict=True)
    ]
    return rest, [None if table is None else table.get(key) for table in tables]


def labelled(table: str, given: object, registry: Registry[T]) -> dict[str, T]:
    """What the entries of a list stand for, by their labels: `label`, or name and changed settings."""
    built: dict[str, T] = {}
    for number, entry in enumerate(entries(table, given), start=1):
        name, settings = named(f"{table}, entry {number}", entry, registry)
        with in_table(f"[{table}, entry {number}]"):
            title = settings.pop("label", None)
            made = registry.build(name, **settings)
            label = made.label() if title is None else str(title)
            if not label.strip() or label != label.strip() or "\n" in label:
                raise StudyError(f"label {label!r}; expected a line of text.")
            if label in built:
                raise StudyError(f"label {label!r} is there twice; expected one label for each entry.")
            built[label] = made
    return built
