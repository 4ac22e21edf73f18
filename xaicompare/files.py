"""Files that nobody ever reads half of, and the folder of those that are ours."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xaicompare.errors import DataError


@contextmanager
def replacing(path: Path, *, lasting: bool = False) -> Iterator[Path]:
    """A path to write to, which takes the name of `path` once all is written; its folder is made where absent.

    Whoever reads `path` meanwhile, or after a crash, finds the whole old file. After an exception nothing is left.

    Args:
        lasting: whole even when the power fails; some milliseconds, for what nobody else would find damaged.

    Raises:
        DataError: the folder can't be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    except OSError as error:
        raise DataError(
            f"{path} can't be written ({error}); expected a folder to write to. Choose another one: --out says where "
            "results go, XAICOMPARE_CACHE where weights and images are kept."
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp keeps its files private; a cache may be shared
        if lasting:
            _flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Has the system write a file to the disk, before its name tells that it is whole."""
    with path.open("rb+") as file:  # Windows flushes only what may be written
        os.fsync(file.fileno())


def cache_root() -> Path:
    """The folder of what we write, all of it replaceable: `XAICOMPARE_CACHE`, else `~/.cache/xaicompare`."""
    return named_folder("XAICOMPARE_CACHE", Path.home() / ".cache" / "xaicompare")


def named_folder(variable: str, default: Path) -> Path:
    """The folder that an environment variable names, else the default."""
    given = os.environ.get(variable)
    return Path(given).expanduser() if given else default
