"""What a number depends on beside its study file: command, versions, commit, machine."""

import platform
import shlex
import subprocess
import sys
from pathlib import Path

import torch

from xaicompare.study.fingerprint import VERSIONED, version_of


def surroundings() -> dict[str, object]:
    """What stands beside every set of results."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {platform.system()}, {torch.get_num_threads()} threads",
        "versions": {name: version_of(name) for name in VERSIONED},
    }


def _commit() -> str | None:
    """The commit of the checkout that this package runs from, with a + where it was changed since."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    command = ("git", "-C", str(checkout), "describe", "--always", "--dirty=+", "--abbrev=12")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
