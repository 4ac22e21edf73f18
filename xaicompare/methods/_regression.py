"""The two regressions behind LIME and KernelSHAP, on masks (k, d) and outputs (k,), in float64."""

import math

import torch
from sklearn.linear_model import Lasso
from torch import Tensor

from xaicompare.errors import UnsupportedModelError


def sparse_coefficients(masks: Tensor, seen: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """Coefficients (d,) of a weighted Lasso with intercept; `alpha` in units of the outputs' standard deviation.

    Raises:
        UnsupportedModelError: all of them are 0.
    """
    scale = float((weights * (seen - (weights * seen).sum() / weights.sum()) ** 2).sum().div(weights.sum()).sqrt())
    # alpha = 0 is ordinary least squares; the Lasso's coordinate descent warns there, a tiny penalty does not.
    model = Lasso(alpha=max(alpha, 1e-9), max_iter=10_000)
    model.fit(masks.double().numpy(), (seen / scale).numpy(), sample_weight=weights.numpy())
    if not model.coef_.any():
        raise UnsupportedModelError(
            f"every coefficient is 0 with alpha={alpha}: the penalty outweighs what the superpixels explain. "
            "Use a smaller alpha, more n_samples, or fewer n_segments."
        )
    return torch.from_numpy(model.coef_) * scale


def all_coalitions(count: int) -> tuple[Tensor, Tensor]:
    """Every mask (2^d - 2, d) but the empty and the full one, and its Shapley kernel weight."""
    numbers = torch.arange(1, 2**count - 1)
    masks = (numbers[:, None] >> torch.arange(count)) & 1 == 1
    sizes = masks.sum(1)
    per_size = _share_of_size(count) / torch.tensor([math.comb(count, size) for size in range(1, count)])
    return masks, per_size[sizes - 1]


def sampled_coalitions(count: int, n_samples: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """About `n_samples` masks drawn from the Shapley kernel, each followed by its complement, all of weight 1."""
    half = max(1, n_samples // 2)
    sizes = 1 + torch.multinomial(_share_of_size(count), half, replacement=True, generator=draws)
    order = torch.rand(half, count, generator=draws).argsort(1).argsort(1)
    masks = order < sizes[:, None]
    paired = torch.stack([masks, ~masks], 1).flatten(0, 1)
    return paired, torch.ones(len(paired), dtype=torch.float64)


def shapley_values(masks: Tensor, weights: Tensor, seen: Tensor, empty: Tensor, full: Tensor) -> Tensor:
    """The values (d,) that minimise sum w (seen - empty - masks @ values)^2 under the constraint sum = full - empty.

    The constraint is kept exactly: the last value is written as what the others leave.
    """
    total = full - empty
    if masks.shape[1] == 1:
        return total[None]
    design = masks.double()
    last = design[:, -1:]
    root = weights.sqrt()[:, None]
    left = root * (design[:, :-1] - last)
    right = root * (seen - empty - last[:, 0] * total)[:, None]
    # gelsd: the least-norm solution also where the samples don't determine every value.
    values = torch.linalg.lstsq(left, right, driver="gelsd").solution[:, 0]
    return torch.cat([values, (total - values.sum())[None]])


def _share_of_size(count: int) -> Tensor:
    """The kernel's weight of all coalitions of size 1 .. d - 1 together, proportional to (d - 1) / (s (d - s))."""
    sizes = torch.arange(1, count, dtype=torch.float64)
    shares = 1 / (sizes * (count - sizes))
    return shares / shares.sum()
