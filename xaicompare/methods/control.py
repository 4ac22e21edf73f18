"""Controls: maps that know nothing of the model, which every method has to beat."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xaicompare.core import Method, Traits, Values
from xaicompare.draws import sample_generators
from xaicompare.errors import InputError
from xaicompare.registry import method
from xaicompare.settings import BatchSize, Positive, Seed, frozen


@method
@frozen
class Random(Method):
    """Independent normal noise, N(0, 1), for each sample and position; values (n, 1, h, w).

    The noise is drawn from the seed and the sample's own bytes, so it does not depend on the batch.
    """

    name: ClassVar[str] = "random"
    traits: ClassVar[Traits] = Traits("control", agnostic=True)

    seed: Seed = 0
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        shape = _map_shape(inputs)
        draws = [torch.randn(shape, generator=one) for one in sample_generators(inputs, self.seed)]
        return Values(torch.stack(draws).to(inputs))


@method
@frozen
class Edges(Method):
    """The strength of the image's own edges: magnitude of the Sobel gradient of the channel mean, (n, 1, h, w).

    Source: Sobel, Feldman 1968; as a control: Adebayo et al. 2018, arXiv:1810.03292, section 4.
    """

    name: ClassVar[str] = "edges"
    traits: ClassVar[Traits] = Traits("control", agnostic=True)

    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        if inputs.ndim != 4:
            raise InputError(f"inputs have shape {tuple(inputs.shape)}; expected images (n, c, h, w).")
        across = inputs.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
        kernels = torch.stack([across, across.T])[:, None]  # (2, 1, 3, 3)
        # Replicated borders: padding with zeros would draw a frame around every image.
        grey = F.pad(inputs.detach().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        return Values(F.conv2d(grey, kernels).square().sum(1, keepdim=True).sqrt())


@method
@frozen
class Center(Method):
    """A Gaussian bump at the centre: photographers put the object there. Values (n, 1, h, w), at most 1.

    `width` is its standard deviation as a share of the side.
    """

    name: ClassVar[str] = "center"
    traits: ClassVar[Traits] = Traits("control", agnostic=True)

    width: Positive = 0.25
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        bump = torch.ones((), device=inputs.device, dtype=inputs.dtype)
        for side in _map_shape(inputs)[1:] or inputs.shape[1:]:
            place = (torch.arange(side).to(inputs) + 0.5) / side - 0.5
            bump = bump[..., None] * torch.exp(-0.5 * (place / self.width) ** 2)
        return Values(bump.expand(len(inputs), *_map_shape(inputs)).clone())


@method
@frozen
class Constant(Method):
    """The value 1 for every position, (n, 1, h, w): metrics that follow an order then see a random one."""

    name: ClassVar[str] = "constant"
    traits: ClassVar[Traits] = Traits("control", agnostic=True)

    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        return Values(inputs.new_ones((len(inputs), *_map_shape(inputs))))


def _map_shape(inputs: Tensor) -> tuple[int, ...]:
    """One value per position: (1, h, w) for images, (features,) for vectors."""
    return (1, *inputs.shape[2:]) if inputs.ndim == 4 else tuple(inputs.shape[1:])
