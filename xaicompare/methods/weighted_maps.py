"""The relatives of Grad-CAM: other weights for the maps of a layer, by gradients, by masks, or by none."""

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, fx, nn

from xaicompare.boundary import checked_outputs, outputs, picked
from xaicompare.core import Method, Traits, Values
from xaicompare.errors import UnsupportedModelError
from xaicompare.methods._common import draws_per_pass
from xaicompare.methods._maps import (
    LayerMaps,
    Layers,
    as_images,
    as_maps,
    by_slopes,
    enlarged,
    kept_outputs,
    map_layer,
    only_one,
    over_layers,
)
from xaicompare.methods._tail import after
from xaicompare.registry import method
from xaicompare.scripted import TorchScriptProgram
from xaicompare.settings import BatchSize, frozen


def _tiny(values: Tensor) -> float:
    return torch.finfo(values.dtype).tiny


@method
@frozen
class GradCAMPlusPlus(Method):
    """Grad-CAM whose weights sum the positive slopes of a map, those of positions that matter alone the most.

    The weight of a channel is the sum over its positions of alpha max(0, g), alpha = g^2 / (2 g^2 + g^3 sum A), of the
    slopes g and the values A. `layer` as in `gradcam`; of several, the mean of the maps, each divided by its maximum.
    Values (n, 1, h, w) of at least 0, enlarged bilinearly and not normalised.

    Source: Chattopadhay et al. 2018, arXiv:1710.11063, equations 5, 16 and 19.
    Differs: g is the slope of the output f, the paper's that of exp(f); a map differs by the factor exp(f) alone.
    Negative values of a map count as 0 in sum A: behind a ReLU, as the paper has it, there are none, and the weights
    would have poles.
    """

    name: ClassVar[str] = "gradcam_plus_plus"
    traits: ClassVar[Traits] = Traits("gradient")

    layer: Layers = None
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        def combine(of: LayerMaps) -> Tensor:
            squares = of.slopes**2
            below = 2 * squares + squares * of.slopes * of.maps.relu().sum((2, 3), keepdim=True)
            alpha = torch.where(below == 0, 0, squares / torch.where(below == 0, 1, below))
            weights = (alpha * of.slopes.relu()).sum((2, 3), keepdim=True)
            return (weights * of.maps).sum(1, keepdim=True).relu()

        return Values(by_slopes(model, inputs, target, self.layer, combine))


@method
@frozen
class LayerCAM(Method):
    """Every position of a map weighted with its own slope, where that is positive; summed, then ReLU.

    Made for lower layers too, where one weight for a whole map says little. `layer` as in `gradcam`; of several, the
    mean of the maps, each divided by its maximum. Values (n, 1, h, w) of at least 0, enlarged bilinearly.

    Source: Jiang, Zhang, Hou, Cheng, Wei 2021, LayerCAM, IEEE TIP 30, equations 7 and 8.
    """

    name: ClassVar[str] = "layercam"
    traits: ClassVar[Traits] = Traits("gradient")

    layer: Layers = None
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        def combine(of: LayerMaps) -> Tensor:
            return (of.slopes.relu() * of.maps).sum(1, keepdim=True).relu()

        return Values(by_slopes(model, inputs, target, self.layer, combine))


@method
@frozen
class HiResCAM(Method):
    """Slope times value at every position of a map, summed over channels: what CAM is where the network ends linearly.

    `layer` as in `gradcam`; of several, the mean of the maps, each divided by its greatest size. Values (n, 1, h, w) of
    both signs, enlarged bilinearly.

    Source: Draelos and Carin 2020, arXiv:2011.08891, equation 4.
    """

    name: ClassVar[str] = "hirescam"
    traits: ClassVar[Traits] = Traits("gradient")

    layer: Layers = None
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        def combine(of: LayerMaps) -> Tensor:
            return (of.slopes * of.maps).sum(1, keepdim=True)

        return Values(by_slopes(model, inputs, target, self.layer, combine))


@method
@frozen
class XGradCAM(Method):
    """Grad-CAM whose weight of a channel is the mean of its slopes, weighted with its values; then ReLU.

    `layer` as in `gradcam`; of several, the mean of the maps, each divided by its maximum. Values (n, 1, h, w) of at
    least 0, enlarged bilinearly.

    Source: Fu et al. 2020, arXiv:2008.02312, equation 9.
    Differs: negative values of a map count as 0 in the weights, which are not defined where the values sum to 0; behind
    a ReLU, as the paper has it, there are none.
    """

    name: ClassVar[str] = "xgradcam"
    traits: ClassVar[Traits] = Traits("gradient")

    layer: Layers = None
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        def combine(of: LayerMaps) -> Tensor:
            positive = of.maps.relu()
            whole = positive.sum((2, 3), keepdim=True).clamp(min=_tiny(positive))
            weights = (of.slopes * positive).sum((2, 3), keepdim=True) / whole
            return (weights * of.maps).sum(1, keepdim=True).relu()

        return Values(by_slopes(model, inputs, target, self.layer, combine))


