"""The relatives of Grad-CAM: against their formulas in float64, loop by loop, and against pytorch-grad-cam."""

import copy

import pytest
import torch
import torch.nn.functional as F
from nets import net_and_inputs, vit
from torch import Tensor, nn

import xaicompare as xc
from xaicompare.methods._maps import map_layer
from xaicompare.methods._tail import after

BY_SLOPES = ("gradcam", "gradcam_plus_plus", "layercam", "hirescam", "xgradcam")
BY_LAYER = (*BY_SLOPES, "eigencam", "scorecam", "ablationcam")
PEERS = {
    "gradcam": "GradCAM",
    "gradcam_plus_plus": "GradCAMPlusPlus",
    "layercam": "LayerCAM",
    "hirescam": "HiResCAM",
    "xgradcam": "XGradCAM",
    "scorecam": "ScoreCAM",
    "ablationcam": "AblationCAM",
}


def halves(seed: int = 0) -> tuple[nn.Sequential, nn.Sequential, Tensor]:
    """What comes up to a layer with maps (n, 5, 6, 6), what comes after it, and images (2, 3, 12, 12); in float64."""
    torch.manual_seed(seed)
    before = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2))
    after = nn.Sequential(nn.Conv2d(5, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 3))
    return before.double(), after.double(), torch.randn(2, 3, 12, 12, dtype=torch.float64)


def enlarged(small: Tensor) -> Tensor:
    return F.interpolate(small[None, None], size=(12, 12), mode="bilinear")[0]


def by_formula(method: str, after: nn.Module, maps: Tensor, target: int) -> Tensor:
    """One image's map (6, 6) from its layer's values (5, 6, 6), position by position."""
    leaf = maps.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(after(leaf[None])[0, target], leaf)
    made = torch.zeros(6, 6, dtype=torch.float64)
    for values, slope in zip(maps, slopes, strict=True):
        weight = torch.zeros(6, 6, dtype=torch.float64)
        for i in range(6):
            for j in range(6):
                g = float(slope[i, j])
                if method == "gradcam":
                    weight += g / 36
                elif method == "gradcam_plus_plus" and g > 0:
                    weight += g * g**2 / (2 * g**2 + float(values.sum()) * g**3)
                elif method == "xgradcam" and values.sum() > 0:
                    weight += g * float(values[i, j] / values.sum())
                elif method == "layercam":
                    weight[i, j] = max(g, 0)
                elif method == "hirescam":
                    weight[i, j] = g
        made += weight * values
    return made if method == "hirescam" else made.clamp(min=0)


@pytest.mark.parametrize("method", BY_SLOPES)
def test_maps_by_slopes_are_their_formula(method: str) -> None:
    before, after, images = halves()
    made = xc.attribute(nn.Sequential(before, after), images, 1, method, layer="0").values
    expected = [enlarged(by_formula(method, after, maps, 1)) for maps in before(images).detach()]
    assert torch.allclose(made, torch.stack(expected), rtol=1e-9, atol=1e-12)
    assert made.abs().max() > 0


def test_hirescam_is_cam_on_a_network_that_cam_explains() -> None:
    model, inputs = net_and_inputs("cnn")
    cam = xc.attribute(model, inputs, 1, "cam").values
    positions = 8 * 8
    hires = xc.attribute(model, inputs, 1, "hirescam", layer="5").values * positions
    assert torch.allclose(hires, cam, atol=1e-5 * float(cam.abs().max()))


def test_eigencam_is_the_leading_eigenvector_by_power_iteration() -> None:
    before, after, images = halves()
    made = xc.attribute(nn.Sequential(before, after), images, 0, "eigencam", layer="0").values
    for values, maps in zip(made, before(images).detach(), strict=True):
        rows = maps.flatten(1).T  # (36, 5)
        vector = torch.ones(5, dtype=torch.float64)
        for _ in range(3000):
            vector = F.normalize(rows.T @ (rows @ vector), dim=0)
        expected = enlarged((rows @ vector).reshape(6, 6))
        assert torch.allclose(values, expected * expected.sum().sign(), atol=1e-8)
    other = xc.attribute(nn.Sequential(before, after), images, 2, "eigencam", layer="0").values
    assert torch.equal(made, other)


def test_scorecam_masks_the_image_with_each_map() -> None:
    before, after, images = halves()
    model = nn.Sequential(before, after)
    made = xc.attribute(model, images, 1, "scorecam", layer="0", batch_size=3).values
    for image, values in zip(images, made, strict=True):
        maps = before(image[None]).detach()[0]
        scores = []
        for one in maps:
            mask = enlarged(one)
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            scores.append(model((mask * image)[None])[0, 1])
        weights = torch.stack(scores).softmax(0).detach()
        assert torch.allclose(values, enlarged((weights[:, None, None] * maps).sum(0).clamp(min=0)), atol=1e-12)


