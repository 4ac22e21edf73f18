"""On which device a process works: each takes one for itself as long as there are enough."""

import getpass
import itertools
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO

import torch

from xaicompare.errors import StudyError

DEVICES = ("cpu", "cuda", "auto")
"""What may be asked for; "auto": CUDA devices where there are some, else the CPU."""

_held: list[IO[str]] = []  # locked files, for as long as this process lives


def devices(wanted: str) -> tuple[str, ...]:
    """The devices of this machine of the wanted kind.

    Raises:
        StudyError: no such kind, or no device of it.

    >>> devices("cpu")
    ('cpu',)
    """
    if wanted not in DEVICES:
        raise StudyError(f"device={wanted!r}; expected one of {', '.join(DEVICES)}.")
    count = 0 if wanted == "cpu" else torch.cuda.device_count()
    if wanted == "cuda" and count == 0:
        raise StudyError('device="cuda", and this machine has no such device; expected one. Use "auto" or "cpu".')
    return tuple(f"cuda:{number}" for number in range(count)) or ("cpu",)


def own(found: Sequence[str]) -> str:
    """The device of this process: that of its place among those that look for one, and from the first again.

    >>> own(["cpu"])
    'cpu'
    """
    return found[0] if len(found) == 1 else found[_place(Path(tempfile.gettempdir())) % len(found)]


@cache
def _place(folder: Path) -> int:
    """The least number that no other living process of this user and machine has."""
    import fcntl  # not on Windows, which has no need of it: there is one device

    for number in itertools.count():
        file = (folder / f"xaicompare-{getpass.getuser()}-{number}.lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when the process ends
        except BlockingIOError:
            file.close()
            continue
        _held.append(file)
        return number
    raise AssertionError
