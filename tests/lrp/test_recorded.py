"""LRP, DeepLIFT and changed backpropagation on recorded passes: transformers, gates, functional layers."""

import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from nets import _lively, net_and_inputs
from torch import Tensor, nn

import xaicompare as xc
from xaicompare.diagnosis.recorded import recorded
from xaicompare.errors import UnsupportedModelError
from xaicompare.lrp.graph import network
from xaicompare.lrp.recorded import recorded_network

STABILIZER = 1e-6


def over(relevance: Tensor, z: Tensor) -> Tensor:
    return relevance / (z + torch.where(z < 0, -STABILIZER, STABILIZER).to(z))


def through_layer(x: Tensor, weight: Tensor, bias: Tensor, relevance: Tensor) -> Tensor:
    """LRP-epsilon of x (tokens, in) under x weight' + bias."""
    return x * (over(relevance, x @ weight.T + bias) @ weight)


def through_norm(x: Tensor, norm: nn.LayerNorm, relevance: Tensor) -> Tensor:
    """AttnLRP, proposition 3.4, with the mean kept: relevance in proportion to the centring map of constant scale."""
    width = x.shape[-1]
    centring = torch.eye(width).double() - 1 / width
    scale = norm.weight / (x.var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
    return x * ((over(relevance, norm(x)) * scale) @ centring)


def through_attention(x: Tensor, attention: nn.MultiheadAttention, relevance: Tensor, follow: bool) -> Tensor:
    """AttnLRP, propositions 3.1 and 3.3, head by head, for x (tokens, width)."""
    width, heads = x.shape[1], attention.num_heads
    size = width // heads
    weights, biases = attention.in_proj_weight.split(width), attention.in_proj_bias.split(width)
    q, k, v = (x @ w.T + b for w, b in zip(weights, biases, strict=True))
    given = [torch.zeros_like(x) for _ in range(3)]
    mixed, parts = torch.zeros_like(x), []
    for head in range(heads):
        cut = slice(head * size, (head + 1) * size)
        scores = q[:, cut] @ k[:, cut].T / size**0.5
        parts.append((cut, scores, scores.softmax(-1)))
        mixed[:, cut] = parts[-1][2] @ v[:, cut]
    below = through_layer(mixed, attention.out_proj.weight, attention.out_proj.bias, relevance)
    for cut, scores, chances in parts:
        s = over(below[:, cut] / (2 if follow else 1), mixed[:, cut])
        given[2][:, cut] = v[:, cut] * (chances.T @ s)
        if not follow:
            continue
        of_chances = chances * (s @ v[:, cut].T)
        of_scores = scores * (of_chances - chances * of_chances.sum(-1, keepdim=True))
        s = over(of_scores / 2, scores) / size**0.5
        given[0][:, cut], given[1][:, cut] = q[:, cut] * (s @ k[:, cut]), k[:, cut] * (s.T @ q[:, cut])
    layers = zip(weights, biases, given, strict=True)
    return sum(through_layer(x, w, b, each) for w, b, each in layers)


def through_vit(model: nn.Module, image: Tensor, target: int, follow: bool) -> Tensor:
    """Relevance (c, h, w) of one image (1, c, h, w): a second implementation, block by block."""
    blocks = list(model.encoder.layers)
    flat = model.conv_proj(image).flatten(2).transpose(1, 2)[0]
    x = torch.cat([model.class_token[0], flat]) + model.encoder.pos_embedding[0]
    seen = []
    for block in blocks:
        normed = block.ln_1(x)
        attended = block.self_attention(normed[None], normed[None], normed[None], need_weights=False)[0][0]
        middle = x + attended
        inner = block.ln_2(middle)
        seen.append((block, x, normed, attended, middle, inner, block.mlp(inner)))
        x = middle + seen[-1][6]
    top = model.encoder.ln(x)
    head = model.heads.head
    relevance = torch.zeros_like(x)
    start = F.one_hot(torch.tensor(target), head.out_features) * (top[0] @ head.weight.T + head.bias)
    relevance[0] = through_layer(top[:1], head.weight, head.bias, start[None])[0]
    relevance = through_norm(x, model.encoder.ln, relevance)
    for block, x, normed, attended, middle, inner, dense in reversed(seen):
        first, second = block.mlp[0], block.mlp[3]
        s = over(relevance, middle + dense)
        hidden = first(inner)
        of_dense = through_layer(F.gelu(hidden), second.weight, second.bias, dense * s)
        of_inner = through_layer(inner, first.weight, first.bias, of_dense)
        relevance = middle * s + through_norm(middle, block.ln_2, of_inner)
        s = over(relevance, middle)
        of_normed = through_attention(normed, block.self_attention, attended * s, follow)
        relevance = x * s + through_norm(x, block.ln_1, of_normed)
    joined = torch.cat([model.class_token[0], flat])
    of_flat = (joined * over(relevance, joined + model.encoder.pos_embedding[0]))[1:]
    patches = F.unfold(image, model.patch_size, stride=model.patch_size)[0].T  # (tokens, c p p)
    of_patches = through_layer(patches, model.conv_proj.weight.flatten(1), model.conv_proj.bias, of_flat)
    return F.fold(of_patches.T[None], image.shape[2:], model.patch_size, stride=model.patch_size)[0]


@pytest.fixture(scope="module")
def vit_and_images() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(5)
    model = torchvision.models.VisionTransformer(16, 4, 2, 2, 8, 16, num_classes=5)
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0, 0.4)
    return model.double().eval(), torch.randn(3, 3, 16, 16).double()


