"""Where data lie, and where our own files go."""

from collections.abc import Callable, Sequence
from pathlib import Path

from xaicompare.errors import DataError
from xaicompare.files import cache_root, named_folder


def data_root() -> Path:
    """The folder of data and weights that are only read: `XAICOMPARE_DATA`, else `data` in the cache."""
    return named_folder("XAICOMPARE_DATA", cache_root() / "data")


def roots_with(files: Sequence[str]) -> list[Path]:
    """Which folders hold all these files, of the data root and the one in the cache that downloads go to."""
    return [root for root in (data_root(), _download_root()) if all((root / file).exists() for file in files)]


def root_with(files: Sequence[str], what: str, *, fetch: Callable[[Path], object] | None) -> Path:
    """The folder that holds all files of a data set.

    Args:
        fetch: downloads them into the folder it is given, where they are absent; None: don't.

    Raises:
        DataError: they are absent and not to be fetched, or can't be; the message says what belongs where.
    """
    for root in roots_with(files):
        return root
    expected = f"expected {', '.join(files)} in {data_root()}"
    remedy = f"Put it there, or set XAICOMPARE_DATA to the folder that holds {files[0].split('/')[0]}"
    if fetch is None:
        raise DataError(f"{what} is not there; {expected}. {remedy}, or say download=True.")
    try:
        fetch(_download_root())
    except (OSError, RuntimeError) as error:
        raise DataError(f"{what} can't be downloaded ({error}); {expected}. {remedy}.") from error
    return _download_root()


def located(path: str | Path, what: str) -> Path:
    """The file or folder of that path: an absolute one, or one below the current folder or the data root.

    Raises:
        DataError: it is in none of these places; `what` says in the message what was looked for.
    """
    wanted = Path(path).expanduser()
    for candidate in (wanted, data_root() / wanted):
        if candidate.exists():
            return candidate
    where = "" if wanted.is_absolute() else f" below {Path.cwd()} or {data_root()}"
    raise DataError(
        f"{what} {str(path)!r} does not exist{where}; expected a file or folder. "
        "Correct the path, or set XAICOMPARE_DATA to the folder that it starts from."
    )


def _download_root() -> Path:
    return cache_root() / "data"  # the data root may be read-only
