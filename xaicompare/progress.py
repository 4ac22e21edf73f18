"""Progress bars for long work: one place that decides when to show them [only home of tqdm]."""

from collections.abc import Iterable
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")


def progress(steps: Iterable[T], what: str, *, total: int | None = None, unit: str = "it") -> Iterable[T]:
    """Iterates over the steps with a bar on standard error.

    Shown only on a terminal (or in a notebook), and only for work that takes longer than a second: short calls in a
    loop stay silent. The bar disappears when it is done.
    """
    return tqdm(steps, desc=what, total=total, unit=unit, delay=1.0, leave=False, disable=None)
