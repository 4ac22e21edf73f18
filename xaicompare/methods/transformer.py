"""Attention of transformers, rolled out from the last block to the patches."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xaicompare.boundary import checked_outputs, picked
from xaicompare.core import Method, Traits, Values
from xaicompare.errors import InputError, UnsupportedModelError
from xaicompare.methods._maps import as_maps
from xaicompare.registry import method
from xaicompare.settings import BatchSize, frozen


@method
@frozen
class AttentionRollout(Method):
    """How much of each patch attention carries to the class token, block after block; the class plays no part.

    A block's matrix is the mean over heads of its attention, averaged with the identity for the connection around it;
    the product of all blocks' matrices is read at the class token. Values (n, 1, h, w) of at least 0, enlarged
    bilinearly. Needs self-attention by `nn.MultiheadAttention` and a class token, as torchvision's VisionTransformer.

    Source: Abnar and Zuidema 2020, arXiv:2005.00928, section 3, equation 1 and the paragraph before it.
    """

    name: ClassVar[str] = "attention_rollout"
    traits: ClassVar[Traits] = Traits("propagation", needs="transformer")

    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        with _attentions(model) as seen, torch.no_grad():
            logits = model(inputs)
        rolled = _identity(_checked(seen)[0])
        for weights in seen:  # (n, heads, t, t)
            rolled = (weights.mean(1) + _identity(weights)) / 2 @ rolled
        return Values(_of_class_token(rolled, inputs), logits=logits)


@method
@frozen
class GradientRollout(Method):
    """Attention times the gradient of the explained output, its positive part, rolled out to the class token.

    A block adds A R to R, which begins as the identity: A is the mean over heads of the positive part of gradient times
    attention. Values (n, 1, h, w) of at least 0, enlarged bilinearly. Needs what `attention_rollout` needs.

    Source: Chefer, Gur, Wolf 2021, arXiv:2103.15679, equations 5 and 6.
    """

    name: ClassVar[str] = "gradient_rollout"
    traits: ClassVar[Traits] = Traits("gradient", needs="transformer")

    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        with _attentions(model) as seen:
            score = picked(checked_outputs(model(inputs), len(inputs)), target)
        slopes = torch.autograd.grad(score.sum(), _checked(seen), allow_unused=True)
        rolled = _identity(seen[0])
        for weights, slope in zip(seen, slopes, strict=True):
            if slope is not None:
                rolled = rolled + (weights * slope).clamp(min=0).mean(1) @ rolled
        return Values(_of_class_token(rolled, inputs))


def _identity(weights: Tensor) -> Tensor:
    """(n, heads, t, t) -> (n, t, t)."""
    return torch.eye(weights.shape[-1]).to(weights).expand(len(weights), -1, -1)


def _of_class_token(rolled: Tensor, inputs: Tensor) -> Tensor:
    """What the first token got from the others, (n, t, t) -> (n, 1, h, w)."""
    patches = rolled[:, :1, 1:].transpose(1, 2)  # (n, t - 1, 1)
    grid = as_maps(patches, inputs)
    return F.interpolate(grid, size=inputs.shape[-2:], mode="bilinear", align_corners=False).detach()


def _checked(seen: list[Tensor]) -> list[Tensor]:
    shapes = {tuple(weights.shape[2:]) for weights in seen}
    if len(shapes) != 1 or len({*next(iter(shapes))}) != 1:
        raise UnsupportedModelError(
            f"attention has the shapes {sorted(shapes)}; expected square matrices of one size, of all tokens."
        )
    return seen


@contextmanager
def _attentions(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the attention of every block, (n, heads, t, t), as tensors that the outputs depend on.

    torch's own pass gives the weights as a view that leads to no output, so the blocks compute them here meanwhile.

    Raises:
        UnsupportedModelError: there is no self-attention.
    """
    blocks = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    if not blocks:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no nn.MultiheadAttention; expected a transformer with a class token, such as "
            "torchvision's vit_b_16. Use 'gradcam' elsewhere."
        )
    seen: list[Tensor] = []
    for block in blocks:
        block.forward = _explicit(block, seen)  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        for block in blocks:
            del block.forward


def _explicit(block: nn.MultiheadAttention, seen: list[Tensor]) -> Any:
    """Self-attention of (n, t, c), as the block computes it."""

    def forward(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        if query is not key or key is not value or not block.batch_first or block.in_proj_weight is None:
            raise InputError("attention between different tokens; expected self-attention, the batch first.")
        parts = F.linear(query, block.in_proj_weight, block.in_proj_bias).chunk(3, -1)  # 3 x (n, t, c)
        q, k, v = (part.unflatten(-1, (block.num_heads, -1)).transpose(1, 2) for part in parts)  # (n, heads, t, c')
        weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
        seen.append(weights)
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        return block.out_proj(mixed), None

    return forward
