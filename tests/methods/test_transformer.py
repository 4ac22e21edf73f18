"""Rollout of attention, against loops written from the papers."""

import pytest
import torch
from nets import net_and_inputs, vit
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear

import xaicompare as xc
from xaicompare.methods.transformer import _attentions


def by_hand(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Attention of every block, (n, heads, t, t), by torch's own layer on what enters it."""
    given: list[tuple[nn.MultiheadAttention, Tensor]] = []
    blocks = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    handles = [
        block.register_forward_pre_hook(lambda module, args: given.append((module, args[0].detach())))
        for block in blocks
    ]
    model(inputs)
    for handle in handles:
        handle.remove()
    return [block(x, x, x, need_weights=True, average_attn_weights=False)[1].detach() for block, x in given]


def test_the_blocks_compute_what_torch_computes() -> None:
    model, inputs = vit().double(), net_and_inputs("vit")[1].double()
    with _attentions(model) as seen:
        outputs = model(inputs)
    torch.testing.assert_close(outputs, model(inputs))
    for mine, torchs in zip(seen, by_hand(model, inputs), strict=True):
        torch.testing.assert_close(mine, torchs)
        torch.testing.assert_close(mine.sum(-1), torch.ones_like(mine.sum(-1)))
    assert all("forward" not in vars(module) for module in model.modules())


def enlarged(row: Tensor) -> Tensor:
    return interpolate(row.view(1, 1, 4, 4), size=(16, 16), mode="bilinear", align_corners=False)[0]


def test_rollout_is_the_papers_recursion() -> None:
    model, inputs = vit().double(), net_and_inputs("vit")[1].double()
    made = xc.attribute(model, inputs, method="attention_rollout")
    for n in range(3):
        rolled = None
        for weights in by_hand(model, inputs):
            mean = sum(weights[n, head] for head in range(2)) / 2
            mixed = 0.5 * mean + 0.5 * torch.eye(17).double()
            mixed = mixed / mixed.sum(1, keepdim=True)
            rolled = mixed if rolled is None else mixed @ rolled
        torch.testing.assert_close(rolled.sum(1), torch.ones(17).double())
        torch.testing.assert_close(made.values[n], enlarged(rolled[0, 1:]))


class Changed(nn.Module):
    """Self-attention whose weights are changed by a tensor that can be differentiated."""

    def __init__(self, block: nn.MultiheadAttention, change: Tensor) -> None:
        super().__init__()
        self.block, self.change = block, change

    def forward(self, x: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:
        block, tokens = self.block, x.shape[1]
        weights = block(x, x, x, need_weights=True, average_attn_weights=False)[1] + self.change
        value = linear(x, block.in_proj_weight, block.in_proj_bias)[..., -8:].view(len(x), tokens, 2, 4)
        return block.out_proj(torch.einsum("nhqk,nkhc->nqhc", weights, value).reshape(len(x), tokens, 8)), None


def test_gradient_rollout_is_the_papers_recursion() -> None:
    model, inputs = vit().double(), net_and_inputs("vit")[1].double()
    target = torch.tensor([0, 3, 2])
    made = xc.attribute(model, inputs, target, "gradient_rollout")
    weights = by_hand(model, inputs)
    changed = vit().double()
    changed.load_state_dict(model.state_dict())
    changes = [torch.zeros(3, 2, 17, 17, dtype=torch.float64, requires_grad=True) for _ in weights]
    for block, change in zip(changed.encoder.layers, changes, strict=True):
        block.self_attention = Changed(block.self_attention, change)
    slopes = torch.autograd.grad(changed(inputs)[range(3), target].sum(), changes)
    for n in range(3):
        rolled = torch.eye(17).double()
        for attention, slope in zip(weights, slopes, strict=True):
            positive = sum((attention[n, h] * slope[n, h]).clamp(min=0) for h in range(2)) / 2
            rolled = rolled + positive @ rolled
        torch.testing.assert_close(made.values[n], enlarged(rolled[0, 1:]))
    assert not torch.allclose(made.values, xc.attribute(model, inputs, [1, 1, 1], "gradient_rollout").values)


class Crossed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2)[:, :, :4]
        return self.attend(tokens, tokens + 1, tokens)[0].mean(1)


@pytest.mark.parametrize("method", ["attention_rollout", "gradient_rollout"])
def test_what_is_no_vision_transformer_is_told(method: str) -> None:
    with pytest.raises(
        xc.UnsupportedModelError, match=f"{method}: .* no nn.MultiheadAttention; expected a transformer"
    ):
        xc.attribute(*net_and_inputs("cnn"), method=method)
    with pytest.raises(xc.InputError, match="expected self-attention"):
        xc.attribute(Crossed().eval(), torch.randn(2, 3, 4, 4), 0, method)