def test_scorecam_gives_dead_maps_no_weight() -> None:
    before, after, images = halves()
    with torch.no_grad():
        before[0].weight[2], before[0].bias[2] = 0, 3.0  # the same everywhere, and great
    made = xc.attribute(nn.Sequential(before, after), images, 1, "scorecam", layer="0").values
    assert made.std() > 0
    alive = nn.Sequential(before, after)
    maps = before(images).detach()
    assert made.max() <= maps[:, [0, 1, 3, 4]].max() < 3 or made.max() < 3
    assert xc.attribute(alive, images, 1, "scorecam", layer="0").status is None


def test_ablationcam_takes_each_channel_away() -> None:
    before, after, images = halves()
    made = xc.attribute(nn.Sequential(before, after), images, 1, "ablationcam", layer="0", batch_size=3).values
    for image, values in zip(images, made, strict=True):
        maps = before(image[None]).detach()
        score = after(maps.clone())[0, 1]
        cam = torch.zeros(6, 6, dtype=torch.float64)
        for channel in range(5):
            without = maps.clone()
            without[:, channel] = 0
            cam += ((score - after(without)[0, 1]) / score.abs()).detach() * maps[0, channel]
        assert torch.allclose(values, enlarged(cam.clamp(min=0)), atol=1e-12)


def test_fullgrad_is_the_sum_of_what_input_and_biases_get() -> None:
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 5, 3, padding=1).double(), nn.BatchNorm2d(5).double().eval()
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    rest = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(5 * 64, 3)).double()
    image = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    leaves = [image.clone().requires_grad_()]
    leaves.append(convolution(leaves[0]))
    leaves.append(norm(leaves[1]))
    slopes = torch.autograd.grad(rest(leaves[2])[0, 1], leaves)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    biases = [None, convolution.bias, norm.bias - norm.running_mean * scale]
    expected = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    for bias, slope in zip(biases, slopes, strict=True):
        part = (slope * (image if bias is None else bias.detach()[:, None, None])).abs()
        expected += ((part - part.min()) / (part.max() - part.min())).sum(1, keepdim=True)
    model = nn.Sequential(convolution, norm, rest)
    assert torch.allclose(xc.attribute(model, image, 1, "fullgrad").values, expected, atol=1e-12)


def test_the_parts_of_fullgrad_sum_to_the_score() -> None:
    """What the paper proves, for the biases that the method reads: input and biases explain the output in full."""
    from xaicompare.methods.weighted_maps import _bias_of

    model, inputs = net_and_inputs("cnn")
    point, kept = inputs.clone().requires_grad_(), []
    layers = [layer for layer in model.modules() if _bias_of(layer) is not None]
    for layer in layers:
        layer.register_forward_hook(lambda _layer, _given, output: (kept.append(output), output.clone())[1])
    score = model(point)[:, 1]
    slopes = torch.autograd.grad(score.sum(), [point, *kept])
    whole = (slopes[0] * point).flatten(1).sum(1) + model[-1].bias[1]
    for layer, slope in zip(layers, slopes[1:], strict=True):
        whole = whole + (slope * _bias_of(layer)[:, None, None]).flatten(1).sum(1)
    for layer in layers:
        layer._forward_hooks.clear()
    assert torch.allclose(whole, score, atol=1e-5)


@pytest.mark.parametrize("method", BY_LAYER)
def test_several_layers_are_the_mean_of_their_maps_by_their_greatest_size(method: str) -> None:
    model, inputs = net_and_inputs("cnn")
    fused = xc.attribute(model, inputs, 1, method, layer=("0", "4")).values
    each = [xc.attribute(model, inputs, 1, method, layer=name).values for name in ("0", "4")]
    sizes = [values.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-30) for values in each]
    assert torch.allclose(fused, sum(v / s for v, s in zip(each, sizes, strict=True)) / 2, atol=1e-6)
    with pytest.raises(xc.SettingError, match=r"layer=\(\) names none"):
        xc.attribute(model, inputs, 1, method, layer=())


@pytest.mark.parametrize("method", BY_LAYER)
def test_tokens_of_a_transformer_are_a_map(method: str) -> None:
    model, inputs = vit(), torch.randn(2, 3, 16, 16)
    made = xc.attribute(model, inputs, 1, method).values
    assert made.shape == (2, 1, 16, 16)
    assert made.isfinite().all()


@pytest.mark.parametrize("method", BY_LAYER)
def test_an_unknown_layer_is_named(method: str) -> None:
    with pytest.raises(xc.UnknownNameError, match="unknown layer 'featrues'"):
        xc.attribute(*net_and_inputs("cnn"), method=method, layer="featrues")