@pytest.mark.parametrize("follow", [True, False])
def test_vit_is_as_a_second_implementation(vit_and_images: tuple[nn.Module, Tensor], follow: bool) -> None:
    model, images = vit_and_images
    rule = xc.lrp.RULES["epsilon"]()
    rules = xc.lrp.Composite(rule, rule, attention="follow" if follow else "constant")
    made = xc.relevance(model, images, 2, rules).values
    for image, found in zip(images.split(1), made, strict=True):
        with torch.no_grad():
            expected = through_vit(model, image, 2, follow)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["zero", "epsilon", "gamma", "attnlrp", "epsilon-plus-flat"])
def test_nothing_is_lost_unseen_in_a_transformer(vit_and_images: tuple[nn.Module, Tensor], name: str) -> None:
    model, images = vit_and_images
    made = xc.relevance(model, images, None, name)
    scale = torch.stack([values.flatten(1).abs().sum(1) for values in made.layers.values()]).amax(0)
    assert (made.residual.abs() <= 1e-8 * scale).all()
    assert (made.values.flatten(1).abs().sum(1) > 0).all()


def test_several_classes_at_once_as_one_by_one(vit_and_images: tuple[nn.Module, Tensor]) -> None:
    model, images = vit_and_images
    both = xc.relevance(model, images, [[0, 3]] * 3, "attnlrp", layers=[]).values
    for place, target in enumerate((0, 3)):
        torch.testing.assert_close(both[:, place], xc.relevance(model, images, target, "attnlrp", layers=[]).values)


