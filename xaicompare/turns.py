"""Several threads at once: calls on one model take turns, different models run side by side, tracing runs alone.

Hooks, modes and `requires_grad` sit on the model, so two threads that borrow one would see each other's. `torch.fx`
replaces `nn.Module.__call__` for the whole process while it traces, so nothing else may run a module meanwhile.
"""

import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


class _Floor:
    """Who runs modules, and who traces. A thread that waits for its turn runs nothing, so nobody waits for it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.depth: Counter[int] = Counter()  # how many borrowings each thread is inside of
        self.waiting: set[int] = set()
        self.tracing: int | None = None
        self.locks: weakref.WeakKeyDictionary[nn.Module, Any] = (
            weakref.WeakKeyDictionary()
        )  # of RLock, which is no type

    @contextmanager
    def held(self, model: nn.Module) -> Iterator[None]:
        """This thread's turn on the model."""
        me = threading.get_ident()
        with self.changed:
            lock = self.locks.setdefault(model, threading.RLock())
            self.waiting.add(me)
            self.changed.notify_all()
        with lock:
            with self.changed:
                self.changed.wait_for(lambda: self.tracing in (None, me))
                self.waiting.discard(me)
                self.depth[me] += 1
            try:
                yield
            finally:
                with self.changed:
                    self.depth[me] -= 1
                    self.depth += Counter()  # drops the zeros
                    self.changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While every other thread that would run a module waits."""
        me = threading.get_ident()
        with self.changed:
            outer = self.tracing == me
            self.waiting.add(me)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.tracing in (None, me) and self.depth.keys() - self.waiting <= {me})
            self.waiting.discard(me)
            self.tracing = me
        try:
            yield
        finally:
            with self.changed:
                self.tracing = me if outer else None
                self.changed.notify_all()


_FLOOR = _Floor()
turn, alone = _FLOOR.held, _FLOOR.alone
