"""The losses of a training, which stay on their device until some are read at once."""

import math

import torch
from torch import Tensor

from xaicompare.errors import DivergedError

_EVERY = {"cpu": 1}
"""Steps between two looks, by device: to read a number from a CPU costs nothing, and what diverges stops at once."""

_ELSEWHERE = 50  # a GPU waits at each look until all that was asked of it is done


def steps_between_looks(device: torch.device) -> int:
    """How many steps are taken before losses are read and checked."""
    return _EVERY.get(device.type, _ELSEWHERE)


def diverged(value: float, epoch: int, batch: int, told: str) -> DivergedError:
    """A loss that is not finite, of a batch counted from 0; `told` says how it was trained."""
    return DivergedError(
        f"the loss is {value} in epoch {epoch}, batch {batch}, with {told}; expected a finite one. Lower lr."
    )


class Losses:
    """The mean loss of an epoch, and an error where one of them is not finite.

    Args:
        every: steps between two looks.
        told: what the error says of the training.
    """

    def __init__(self, every: int, epoch: int, told: str) -> None:
        self.every, self.epoch, self.told = every, epoch, told
        self._waiting: list[tuple[Tensor, int]] = []
        self._total, self._seen, self._batch = 0.0, 0, 0

    def add(self, loss: Tensor, n: int) -> bool:
        """Notes the loss (a scalar) of a batch of n images, and says whether all noted so far were looked at.

        Raises:
            DivergedError: one of them is not finite; the first such batch, counted from 0, is named.
        """
        self._waiting.append((loss.detach(), n))
        if len(self._waiting) < self.every:
            return False
        self.look()
        return True

    def look(self) -> None:
        """Reads the losses that nobody looked at yet; raises as `add`."""
        if not self._waiting:
            return
        values = torch.stack([loss for loss, _ in self._waiting]).tolist()
        for value, (_, n) in zip(values, self._waiting, strict=True):
            if not math.isfinite(value):
                raise diverged(value, self.epoch, self._batch, self.told)
            self._total, self._seen, self._batch = self._total + value * n, self._seen + n, self._batch + 1
        self._waiting = []

    def mean(self) -> float:
        """Of all images so far; looks at what is left."""
        self.look()
        return self._total / self._seen
