"""Random numbers that depend on a seed and, where asked, on a sample, but never on the batch around it.

Two kinds, each for its reason:

- `generator(seed)`: the same draws for every sample ("common random numbers"). Noise of SmoothGrad or masks of LIME
  then don't jump when a pixel of the input changes, which a robustness metric would count against the method.
- `sample_generators(inputs, seed)`: draws of its own for each sample, for controls that must be independent between
  images; the sample's bytes are hashed, so it makes no difference in which batch a sample sits.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor


def generator(seed: int) -> torch.Generator:
    """A CPU generator; draw on the CPU and move, so that every device sees the same numbers."""
    return torch.Generator().manual_seed(seed)


def sample_generators(inputs: Tensor, seed: int) -> list[torch.Generator]:
    """One generator per sample of (n, ...), fixed by the seed and the sample's own bytes."""
    return [generator(_hashed(sample, seed)) for sample in inputs.detach().cpu().contiguous()]


def sample_draws(inputs: Tensor, seed: int, draw: Callable[..., Tensor], *many: int) -> Tensor:
    """Draws of `draw`, torch.rand or torch.randn, as each sample's own generator gives them: (n, *many, ...)."""
    drawn = [draw((*many, *inputs.shape[1:]), generator=one) for one in sample_generators(inputs, seed)]
    return torch.stack(drawn).to(inputs)


def _hashed(sample: Tensor, seed: int) -> int:
    content = sample.reshape(-1).view(torch.uint8).numpy().tobytes()
    digest = hashlib.blake2b(content, digest_size=7, salt=str(seed).encode()[:16])
    return int.from_bytes(digest.digest(), "big")
