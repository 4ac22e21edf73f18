"""Who computes when: one thread, people take turns, quick questions first, one job for each person."""

import asyncio
import heapq
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import TypeVar

from torch import nn

from xaicompare.turns import turn

T = TypeVar("T")

_MOST_WAITING = 200


class BusyError(Exception):
    """More people wait than the desk will hold."""


class LeftError(Exception):
    """Whoever asked has left, or asked something else."""


class Job:
    """What one person wants; `over` once nobody wants it any more."""

    def __init__(self) -> None:
        self.gone = threading.Event()

    def over(self) -> None:
        """Stops it at the next pass through a network."""
        self.gone.set()


class Desk:
    """One thread for all computing. It belongs to one event loop, and is touched from no other."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="explore")
        self._waiting: list[tuple[bool, int, asyncio.Future[None]]] = []
        self._busy = False
        self._numbers = count()
        self._jobs: dict[str, Job] = {}

    @contextmanager
    def job(self, person: str) -> Iterator[Job]:
        """A person's job; one that they had before is over."""
        if person in self._jobs:
            self._jobs[person].over()
        mine = self._jobs[person] = Job()
        try:
            yield mine
        finally:
            mine.over()
            if self._jobs.get(person) is mine:
                del self._jobs[person]

    async def done(self, work: Callable[[], T], *, quick: bool = False) -> T:
        """What the work returns, when its turn has come; quick work goes before the rest that waits.

        Raises:
            BusyError: too many wait.
        """
        await self._turn(quick)
        running = asyncio.get_running_loop().run_in_executor(self._thread, work)
        running.add_done_callback(self._next)  # also when nobody waits for the answer any more
        return await asyncio.shield(running)

    async def _turn(self, quick: bool) -> None:
        if not self._busy:
            self._busy = True
            return
        if len(self._waiting) >= _MOST_WAITING:
            raise BusyError
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (not quick, next(self._numbers), mine))
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():  # the turn came as its owner left
                self._pass_on()
            raise

    def _next(self, finished: asyncio.Future[T]) -> None:
        if not finished.cancelled():
            finished.exception()  # told to whoever waits, if anybody does
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            *_, mine = heapq.heappop(self._waiting)
            if not mine.done():
                mine.set_result(None)
                return
        self._busy = False

    def close(self) -> None:
        """Ends all jobs."""
        for job in self._jobs.values():
            job.over()
        self._thread.shutdown(wait=True, cancel_futures=True)


@contextmanager
def stopping(models: tuple[nn.Module, ...], job: Job) -> Iterator[None]:
    """Passes through these networks raise `LeftError` once the job is over: the longest methods take thousands."""

    def look(_: nn.Module, __: object) -> None:
        if job.gone.is_set():
            raise LeftError

    handles = []
    for model in models:
        with turn(model):
            handles.append(model.register_forward_pre_hook(look))
    try:
        if job.gone.is_set():
            raise LeftError
        yield
    finally:
        for model, handle in zip(models, handles, strict=True):
            with turn(model):
                handle.remove()
