"""How relevance passes products of activations, softmax and normalisations, in recorded networks.

Source: Achtibat et al. 2024, AttnLRP, arXiv:2402.05602, propositions 3.1 (softmax), 3.2 and 3.3 (products), 3.4
(normalisations); the weights of attention held constant: Ali et al. 2022, arXiv:2202.07304, section 3.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from xaicompare.diagnosis.recorded import group_norm, layer_norm
from xaicompare.lrp.graph import Step
from xaicompare.lrp.rules import quotient

if TYPE_CHECKING:
    from xaicompare.lrp.sweep import Sweep


def through_product(sweep: "Sweep", step: Step, relevance: Tensor) -> Tensor:
    """To each factor its part: R_a = a * (the transposed product of R / z) / the number of factors that get any.

    A gate, a statistic, and what divides get none; nor do the weights of attention where the composite holds them
    constant.
    """
    held = set(step.held)
    if step.attends is not None and sweep.plan.composite.attention == "constant" and not held:
        held.add(step.attends)
    active = [source for place, source in enumerate(step.sources) if place not in held]
    s = quotient(relevance / len(active), sweep.spread(sweep.forward.at(step.node)))
    parts = {source: sweep.shares(step, source, s) for source in active}
    for source, part in parts.items():
        sweep.give(source, part)
    return sweep.left(relevance, list(parts.values()))


def through_softmax(sweep: "Sweep", step: Step, relevance: Tensor) -> Tensor:
    """R_i = x_i (R_i - p_i sum_j R_j); the rest falls to the point around which softmax is expanded."""
    dim = step.node.args[1]
    scores = sweep.spread(sweep.forward.at(step.sources[0]))
    scores = torch.where(scores.isfinite(), scores, 0.0)  # masked
    chances = sweep.spread(sweep.forward.at(step.node))
    given = scores * (relevance - chances * relevance.sum(dim, keepdim=True))  # type: ignore[arg-type]
    sweep.give(step.sources[0], given)
    return sweep.left(relevance, [given])


def through_normalisation(sweep: "Sweep", step: Step, relevance: Tensor) -> Tensor:
    """In proportion, as the affine map that a normalisation is while its scale is held constant; the mean moves."""
    source = step.sources[0]
    s = quotient(relevance, sweep.spread(sweep.forward.at(step.node)))
    scaled = _NORMALISING[step.node.target](sweep.forward.at(source), *sweep.constants(step))
    part = sweep.spread(sweep.forward.at(source)) * sweep.pulled(scaled, sweep.forward.at(source), s)
    sweep.give(source, part)
    return sweep.left(relevance, [part])


def _of_layer(x: Tensor, shape: list[int], weight: Any, bias: Any, eps: float) -> Callable[[Tensor], Tensor]:
    dims = tuple(range(-len(shape), 0))
    scale = (x.detach().var(dims, correction=0, keepdim=True) + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    return lambda values: (values - values.mean(dims, keepdim=True)) * scale


def _of_groups(x: Tensor, groups: int, weight: Any, bias: Any, eps: float) -> Callable[[Tensor], Tensor]:
    flat = x.detach().reshape(len(x), groups, -1)
    scale = (flat.var(2, correction=0, keepdim=True) + eps).rsqrt()
    spread = 1 if weight is None else weight.view(1, -1, *[1] * (x.ndim - 2))

    def scaled(values: Tensor) -> Tensor:
        apart = values.reshape(len(values), groups, -1)
        return ((apart - apart.mean(2, keepdim=True)) * scale).reshape(values.shape) * spread

    return scaled


_NORMALISING: dict[Any, Callable[..., Callable[[Tensor], Tensor]]] = {layer_norm: _of_layer, group_norm: _of_groups}

BY_ATTENTION: dict[str, Callable[["Sweep", Step, Tensor], Tensor]] = {
    "product": through_product,
    "softmax": through_softmax,
    "normalised": through_normalisation,
}
"""By the role of a step."""
