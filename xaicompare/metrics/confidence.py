"""How far the predicted class is ahead of the second."""

from typing import Literal

import torch
from torch import Tensor

from xaicompare.errors import InputError

Basis = Literal["probabilities", "outputs"]
"""Which predicted values the confidence is made of: softmax probabilities, or the raw outputs."""


def confidence(logits: Tensor, of: Basis = "probabilities") -> Tensor:
    """(max - second max) / max of the predicted class values, in [0, 1] for probabilities; (..., classes) -> (...).

    >>> confidence(torch.log(torch.tensor([[0.5, 0.3, 0.2]])))
    tensor([0.4000])

    Raises:
        InputError: fewer than two classes, or raw outputs whose maximum is not positive, where the ratio says nothing.
    """
    if logits.ndim == 0 or logits.shape[-1] < 2:
        raise InputError(f"logits have shape {tuple(logits.shape)}; expected (..., classes) with two classes or more.")
    first, second = _two_best(logits, of)
    if bool((first <= 0).any()):
        raise InputError(
            f"the greatest raw output is {float(first.min()):.4g}; expected above 0. Use of='probabilities'."
        )
    return (first - second) / first


def signed_confidence(logits: Tensor, target: Tensor, of: Basis = "probabilities") -> Tensor:
    """The confidence, negative where another class than the target is predicted; (n, ..., classes) -> (n, ...).

    After a removal a network can be confident again, of something else; without the sign that would look harmless.
    """
    agrees = logits.argmax(-1) == target.view(-1, *[1] * (logits.ndim - 2))
    return torch.where(agrees, 1.0, -1.0).to(logits) * confidence(logits, of)


def _two_best(logits: Tensor, of: Basis) -> tuple[Tensor, Tensor]:
    values = logits.softmax(-1) if of == "probabilities" else logits
    first, second = values.topk(2, dim=-1).values.unbind(-1)
    return first, second
