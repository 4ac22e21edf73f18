"""Progress bars for long work: one place that decides when to show them [only home of tqdm]."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
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
    loop stay silent. The bar disappears when it is done. Elsewhere, as in a pipe or a log, it is a plain line now and
    then, the first after ten seconds.

    Args:
        weight: how much of the total a finished step is, where steps differ; None: 1.
    """
    if _told_in_lines():
        return _lines(
            steps, what, total if total is not None or not isinstance(steps, Sized) else len(steps), unit, weight
        )
    shown = {"disable": True if _hushed else None, "delay": 1.0, "leave": False, "unit_scale": bool(weight)}
    bar = tqdm(steps, desc=what, total=total, unit=unit, **shown)
    return bar if weight is None else _weighed(bar, steps, weight)


_FIRST, _THEN = 10.0, 30.0  # seconds


def _told_in_lines() -> bool:
    return not _hushed and not sys.stderr.isatty() and "ipykernel" not in sys.modules


def _lines(
    steps: Iterable[T], what: str, total: int | None, unit: str, weight: Callable[[T], int] | None
) -> Iterator[T]:
    began = time.monotonic()
    done, due = 0, began + _FIRST
    for step in steps:
        yield step
        done += 1 if weight is None else weight(step)
        now = time.monotonic()
        if now >= due and done != total:
            due = now + _THEN
            sys.stderr.write(f"{what}: {_how_far(done, total, unit, now - began)}\n")
            sys.stderr.flush()


def _how_far(done: int, total: int | None, unit: str, seconds: float) -> str:
    """Such as "34 of 200 cells, 17 %, about 3 min left"."""
    if not total or not done:
        return f"{done:,} {unit}, {duration(seconds)} so far"
    return f"{done:,} of {total:,} {unit}, {done / total:.0%}, about {duration(seconds * (total - done) / done)} left"


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> [duration(each) for each in (4.2, 80, 240, 8000)]
    ['4 s', '80 s', '4 min', '2 h 13 min']
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def board(
    steps: Iterable[T], what: str, *, total: int, unit: str, lines: Callable[[], Sequence[str]], every: float = 1.0
) -> Iterator[T]:
    """Like `progress`, with lines of text below the bar that are looked up anew every so many seconds."""
    bar = progress(steps, what, total=total, unit=unit)
    if getattr(bar, "disable", True):  # told in plain lines, or not at all
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
