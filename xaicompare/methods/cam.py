"""Class activation maps: which positions of a convolutional map speak for the class."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from xaicompare.core import Method, Traits, Values
from xaicompare.errors import UnsupportedModelError
from xaicompare.methods._maps import LayerMaps, Layers, as_images, by_slopes, enlarged
from xaicompare.methods.gradient import guided_backprop
from xaicompare.registry import method
from xaicompare.settings import BatchSize, frozen

_POOLS = (nn.AdaptiveAvgPool2d, nn.AvgPool2d)


@method
@frozen
class CAM(Method):
    """The last convolutional maps, weighted with the linear layer's weights of the class and summed.

    Needs a network that ends in global average pooling and one linear layer, or in global average pooling alone (then
    the pooled maps are the class maps). That the outputs are that function of the maps is checked on every batch.
    Values (n, 1, h, w), enlarged bilinearly.

    Source: Zhou, Khosla, Lapedriza, Oliva, Torralba 2016, arXiv:1512.04150, equation 2; without a linear layer: Lin,
    Chen, Yan 2014, arXiv:1312.4400, section 3.2.
    """

    name: ClassVar[str] = "cam"
    traits: ClassVar[Traits] = Traits("gradient", needs="pooling")

    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        maps, logits = _pooled_maps(model, as_images(inputs))  # (n, k, h', w'), (n, classes)
        weight, bias = _head(model, maps, logits)
        if not torch.allclose(maps.mean((2, 3)) @ weight.T + bias, logits, rtol=1e-3, atol=1e-4):
            raise UnsupportedModelError(_CAM_NEEDS.format(type(model).__name__))
        values = torch.einsum("nk,nkhw->nhw", weight[target], maps)[:, None]  # (n, 1, h', w')
        return Values(enlarged(values, inputs))


_CAM_NEEDS = (
    "{} does not end in global average pooling and one linear layer; expected outputs that are a linear function of "
    "average-pooled maps. Use 'gradcam', which needs neither."
)


def _pooled_maps(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What enters the last average pooling to 1 x 1, and the model's outputs."""
    found: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        if output.ndim == 4 and output.shape[-2:] == (1, 1):
            found.append(given[0])

    handles = [module.register_forward_hook(keep) for module in model.modules() if isinstance(module, _POOLS)]
    try:
        with torch.no_grad():
            logits = model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise UnsupportedModelError(_CAM_NEEDS.format(type(model).__name__))
    return found[-1], logits


def _head(model: nn.Module, maps: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (classes, k) and bias (classes,) from pooled maps to outputs."""
    channels, classes = maps.shape[1], logits.shape[1]
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if linear and linear[-1].weight.shape in {(classes, channels), (1, channels)}:
        weight, bias = linear[-1].weight, linear[-1].bias
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        if len(weight) == 1 < classes:  # one output z: the classes' scores are -z and z
            return torch.cat([-weight, weight]), torch.cat([-bias, bias])
        return weight, bias
    if channels == classes:
        return torch.eye(classes).to(maps), logits.new_zeros(classes)
    raise UnsupportedModelError(_CAM_NEEDS.format(type(model).__name__))


@method
@frozen
class GradCAM(Method):
    """The maps of a layer, weighted with the spatial mean of their gradients, summed, then ReLU.

    `layer` is the name of a module; None takes the last map larger than 1 x 1, behind the last convolution or LayerNorm
    and its activation. The tokens of a transformer are a map, too. Of several layers: the mean of their maps, each
    divided by its maximum. Values (n, 1, h, w) of at least 0, enlarged bilinearly and not normalised.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    """

    name: ClassVar[str] = "gradcam"
    traits: ClassVar[Traits] = Traits("gradient")

    layer: Layers = None
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        return Values(_gradcam(model, inputs, target, self.layer))


@method
@frozen
class GuidedGradCAM(Method):
    """Guided backpropagation times the enlarged Grad-CAM map: fine detail, specific to the class.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, section 3.2.
    Differs: the map is enlarged bilinearly, as the paper says (Captum's default is to the nearest).
    """

    name: ClassVar[str] = "guided_gradcam"
    traits: ClassVar[Traits] = Traits("gradient")

    layer: Layers = None
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        cam = _gradcam(model, inputs, target, self.layer)  # (n, 1, h, w)
        return Values(cam * guided_backprop(model, inputs, target))


def _gradcam(model: nn.Module, inputs: Tensor, target: Tensor, layer: Layers) -> Tensor:
    def combine(of: LayerMaps) -> Tensor:
        return (of.slopes.mean((2, 3), keepdim=True) * of.maps).sum(1, keepdim=True).relu()

    return by_slopes(model, inputs, target, layer, combine)
