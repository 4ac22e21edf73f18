"""What attention over positions says: its map, relevance above and below it, and both together."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xaicompare.attended import attention_modules, sole, watched_attention
from xaicompare.boundary import checked_outputs, class_scores, picked
from xaicompare.core import Method, Traits, Values
from xaicompare.errors import InputError
from xaicompare.lrp import Composite, above_attention, network, relevance
from xaicompare.lrp.rules import Gamma, Zero
from xaicompare.registry import method
from xaicompare.settings import BatchSize, Count, NonNegative, Seed, frozen

_GAMMAS = (0.0, 0.25, 1.0)


@method
@frozen
class AttentionMap(Method):
    """The weights that an attention module gives to positions; they don't depend on the explained class.

    Values (n, 1, h, w), enlarged bilinearly; on the module's own grid they are above 0 and sum to 1. `layer` is the
    name of the module; None takes the last one.

    Source: Xu et al. 2015, arXiv:1502.03044, section 5.4.
    """

    name: ClassVar[str] = "attention"
    traits: ClassVar[Traits] = Traits("propagation", needs="attention")

    layer: str | None = None
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        with watched_attention(model, self.layer) as seen, torch.no_grad():
            logits = model(inputs)
        return Values(_resized(sole(seen), inputs), logits=logits)


@method
@frozen
class ExtendedLRP(Method):
    """LRP with the z-rule above an attention module and gamma below it, averaged over several gammas and classes.

    For a class c and a gamma g, R(c, g) is the relevance of the inputs that starts with f_c(x) at output c alone;
    layers that read what an attention module gave share it by LRP-0, all others by LRP-gamma with g; max-pooling gives
    it to the winner. Values: the mean of R(c, g) over `classes` and `gammas`. A small gamma keeps what is fine and
    speaks for and against, a large one what is broad and speaks for: what only one of them shows is left in the mean.
    They sum to the mean of f_c(x) over the classes, less what biases absorbed; the residual counts both.

    - `classes`: so many classes, the explained one and those with the highest outputs beside it; or their numbers.
    - `follow`: the weights of attention are explained, too: they get half the relevance of each product, and hand it
      down through softmax to the scores. Else they are held constant, and all goes to what they weight.

    Source: rules: Montavon, Binder, Lapuschkin, Samek, Mueller 2019, doi:10.1007/978-3-030-28954-6_10, table 10.1;
    constant weights: Ali et al. 2022, arXiv:2202.07304, section 4; followed: Achtibat et al. 2024, arXiv:2402.05602,
    propositions 3.1 and 3.2.
    Differs: gamma is the generalised form, for inputs of both signs (Andeol et al. 2021, arXiv:2106.01107).
    """

    name: ClassVar[str] = "extended_lrp"
    traits: ClassVar[Traits] = Traits("propagation", neuron_relevance=True, conserves=True, needs="attention")

    gammas: tuple[NonNegative, ...] = _GAMMAS
    classes: Count | tuple[Seed, ...] = 1
    follow: bool = False
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        return _extended(model, inputs, target, self.gammas, self.classes, self.follow)


@method
@frozen
class AttentionRefinedLRP(Method):
    """Relevance times attention: a_i R_i, where R is what `extended_lrp` gives and a the map of `attention`.

    a is resized bilinearly to the inputs; its weights sum to 1 on the module's own grid, so that the values' sum,
    `Attribution.total`, is the score of the refined map: f(x) for a map that lies where all attention does, f(x) over
    the number of positions where attention is equal everywhere. Settings as of `extended_lrp`; attention is that of
    `layer`, None: of the last module.

    Source: the refinement a_i R_i: no publication known to us; its parts as in `attention` and `extended_lrp`.
    """

    name: ClassVar[str] = "attention_refined_lrp"
    traits: ClassVar[Traits] = Traits("propagation", neuron_relevance=True, needs="attention")

    gammas: tuple[NonNegative, ...] = _GAMMAS
    classes: Count | tuple[Seed, ...] = 1
    follow: bool = False
    layer: str | None = None
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        with watched_attention(model, self.layer) as seen, torch.no_grad():
            logits = checked_outputs(model(inputs), len(inputs))
        spread = _extended(model, inputs, target, self.gammas, self.classes, self.follow)
        return Values(spread.values * _resized(sole(seen), inputs), logits=logits)


def _resized(weights: Tensor, inputs: Tensor) -> Tensor:
    """(n, 1, h', w') -> (n, 1, h, w)."""
    return F.interpolate(weights, size=inputs.shape[-2:], mode="bilinear", align_corners=False)


def _extended(
    model: nn.Module,
    inputs: Tensor,
    target: Tensor,
    gammas: tuple[float, ...],
    classes: int | tuple[int, ...],
    follow: bool,
) -> Values:
    """See `ExtendedLRP`."""
    attention_modules(model)  # says what lacks
    if not gammas or classes == ():
        raise InputError(f"gammas={gammas}, classes={classes}; expected at least one of each.")
    above = {name: Zero() for name in above_attention(network(model, inputs))}
    chosen = _chosen(model, inputs, target, classes)  # (n, k)
    maps, absorbed = [], []
    for gamma in gammas:
        rule = Gamma(gamma=gamma)
        rules = Composite(rule, rule, named=above, attention="follow" if follow else "constant")
        made = relevance(model, inputs.detach(), chosen, rules, layers=())
        maps.append(made.values.mean(1))
        absorbed.append((made.start + made.residual - made.values.flatten(2).sum(2)).mean(1))
    starts = class_scores(made.logits).gather(1, chosen).mean(1)
    left = torch.stack(absorbed).mean(0) + picked(made.logits, target) - starts
    return Values(torch.stack(maps).mean(0), left_out=left, logits=made.logits)


def _chosen(model: nn.Module, inputs: Tensor, target: Tensor, classes: int | tuple[int, ...]) -> Tensor:
    """The classes that are averaged over, (n, k): the target first, or those that are asked for."""
    if isinstance(classes, tuple):
        return torch.tensor(classes, device=inputs.device).expand(len(inputs), -1)
    if classes == 1:
        return target[:, None]
    with torch.no_grad():
        logits = class_scores(checked_outputs(model(inputs), len(inputs)))
    if classes > logits.shape[1]:
        raise InputError(f"classes={classes}; expected at most {logits.shape[1]}, all that the model has.")
    others = logits.scatter(1, target[:, None], -torch.inf).topk(classes - 1, 1).indices
    return torch.cat([target[:, None], others], 1)