class Layered(nn.Module):
    """A small network in two spellings: modules, and functions called with parameters."""

    def __init__(self, functional: bool) -> None:
        super().__init__()
        self.functional = functional
        self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.relu, self.head = nn.ReLU(), nn.Linear(6 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        if not self.functional:
            return self.head(self.relu(self.norm(self.conv(x))).flatten(1))
        x = F.conv2d(x, self.conv.weight, self.conv.bias, padding=1)
        norm = self.norm
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
        return F.linear(F.relu(x).flatten(1), self.head.weight, self.head.bias)


def layered(functional: bool) -> nn.Module:
    torch.manual_seed(2)
    return _lively(Layered(functional)).double()


@pytest.mark.parametrize("method", ["lrp", "deeplift", "deepshap", "guided_backprop", "deconvnet"])
def test_functional_layers_are_the_modules(method: str) -> None:
    inputs = torch.randn(3, 3, 4, 4).double()
    expected = xc.attribute(layered(False), inputs, 1, method).values
    torch.testing.assert_close(xc.attribute(layered(True), inputs, 1, method).values, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["epsilon", "epsilon-plus-flat", "alpha-beta", "gamma"])
@pytest.mark.parametrize("net", ["cnn", "mlp", "resnet18"])
def test_a_recorded_network_has_the_map_of_a_traced_one(net: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = net_and_inputs(net)
    try:
        model.double()
        inputs = inputs.double()
        traced = xc.relevance(model, inputs, 1, name, layers=[]).values
        assert not network(model, inputs).alone
        monkeypatch.setattr(sys.modules["xaicompare.lrp.relevance"], "any_network", recorded_network)
        found = xc.relevance(model, inputs, 1, name, layers=[]).values
    finally:
        model.float()
    torch.testing.assert_close(found, traced, rtol=0, atol=1e-6 * float(traced.abs().max()))


GATED: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "glu": lambda s, x: F.glu(s.c(x), 1).mean((2, 3)) @ s.w,
    "softmax over positions": lambda s, x: (
        (s.c(x)[:, :3].flatten(2) * s.d(x)[:, :3].flatten(2).softmax(2)).sum(2) @ s.w
    ),
    "group norm": lambda s, x: F.silu(F.group_norm(s.c(x), 2)).mean((2, 3))[:, :3] @ s.w,
    "layer norm": lambda s, x: F.gelu(F.layer_norm(s.c(x).mean((2, 3)), (6,)))[:, :3] @ s.w,
    "rms norm": lambda s, x: F.hardswish(F.rms_norm(s.c(x).mean((2, 3)), (6,)))[:, :3] @ s.w,
    "l2": lambda s, x: F.normalize(s.c(x).mean((2, 3)), dim=1)[:, :3] @ s.w,
    "roll": lambda s, x: F.relu6(torch.roll(s.c(x), 1, 2)).amax((2, 3))[:, :3] @ s.w,
    "same padding": lambda s, x: F.elu(F.conv2d(F.pad(x, (0, 1, 0, 1)), s.d.weight)).mean((2, 3))[:, :3] @ s.w,
    "einsum": lambda s, x: torch.einsum("nchw,ndhw->ncd", s.c(x), s.d(x)).mean(2)[:, :3] @ s.w,
}


class Gated(nn.Module):
    """Two convolutions, joined in one of these ways."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.c, self.d = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 6, 3, padding=1)
        self.w = nn.Parameter(torch.randn(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return GATED[self.kind](self, x)


def gated(kind: str) -> nn.Module:
    torch.manual_seed(3)
    return Gated(kind).double().eval()


@pytest.mark.parametrize("name", ["epsilon", "attnlrp", "epsilon-plus-flat"])
@pytest.mark.parametrize("kind", GATED)
def test_relevance_and_what_was_absorbed_make_up_the_start(kind: str, name: str) -> None:
    made = xc.relevance(gated(kind), torch.randn(2, 3, 8, 8).double(), 1, name)
    scale = torch.stack([values.flatten(1).abs().sum(1) for values in made.layers.values()]).amax(0)
    assert (made.residual.abs() <= 1e-8 * scale).all()


@pytest.mark.parametrize("method", ["deeplift", "deepshap"])
@pytest.mark.parametrize("kind", GATED)
def test_deeplift_adds_up_to_the_difference(kind: str, method: str) -> None:
    model, inputs = gated(kind), torch.randn(2, 3, 8, 8).double()
    baselines = torch.randn(1 if method == "deeplift" else 4, 3, 8, 8).double()
    name = "baseline" if method == "deeplift" else "baselines"
    made = xc.attribute(model, inputs, 1, method, **{name: baselines})
    assert made.status == "ok"
    if method == "deeplift":
        with torch.no_grad():
            expected = model(inputs)[:, 1] - model(baselines)[:, 1]
        torch.testing.assert_close(made.values.flatten(1).sum(1), expected, rtol=1e-8, atol=1e-10)


def test_guided_backprop_has_the_activations_own_derivative() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 2)).double()
    inputs = torch.randn(3, 4).double()
    first, second = model[0](inputs), model[2](F.silu(model[0](inputs)))

    def slope(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        h = 1e-6
        return (function(x + h) - function(x - h)) / (2 * h)

    above = model[4].weight[1].expand(3, 5).clamp(min=0) * slope(F.gelu, second)
    above = (above @ model[2].weight).clamp(min=0) * slope(F.silu, first)
    made = xc.attribute(model, inputs, 1, "guided_backprop").values
    torch.testing.assert_close(made, (above @ model[0].weight).detach(), rtol=1e-6, atol=1e-9)
    plain = model[4].weight[1].expand(3, 5).clamp(min=0) @ model[2].weight
    made = xc.attribute(model, inputs, 1, "deconvnet").values
    torch.testing.assert_close(made, (plain.clamp(min=0) @ model[0].weight).detach())


def test_what_is_random_is_refused() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(F.layer_norm(x, (4,))) + torch.rand(3)

    with pytest.raises(UnsupportedModelError, match="random"):
        xc.attribute(Noisy(), torch.randn(2, 4), 1, "lrp")


class Keeping(nn.Module):
    """Keeps a tensor that it makes of a parameter between passes, as LeViT keeps its attention biases."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 3)
        self.bias = nn.Parameter(torch.randn(2, 4))
        self.kept: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if "bias" not in self.kept:
            self.kept["bias"] = self.bias[0] * 2
        return self.last(torch.relu(self.first(x) + self.kept["bias"][:, None, None]).flatten(1))


@pytest.mark.parametrize("called_before", [False, True])
def test_what_a_module_keeps_between_passes_is_its_own(called_before: bool) -> None:
    torch.manual_seed(0)
    model, inputs = Keeping().eval(), torch.randn(2, 3, 8, 8)
    if called_before:
        model(inputs)  # with gradients on: what is kept is no leaf
    before = dict(model.kept)
    recorded(model, inputs)
    assert list(model.kept) == list(before)
    assert all(model.kept[key] is before[key] for key in before)
    fresh = Keeping()
    fresh.load_state_dict(model.state_dict())
    assert float(xc.attribute(model, inputs, 1, "lrp").incompleteness.max()) < 1e-5
    assert torch.equal(model(inputs), fresh(inputs))


def test_sums_with_a_product_or_a_quotient_are_taken_apart() -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x)
            y = torch.addcmul(y, y, y.sigmoid(), value=0.5)
            return self.last(torch.addcdiv(y, y, 1 + y.exp(), value=2).flatten(1))

    torch.manual_seed(0)
    model, inputs = Sums().double().eval(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for method in ("deeplift", "lrp"):
        assert float(xc.attribute(model, inputs, 1, method).incompleteness.max()) < 1e-8
