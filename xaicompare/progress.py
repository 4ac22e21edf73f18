"""Progress bars for long work: one place that decides when to show them [only home of tqdm]."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")

_hushed: list[None] = []  # one for each open `hushed`


def progress(
    steps: Iterable[T],
    what: str,
    *,
    total: int | None = None,
    unit: str = "it",
    weight: Callable[[T], int] | None = None,
) -> Iterable[T]:
    """Iterates over the steps with a bar on standard error.

    Shown only on a terminal (or in a notebook), and only for work that takes longer than a second: short calls in a
    loop stay silent. The bar disappears when it is done.

    Args:
        weight: how much of the total a finished step is, where steps differ; None: 1.
    """
    shown = {"disable": True if _hushed else None, "delay": 1.0, "leave": False, "unit_scale": bool(weight)}
    bar = tqdm(steps, desc=what, total=total, unit=unit, **shown)
    return bar if weight is None else _weighed(bar, steps, weight)


@contextmanager
def hushed() -> Iterator[None]:
    """No new bars meanwhile: whoever shows how far the whole is needs none for its parts."""
    _hushed.append(None)
    try:
        yield
    finally:
        _hushed.pop()


def _weighed(bar: tqdm, steps: Iterable[T], weight: Callable[[T], int]) -> Iterator[T]:
    with bar:
        for step in steps:
            bar.update(weight(step))
            yield step
