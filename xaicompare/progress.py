"""Progress bars for long work: one place that decides when to show them [only home of tqdm]."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")


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
    bar = tqdm(steps, desc=what, total=total, unit=unit, delay=1.0, leave=False, disable=None, unit_scale=bool(weight))
    return bar if weight is None else _weighed(bar, steps, weight)


def _weighed(bar: tqdm, steps: Iterable[T], weight: Callable[[T], int]) -> Iterator[T]:
    with bar:
        for step in steps:
            bar.update(weight(step))
            yield step
