"""Progress bars for long work: one place that decides when to show them [only home of tqdm]."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
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


def board(
    steps: Iterable[T], what: str, *, total: int, unit: str, lines: Callable[[], Sequence[str]], every: float = 1.0
) -> Iterator[T]:
    """Like `progress`, with lines of text below the bar that are looked up anew every so many seconds."""
    bar = progress(steps, what, total=total, unit=unit)
    if getattr(bar, "disable", True):
        yield from bar
        return
    over = threading.Event()
    teller = threading.Thread(target=_tell, args=(lines, over, every), daemon=True)
    teller.start()
    try:
        yield from bar
    finally:
        over.set()
        teller.join()


def _tell(lines: Callable[[], Sequence[str]], over: threading.Event, every: float) -> None:
    shown: list[tqdm] = []
    while not over.wait(every):
        told = lines()
        while len(shown) < len(told):
            shown.append(tqdm(bar_format="  {desc}", position=1 + len(shown), leave=False))
        for line, text in zip(shown, [*told, *[""] * len(shown)], strict=False):
            line.set_description_str(text)
    for line in reversed(shown):
        line.close()


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