@method
@frozen
class EigenCAM(Method):
    """The first principal direction of a layer's maps: what is strongest there, whatever the class.

    Of the maps as a matrix (positions, channels), not centred, the projection on its first right singular vector, with
    the sign that makes the greater part positive. `layer` as in `gradcam`; of several, the mean of the maps, each
    divided by its greatest size. Values (n, 1, h, w) of both signs, enlarged bilinearly; the target plays no part.

    Source: Muhammad and Yeasin 2020, arXiv:2008.00299, section III.
    Differs: the sign, which the paper leaves open; pytorch-grad-cam centres the maps, which the paper does not.
    """

    name: ClassVar[str] = "eigencam"
    traits: ClassVar[Traits] = Traits("propagation")

    layer: Layers = None
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        return Values(
            over_layers(self.layer, lambda name: enlarged(_principal(_kept(model, inputs, name).maps), inputs))
        )


class _Kept(NamedTuple):
    """What a layer gave in one pass without gradients."""

    layer: nn.Module
    output: Tensor  # as the layer has it
    maps: Tensor  # (n, k, h', w')
    logits: Tensor  # (n, classes), of the model


def _kept(model: nn.Module, inputs: Tensor, layer: str | None) -> _Kept:
    images = as_images(inputs)
    chosen = map_layer(model, images, layer)
    with torch.no_grad(), kept_outputs(chosen) as kept:
        logits = checked_outputs(model(images), len(images))
    only_one(model, chosen, kept)
    return _Kept(chosen, kept[0], as_maps(kept[0], images), logits)


def _principal(maps: Tensor) -> Tensor:
    """(n, k, h', w') -> (n, 1, h', w')."""
    places = maps.flatten(2).transpose(1, 2)  # (n, positions, k)
    first = torch.linalg.svd(places, full_matrices=False).Vh[:, :1]  # (n, 1, k)
    found = (places @ first.transpose(1, 2)).transpose(1, 2)  # (n, 1, positions)
    positive, negative = found.relu().sum(2, keepdim=True), (-found).relu().sum(2, keepdim=True)
    return torch.where(positive >= negative, found, -found).unflatten(2, maps.shape[2:])


@method
@frozen
class ScoreCAM(Method):
    """Maps weighted with the score of the image that they mask: no gradients, one pass per channel.

    Each map, enlarged and scaled to 0 to 1, multiplies the image; the softmax over channels of the explained score is
    the weight; then ReLU. A map that is the same everywhere masks nothing and has no weight. `layer` as in `gradcam`;
    of several, the mean of the maps, each divided by its maximum. Values (n, 1, h, w) of at least 0, enlarged
    bilinearly.

    Source: Wang et al. 2020, arXiv:1910.01279, equations 6 to 8 and algorithm 1; the score of the baseline is the same
    for every channel and leaves a softmax as it is.
    Differs: negative values of a map count as 0; behind a ReLU, as the paper has it, there are none.
    """

    name: ClassVar[str] = "scorecam"
    traits: ClassVar[Traits] = Traits("perturbation")

    layer: Layers = None
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        def of(name: str | None) -> Tensor:
            maps = _kept(model, inputs, name).maps.relu()
            scores = torch.stack(
                [self._scores(model, *one) for one in zip(inputs, maps, target, strict=True)]
            )  # (n, k)
            weights = scores.softmax(1)[:, :, None, None]
            return enlarged((weights * maps).sum(1, keepdim=True).relu(), inputs)

        return Values(over_layers(self.layer, of))

    def _scores(self, model: nn.Module, image: Tensor, maps: Tensor, target: Tensor) -> Tensor:
        """The explained score of one image (c, h, w) under the mask of each map (k, h', w'); -inf where it is flat."""
        low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        at_once, scores = draws_per_pass(self.batch_size, image[None]), []
        for chunk in range(0, len(maps), at_once):
            part = slice(chunk, chunk + at_once)
            large = enlarged(maps[None, part], image[None])[0]
            least, most = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
            masks = (large - least) / (most - least).clamp(min=_tiny(large))
            logits = outputs(model, masks[:, None] * image, self.batch_size)
            scores.append(picked(logits, target.expand(len(logits))))
        flat = (high == low).flatten()
        return torch.cat(scores).masked_fill(flat & ~flat.all(), -torch.inf)


