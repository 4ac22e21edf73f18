"""How far the predicted class is ahead of the second."""

from typing import Literal

import torch
from torch import Tensor

from xaicompare.boundary import class_scores, predicted, probabilities
from xaicompare.errors import InputError

Basis = Literal["probabilities", "outputs"]
"""Which predicted values the confidence is made of: probabilities (see `probabilities`), or the raw outputs."""


def confidence(logits: Tensor, of: Basis = "probabilities") -> Tensor:
    """(max - second max) / max of the predicted class values, in [0, 1] for probabilities; (..., classes) -> (...).

    One output z is a binary classifier: the probabilities are sigmoid(z) and 1 - sigmoid(z).

    >>> confidence(torch.log(torch.tensor([[0.5, 0.3, 0.2]])))
    tensor([0.4000])

    Raises:
        InputError: no classes, or raw outputs whose maximum is not positive, where the ratio says nothing.
    """
    if logits.ndim == 0 or logits.shape[-1] < 1:
        raise InputError(f"logits have shape {tuple(logits.shape)}; expected (..., classes) with one output or more.")
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
    agrees = predicted(logits) == target.view(-1, *[1] * (logits.ndim - 2))
    return torch.where(agrees, 1.0, -1.0).to(logits) * confidence(logits, of)


def _two_best(logits: Tensor, of: Basis) -> tuple[Tensor, Tensor]:
    values = probabilities(logits) if of == "probabilities" else class_scores(logits)
    first, second = values.topk(2, dim=-1).values.unbind(-1)
    return first, second
