"""Studies and training experiments that come with the package, by their names: `xaicompare run digits`."""

from pathlib import Path
from typing import Literal

from xaicompare.errors import unknown

Kind = Literal["suites", "training"]


def shipped(kind: Kind) -> dict[str, Path]:
    """The files by name: in an installation inside the package, in a checkout under benchmarks/."""
    package = Path(__file__).parents[1]
    places = (package / "shipped" / kind, package.parent / "benchmarks" / kind)
    folder = next((place for place in places if place.is_dir()), places[0])
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def asked_for(given: str | Path, kind: Kind) -> Path:
    """The file of that path; of a bare name that is no file, the one that comes with the package.

    Raises:
        UnknownNameError: a bare name that nothing has.
    """
    path = Path(given)
    if path.suffix or len(path.parts) != 1 or path.exists():
        return path
    known = shipped(kind)
    if path.name not in known:
        raise unknown("suite" if kind == "suites" else "experiment", path.name, known)
    return known[path.name]


def about(file: Path) -> str:
    """What the first lines of a file say of it: its first sentence."""
    words = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        words.append(line.lstrip("# "))
    first = " ".join(words).partition(". ")[0]
    return first if not first or first[-1] in ".?" else f"{first}."