@pytest.mark.parametrize(("net", "layer"), [("cnn", "5"), ("vgg11_bn", "features.27"), ("resnet18", "layer4")])
@pytest.mark.parametrize("method", PEERS)
def test_maps_are_those_of_pytorch_grad_cam(method: str, net: str, layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its maps are scaled to 0 to 1 and enlarged otherwise; behind a ReLU, scaled and before enlarging, they agree."""
    peers = pytest.importorskip("pytorch_grad_cam")
    model, inputs = net_and_inputs(net)
    if method in ("scorecam", "ablationcam"):  # a pass per channel
        layer = {"cnn": layer, "vgg11_bn": "features.2", "resnet18": "layer1"}[net]
    model = copy.deepcopy(model)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.weight *= 30 if method == "gradcam_plus_plus" else 1  # it adds 1e-6 where slopes^2 stand
        last.bias += 100 if method == "ablationcam" else 0  # it divides by negative scores, too
    chosen = model.get_submodule(layer)
    if method == "scorecam":  # the enlarging of masks is an argument of neither
        monkeypatch.setattr(torch.nn, "UpsamplingBilinear2d", lambda size: nn.Upsample(size, mode="bilinear"))
    peer = getattr(peers, PEERS[method])(model=model, target_layers=[chosen])
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(1)] * len(inputs)
    numbers = inputs.clone().requires_grad_()
    logits = peer.activations_and_grads(numbers)
    peer.model.zero_grad()
    sum(target(output) for target, output in zip(targets, logits, strict=True)).backward(retain_graph=True)
    maps = peer.activations_and_grads.activations[0].detach().numpy()
    slopes = peer.activations_and_grads.gradients[0].detach().numpy()
    cam = torch.as_tensor(peer.get_cam_image(numbers, chosen, targets, maps, slopes, False))[:, None]
    cam = cam if method == "hirescam" else cam.clamp(min=0)
    expected = F.interpolate(cam.float(), size=inputs.shape[2:], mode="bilinear", align_corners=False)
    peer.activations_and_grads.release()
    made = xc.attribute(model, inputs, 1, method, layer=layer).values
    scale = [values.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12) for values in (made, expected)]
    assert torch.allclose(made / scale[0], expected / scale[1], atol=2e-3)


@pytest.mark.parametrize(
    "name", ["hf:ViT", "hf:Beit", "timm:deit_tiny_patch16_224", "timm:vit_small_patch14_reg4_dinov2"]
)
def test_the_last_map_has_slopes_where_the_class_token_alone_is_read(name: str) -> None:
    """Of transformers with attention of their own, whose last LayerNorm reaches the output by its first token alone."""
    zoo_nets = pytest.importorskip("zoo_nets")
    pytest.importorskip("transformers" if name.startswith("hf") else "timm")
    model, inputs = zoo_nets.net(name), zoo_nets.images(name)
    assert xc.attribute(model, inputs, 1, "hirescam").values.abs().amax((1, 2, 3)).min() > 0


@pytest.mark.parametrize("net", ["cnn", "vgg11_bn", "resnet18", "attended", "vit"])
def test_what_comes_after_a_layer_is_run_alone_and_gives_the_same(net: str) -> None:
    """Every channel of the layer is silenced in whole passes, by a hook of the test's own."""
    model, inputs = net_and_inputs(net)
    layer = map_layer(model, inputs, None)
    rest, kept = after(model, layer, inputs[0]), []
    handle = layer.register_forward_hook(lambda _module, _given, output: kept.append(output.detach()))
    model(inputs[:1])
    handle.remove()
    values = kept[0].expand(3, *kept[0].shape[1:]).clone()
    values[1] *= 0.5
    values[2, :, :2] = 0
    handle = layer.register_forward_hook(lambda *_: values.clone())
    expected = model(inputs[:1].expand(3, *inputs.shape[1:])).detach()
    handle.remove()
    ran = []
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    handle = first.register_forward_pre_hook(lambda *_: ran.append(torch.is_grad_enabled()))
    assert torch.allclose(rest(values), expected, atol=1e-5)
    handle.remove()
    assert "forward" not in vars(first)


def test_code_that_writes_in_place_is_run_whole() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
            self.last = nn.Linear(9 * 36, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            z = self.second(y.clone())
            y.relu_()  # of what is kept of the first
            return self.last(torch.cat([y, z], 1).flatten(1))

    model, image = Writes().eval(), torch.randn(3, 6, 6)
    values = torch.randn(4, 5, 6, 6)
    handle = model.second.register_forward_hook(lambda *_: values)
    expected = model(image.expand(4, 3, 6, 6))
    handle.remove()
    assert torch.allclose(after(model, model.second, image)(values), expected, atol=1e-6)
