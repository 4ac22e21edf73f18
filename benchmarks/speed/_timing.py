"""Honest ratios on a machine that is never quiet, A B A B in one process, medians; and peak memory."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch


class Ratio(NamedTuple):
    """How long A takes in units of B."""

    value: float  # median over rounds of time(A) / time(B)
    low: float  # lower and upper quartile over the rounds
    high: float
    seconds_a: float  # medians
    seconds_b: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def interleaved(
    a: Callable[[], object],
    b: Callable[[], object],
    *,
    seconds: float = 4.0,
    rounds: int = 7,
    clock: Callable[[], float] = time.perf_counter,
) -> Ratio:
    """Times A and B in turn, for at least so many rounds and seconds; one untimed call of each goes first.

    Rounds start with A and B alternately, so that whoever runs second on warm caches gains nothing.
    """
    a(), b()
    times: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while len(times) < rounds or time.perf_counter() < end:
        if len(times) % 2:
            second = timed(b, clock)
            times.append((timed(a, clock), second))
        else:
            times.append((timed(a, clock), timed(b, clock)))
    ratios = [first / second for first, second in times]
    low, _, high = statistics.quantiles(ratios, n=4)
    medians = (statistics.median(column) for column in zip(*times, strict=True))
    return Ratio(statistics.median(ratios), low, high, *medians)


def timed(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, by default of the wall."""
    start = clock()
    call()
    return clock() - start


def peak(call: Callable[[], object], device: str) -> float:
    """Mebibytes allocated at once, at most, by one call, beyond what was there."""
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    now = most = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most / 2**20
