"""Class activation maps: which positions of a convolutional map speak for the class."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xaicompare.attended import Attention
from xaicompare.boundary import checked_outputs, picked
from xaicompare.core import Method, Traits, Values
from xaicompare.errors import InputError, UnsupportedModelError
from xaicompare.methods._common import layer_named
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
    traits: ClassVar[Traits] = Traits("gradient")

    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        maps, logits = _pooled_maps(model, _images(inputs))  # (n, k, h', w'), (n, classes)
        weight, bias = _head(model, maps, logits)
        if not torch.allclose(maps.mean((2, 3)) @ weight.T + bias, logits, rtol=1e-3, atol=1e-4):
            raise UnsupportedModelError(_CAM_NEEDS.format(type(model).__name__))
        values = torch.einsum("nk,nkhw->nhw", weight[target], maps)[:, None]  # (n, 1, h', w')
        return Values(_enlarged(values, inputs))


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

    `layer` is the name of a module; None takes the last convolution or LayerNorm with a map larger than 1 x 1. The
    tokens of a transformer are a map, too. Values (n, 1, h, w) of at least 0, enlarged bilinearly and not normalised.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    """

    name: ClassVar[str] = "gradcam"
    traits: ClassVar[Traits] = Traits("gradient")

    layer: str | None = None
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

    layer: str | None = None
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        cam = _gradcam(model, inputs, target, self.layer)  # (n, 1, h, w)
        return Values(cam * guided_backprop(model, inputs, target))


def _gradcam(model: nn.Module, inputs: Tensor, target: Tensor, layer: str | None) -> Tensor:
    images = _images(inputs)
    chosen = _last_map(model, images) if layer is None else layer_named(model, layer)
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _given: object, output: object) -> object:
        if not isinstance(output, Tensor):
            return None
        kept.append(output)
        return output.clone()  # what comes next may overwrite it

    handle = chosen.register_forward_hook(keep)
    try:
        score = picked(checked_outputs(model(images), len(images)), target)
    finally:
        handle.remove()
    if len(kept) != 1:
        name = next(path for path, module in model.named_modules() if module is chosen)
        raise UnsupportedModelError(f"layer {name!r} gave {len(kept)} tensors in a pass; expected one. Name another.")
    (slopes,) = torch.autograd.grad(score.sum(), kept)
    maps, slopes = (as_maps(values, images) for values in (kept[0], slopes))  # (n, k, h', w')
    cam = (slopes.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu()
    return _enlarged(cam.detach(), inputs)


def as_maps(values: Tensor, inputs: Tensor) -> Tensor:
    """Values of a layer as maps (n, k, h', w'): of a convolution, of tokens (n, h', w', k), or of tokens (n, t, k).

    Tokens are told by the shape of the inputs (n, c, h, w), which the grid of tokens shares; a class token is left out.

    Raises:
        UnsupportedModelError: values that are no map of the inputs.
    """
    high, wide = inputs.shape[2:]
    if values.ndim == 4:
        _, a, b, c = values.shape
        tokens = b * wide != c * high and a * wide == b * high
        return values.movedim(3, 1) if tokens else values
    if values.ndim == 3:
        for extra in (0, 1):
            count = values.shape[1] - extra
            rows = round((count * high / wide) ** 0.5)
            if rows and count % rows == 0 and rows * wide == count // rows * high:
                return values[:, extra:].transpose(1, 2).unflatten(2, (rows, count // rows))
    raise UnsupportedModelError(
        f"a layer gives shape {tuple(values.shape)} for inputs {tuple(inputs.shape)}; expected maps (n, k, h, w) or "
        "the tokens of a grid. Name a convolution, or a LayerNorm."
    )


def _last_map(model: nn.Module, inputs: Tensor) -> nn.Module:
    """The convolution or LayerNorm that runs last with a map larger than 1 x 1; found by one pass of one sample.

    With attention, it is the LayerNorm before the last one of it: what comes after may read the class token alone.
    """
    ran: list[nn.Module] = []

    def note(module: nn.Module, _: tuple[Tensor, ...], output: object) -> None:
        if isinstance(module, nn.MultiheadAttention) or (isinstance(output, Tensor) and _is_map(output, inputs)):
            ran.append(module)

    kinds = (nn.Conv2d, nn.LayerNorm, nn.MultiheadAttention)
    scoring = {part for module in model.modules() if isinstance(module, Attention) for part in module.modules()}
    looked = [module for module in model.modules() if isinstance(module, kinds) and module not in scoring]
    handles = [module.register_forward_hook(note) for module in looked]
    try:
        with torch.no_grad():
            model(inputs[:1])
    finally:
        for handle in handles:
            handle.remove()
    attention = [place for place, module in enumerate(ran) if isinstance(module, nn.MultiheadAttention)]
    maps = [module for module in ran[: attention[-1]] if not isinstance(module, kinds[2])] if attention else ran
    if not maps:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no convolution with a map larger than 1 x 1; expected a convolutional "
            "network. Name a layer that has a map, or use a method that needs none."
        )
    return maps[-1]


def _is_map(values: Tensor, inputs: Tensor) -> bool:
    try:
        return as_maps(values, inputs).shape[2:].numel() > 1
    except UnsupportedModelError:
        return False


def _images(inputs: Tensor) -> Tensor:
    if inputs.ndim != 4:
        raise InputError(f"inputs have shape {tuple(inputs.shape)}; expected images (n, c, h, w).")
    return inputs


def _enlarged(maps: Tensor, inputs: Tensor) -> Tensor:
    return F.interpolate(maps, size=inputs.shape[-2:], mode="bilinear", align_corners=False)
