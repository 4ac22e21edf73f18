"""DeepLIFT's rule for max-pooling, which every sample and every window of a batch obeys."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_POOLS: dict[type[nn.Module], Callable[..., tuple[Tensor, Tensor]]] = {
    nn.MaxPool1d: F.max_pool1d,
    nn.MaxPool2d: F.max_pool2d,
    nn.MaxPool3d: F.max_pool3d,
}


def max_pool_shares(module: Any, given: Tensor, reference: Tensor, multipliers: Tensor) -> Tensor:
    """What each input of a max-pooling contributes, (n, c, *spatial): the rise over both maxima goes to the greatest
    input, the fall to the greatest of the reference.
    """
    pool = MAX_POOLS[type(module)]
    settings = (module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)
    (out, place), (base, base_place) = (pool(x, *settings, return_indices=True) for x in (given, reference))
    both = torch.maximum(out, base)
    shares = torch.zeros_like(given).flatten(2)  # (n, c, positions)
    shares.scatter_add_(2, place.flatten(2), (multipliers * (both - base)).flatten(2))
    shares.scatter_add_(2, base_place.flatten(2), (multipliers * (out - both)).flatten(2))
    return shares.view_as(given)
