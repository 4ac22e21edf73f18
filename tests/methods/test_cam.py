import captum.attr
import pytest
import torch
from nets import cnn, mlp, net_and_inputs
from torch import nn

import xaicompare as xc


def full_size_cnn(*head: nn.Module) -> nn.Sequential:
    """Maps as large as the inputs (n, 2, 5, 5): enlarging them changes nothing."""
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), *head)


def pooled(*after: nn.Module) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), *after


def test_the_mean_of_cam_is_the_score_less_the_bias() -> None:
    model, inputs = full_size_cnn(*pooled(nn.Linear(4, 3))), torch.randn(2, 2, 5, 5)
    made = xc.attribute(model, inputs, [2, 0], "cam")
    assert torch.allclose(made.values.mean((1, 2, 3)), made.score - model[-1].bias[[2, 0]], atol=1e-6)


def test_cam_without_a_linear_layer_is_the_class_map() -> None:
    model, inputs = full_size_cnn(nn.Conv2d(4, 3, 1), *pooled()), torch.randn(2, 2, 5, 5)
    made = xc.attribute(model, inputs, 1, "cam")
    assert torch.allclose(made.values[:, 0], model[:3](inputs)[:, 1])


@pytest.mark.parametrize(
    "head",
    [
        (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)),
        (nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
        pooled(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)),
        pooled(nn.Tanh(), nn.Linear(4, 3)),
        pooled(nn.Linear(4, 3), nn.Sigmoid()),
    ],
)
def test_cam_refuses_other_heads(head: tuple[nn.Module, ...]) -> None:
    with pytest.raises(xc.UnsupportedModelError, match=r"global average pooling and one linear layer.*'gradcam'"):
        xc.attribute(full_size_cnn(*head), torch.randn(2, 2, 5, 5), method="cam")


def test_gradcam_is_the_positive_part_of_cam_where_both_exist() -> None:
    model, inputs = full_size_cnn(*pooled(nn.Linear(4, 3))), torch.randn(2, 2, 5, 5)
    cam = xc.attribute(model, inputs, 1, "cam").values
    gradcam = xc.attribute(model, inputs, 1, "gradcam", layer="1").values
    assert torch.allclose(gradcam * 25, cam.clamp(min=0), atol=1e-6)


@pytest.mark.parametrize(("net", "layer"), [("cnn", "4"), ("vgg11_bn", "features.18"), ("resnet18", "layer3.1.conv2")])
def test_gradcam_is_captums(net: str, layer: str) -> None:
    model, inputs = net_and_inputs(net)
    chosen = model.get_submodule(layer)
    small = captum.attr.LayerGradCam(model, chosen).attribute(inputs, 1, relu_attributions=True)
    expected = captum.attr.LayerAttribution.interpolate(small, inputs.shape[2:], "bilinear")
    assert xc.attribute(model, inputs, 1, "gradcam", layer=layer).values.equal(expected)


LAST = [("cnn", "5"), ("vgg11_bn", "features.27"), ("resnet18", "layer3")]


@pytest.mark.parametrize(("net", "last"), LAST)
def test_gradcam_takes_the_last_map_and_what_rectifies_or_adds_to_it(net: str, last: str) -> None:
    model, inputs = net_and_inputs(net)
    named = xc.attribute(model, inputs, method="gradcam", layer=last)
    assert xc.attribute(model, inputs, method="gradcam").values.equal(named.values)


def test_gradcam_takes_the_last_map_larger_than_a_pixel() -> None:
    model, inputs = full_size_cnn(nn.AvgPool2d(5), nn.Conv2d(4, 3, 1), nn.Flatten()), torch.randn(2, 2, 5, 5)
    named = xc.attribute(model, inputs, 1, "gradcam", layer="1")
    assert xc.attribute(model, inputs, 1, "gradcam").values.equal(named.values)


def test_guided_gradcam_is_captums_with_a_bilinear_map() -> None:
    model, inputs = cnn(), torch.randn(3, 3, 16, 16)
    model[2].inplace = False
    with pytest.warns(UserWarning, match="backward hooks"):
        expected = captum.attr.GuidedGradCam(model, model[5]).attribute(
            inputs.clone().requires_grad_(), 1, interpolate_mode="bilinear"
        )
    assert torch.allclose(xc.attribute(model, inputs, 1, "guided_gradcam").values, expected)


@pytest.mark.parametrize("method", ["gradcam", "guided_gradcam"])
def test_an_unknown_layer_lists_the_convolutions(method: str) -> None:
    words = r"unknown layer 'features\.99'; did you mean 'features\.\d+'\? Known: features\.0, features\.11"
    with pytest.raises(xc.UnknownNameError, match=words):
        xc.attribute(*net_and_inputs("vgg11_bn"), method=method, layer="features.99")


def test_a_layer_without_a_map_is_refused() -> None:
    with pytest.raises(xc.UnsupportedModelError, match=r"a layer gives shape \(3, 5\) .* Name a convolution"):
        xc.attribute(*net_and_inputs("cnn"), method="gradcam", layer="9")


def test_images_without_convolutions_are_refused() -> None:
    model = nn.Sequential(nn.Flatten(), mlp(features=48))
    with pytest.raises(xc.UnsupportedModelError, match="Sequential has no convolution with a map larger than 1 x 1"):
        xc.attribute(model, torch.randn(1, 3, 4, 4), method="gradcam")