@method
@frozen
class AblationCAM(Method):
    """Maps weighted with the share of the score that is lost without them: no gradients, one pass per channel.

    The weight of a channel is (f - f without it) / |f|; then ReLU. `layer` as in `gradcam`; of several, the mean of the
    maps, each divided by its maximum. Values (n, 1, h, w) of at least 0, enlarged bilinearly.

    Source: Desai and Ramaswamy 2020, Ablation-CAM, WACV, equations 2 and 3.
    Differs: |f| instead of f, which turns the map around where the score is negative.
    """

    name: ClassVar[str] = "ablationcam"
    traits: ClassVar[Traits] = Traits("perturbation")

    layer: Layers = None
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        def of(name: str | None) -> Tensor:
            layer, output, maps, logits = _kept(model, inputs, name)
            scores = picked(logits, target)
            rest = torch.stack([self._without(model, layer, *one) for one in zip(inputs, output, target, strict=True)])
            weights = (scores[:, None] - rest) / scores.abs()[:, None].clamp(min=_tiny(scores))
            return enlarged((weights[:, :, None, None] * maps).sum(1, keepdim=True).relu(), inputs)

        return Values(over_layers(self.layer, of))

    def _without(self, model: nn.Module, layer: nn.Module, image: Tensor, kept: Tensor, target: Tensor) -> Tensor:
        """The explained score (k,) of one image without each channel of what the layer gave, kept without the batch."""
        axis = _channel_axis(kept[None], image[None])
        scores, rest = [], after(model, layer, image)
        for part in torch.arange(kept.shape[axis - 1]).split(draws_per_pass(self.batch_size, image[None])):
            ablated = kept.expand(len(part), *kept.shape).clone()
            ablated.movedim(axis, 1)[torch.arange(len(part)), part] = 0
            scores.append(picked(rest(ablated), target.expand(len(part))))
        return torch.cat(scores)


def _channel_axis(values: Tensor, inputs: Tensor) -> int:
    """Where a layer's values have their channels: 1 of a convolution, the last of tokens."""
    if values.ndim == 3:
        return 2
    return 1 if as_maps(values, inputs) is values else 3


@method
@frozen
class FullGrad(Method):
    """Input times gradient, plus what the gradients say of every bias, layer by layer.

    |x . gradient| and, at each convolution and normalisation, |bias . gradient|, every one scaled to 0 to 1 per image,
    enlarged bilinearly and summed. A normalisation with fixed statistics has the bias beta - gamma mean / deviation.
    Values (n, 1, h, w) of at least 0.

    Source: Srinivas and Fleuret 2019, arXiv:1905.00780, definition 1 and equation 8, with the scaling of section 5
    before the sum, as its authors' code has it.
    """

    name: ClassVar[str] = "fullgrad"
    traits: ClassVar[Traits] = Traits("gradient")

    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        point = as_images(inputs).detach().requires_grad_()
        layers = [layer for layer in model.modules() if _bias_of(layer) is not None]
        if any(type(module) in _WITHOUT_LAYERS and any(_biases(module)) for module in model.modules()):
            raise UnsupportedModelError(
                f"{self.name}: a program of torch.jit or torch.export does not show its layers, whose biases are part "
                "of the map; expected the network that it was made of."
            )
        kept: list[tuple[nn.Module, Tensor]] = []

        def keep(layer: nn.Module, _given: object, output: Tensor) -> Any:
            if output.requires_grad and output.ndim == 4:
                kept.append((layer, output))
                return output.clone()
            return None

        handles = [layer.register_forward_hook(keep) for layer in layers]
        try:
            score = picked(checked_outputs(model(point), len(point)), target)
        finally:
            for handle in handles:
                handle.remove()
        slopes = torch.autograd.grad(score.sum(), [point, *(output for _, output in kept)], allow_unused=True)
        assert slopes[0] is not None
        summed = _unit((slopes[0] * inputs).abs()).sum(1, keepdim=True)
        for part in _of_biases(kept, slopes[1:]):
            summed += enlarged(part, inputs)
        return Values(summed, logits=None)


_WITHOUT_LAYERS = (TorchScriptProgram, nn.Module, fx.GraphModule)  # what programs keep their parameters in


def _biases(module: nn.Module) -> Iterator[str]:
    below = isinstance(module, TorchScriptProgram)
    return (name for name, _ in module.named_parameters(recurse=below) if name.rpartition(".")[2] == "bias")


def _of_biases(kept: list[tuple[nn.Module, Tensor]], slopes: tuple[Tensor | None, ...]) -> Iterator[Tensor]:
    for (layer, _), slope in zip(kept, slopes, strict=True):
        bias = _bias_of(layer)
        if slope is not None and bias is not None:
            yield _unit((slope * bias[:, None, None]).abs()).sum(1, keepdim=True)


def _bias_of(layer: nn.Module) -> Tensor | None:
    """What a layer adds to each channel, (k,): of convolutions, and of normalisations with fixed statistics."""
    if isinstance(layer, nn.Conv2d):
        return None if layer.bias is None else layer.bias.detach()
    if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
        scale = (layer.running_var + layer.eps).rsqrt()
        if layer.weight is not None:
            scale = scale * layer.weight.detach()
        beta = 0 if layer.bias is None else layer.bias.detach()
        return beta - layer.running_mean * scale
    return None


def _unit(values: Tensor) -> Tensor:
    """Values (n, k, h, w) scaled to 0 to 1 per sample."""
    low, high = values.amin((1, 2, 3), keepdim=True), values.amax((1, 2, 3), keepdim=True)
    return (values - low) / (high - low).clamp(min=_tiny(values))
