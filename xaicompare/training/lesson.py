"""How one stage of a training takes its steps: outputs, loss, and what is between gradients and weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from xaicompare.lrp.guidance import Quantiles


class Batch(NamedTuple):
    """Some of the images that a network is trained on."""

    inputs: Tensor  # (n, c, h, w)
    labels: Tensor  # (n,)
    places: Tensor  # (n,) int64, where they stand among those images; on the CPU


Loss: TypeAlias = Callable[[Tensor, Batch], Tensor]
"""The loss (a scalar) of outputs (n, classes) in single precision and the batch that they belong to."""


def mean_cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """The usual loss."""
    return cross_entropy(logits, batch.labels)


@dataclass(frozen=True, eq=False)
class Lesson:
    """What one stage of a training needs from its arm."""

    logits: Callable[[Tensor, Tensor], Tensor]  # of inputs (n, ...) and labels (n,)
    loss: Loss = mean_cross_entropy
    wrapped: Callable[[Optimizer], Optimizer] = lambda optimizer: optimizer  # what takes the steps instead
    more: list[dict[str, Any]] = field(default_factory=list)  # further groups of parameters for the optimizer
    multipliers: Sequence[Quantiles] = ()  # grows while the training runs
    look: Callable[[], None] = lambda: None  # raises what went wrong since the last look

    @classmethod
    def plain(cls, model: nn.Module, loss: Loss = mean_cross_entropy) -> "Lesson":
        """Ordinary steps, perhaps with another loss."""
        return cls(lambda inputs, _: model(inputs), loss)
