"""Early stopping by batches."""

import copy
import math
from typing import Any

from torch import nn

from xaicompare.settings import Count, Settings, Share, frozen
from xaicompare.zoo.images import Images


@frozen
class Stopping(Settings):
    """When to stop: more data, wider windows and more patience.

    After every window, a share of an epoch's batches, the validation images are judged; training stops after so many
    windows without a better accuracy, and the best weights are taken. The patience grows with the square root of the
    share of the data, from `patience_least` to `patience_most`.
    """

    name = "stopping"

    validation: Share = 0.1  # of the training images, which are not trained on
    window: Share = 0.1  # k, as a share of an epoch's batches
    least_batches: Count = 5  # the narrowest window
    patience_least: Count = 3  # l, at the smallest share of the data
    patience_most: Count = 10  # l, at all of the data

    def begin(self, images: int, batch_size: int, share: float) -> "Watch":
        """For one training with so many images, a share of all there are."""
        batches = math.ceil(images / batch_size)
        patience = self.patience_least + (self.patience_most - self.patience_least) * math.sqrt(share)
        return Watch(max(self.least_batches, round(self.window * batches)), round(patience))


class Watch:
    """The course of one training: every `window` batches an accuracy, and the best weights so far.

    Without patience it never stops.
    """

    def __init__(self, window: int, patience: int) -> None:
        self.window = window
        self.patience = patience
        self.accuracies: list[tuple[int, float]] = []  # (batch, accuracy on the validation images)
        self.best: dict[str, Any] | None = None
        self._batch = 0
        self._waited = 0

    def is_due(self) -> bool:
        """Counts one batch, and says whether a window ends with it."""
        self._batch += 1
        return self._batch % self.window == 0

    def stops(self, model: nn.Module, accuracy: float) -> bool:
        """Notes an accuracy, and says whether it is time to stop."""
        if not self.accuracies or accuracy > max(known for _, known in self.accuracies):
            self.best, self._waited = copy.deepcopy(model.state_dict()), 0
        else:
            self._waited += 1
        self.accuracies.append((self._batch, accuracy))
        return self._waited >= self.patience

    def restore(self, model: nn.Module) -> None:
        """Gives the model its best weights."""
        if self.best is not None:
            model.load_state_dict(self.best)


def split(images: Images, share: float) -> tuple[Images, Images]:
    """Images to train on and to validate by: the last share of them, at least one."""
    held = max(1, round(share * len(images)))
    return images.subset(range(len(images) - held)), images.subset(range(len(images) - held, len(images)))
