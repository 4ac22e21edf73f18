"""Networks by name: their architecture, their seeds, and what is said of names and settings that are none."""

import pytest
import torch
import torchvision
from torch import nn

from xaicompare.attended import Attention, PositionSoftmax
from xaicompare.errors import SettingError, UnknownNameError
from xaicompare.registry import MODELS
from xaicompare.zoo import build_model

OWN = ["mlp", "cnn", "attended_cnn", "lenet", "small_cnn", "vgg16_cifar10"]


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("channels", [1, 3])
def test_own_networks_take_32_pixels(name: str, channels: int) -> None:
    model = build_model(name, classes=7, in_channels=channels)
    assert model(torch.rand(2, channels, 32, 32)).shape == (2, 7)
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("name", OWN)
def test_own_networks_hide_nothing_in_a_forward(name: str) -> None:
    for module in build_model(name, classes=2, in_channels=1).modules():
        if isinstance(module, (Attention, PositionSoftmax)):
            continue  # their product and softmax are known to the doctor and to LRP
        assert isinstance(module, nn.Sequential) or not list(module.children())
        assert type(module).__module__.startswith("torch.nn")
        assert not getattr(module, "inplace", False)


def test_mlp_has_the_published_widths() -> None:
    model = build_model("mlp", classes=10, in_channels=1)
    linears = [(layer.in_features, layer.out_features) for layer in model if isinstance(layer, nn.Linear)]
    assert linears == [(1024, 1024), (1024, 512), (512, 10)]
    assert isinstance(model[-1], nn.Linear)


def test_mlp_for_other_images() -> None:
    model = build_model("mlp", classes=10, in_channels=3, in_features=3 * 8 * 8, hidden=[5])
    assert model(torch.rand(2, 3, 8, 8)).shape == (2, 10)


def test_cnn_has_the_published_layers() -> None:
    weights = [shape for key, shape in shapes(build_model("cnn", classes=10, in_channels=3)).items() if "weight" in key]
    convolutions = [(64, 3), (64, 64), (128, 64), (128, 128), (256, 128)]
    assert weights == [(*shape, 3, 3) for shape in convolutions] + [(1024, 4096), (512, 1024), (10, 512)]


def test_lenet_has_the_published_widths() -> None:
    shapes = [tuple(p.shape) for name, p in build_model("lenet", 10, 1).named_parameters() if name.endswith("weight")]
    assert shapes == [(6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84)]


def test_cnn_for_other_sizes() -> None:
    assert build_model("cnn", classes=10, in_channels=1, size=16)(torch.rand(1, 1, 16, 16)).shape == (1, 10)


def test_attended_cnn_begins_as_the_cnn_and_its_control_has_as_many_parameters() -> None:
    plain = build_model("cnn", classes=4, in_channels=3, seed=2)
    images = torch.rand(2, 3, 32, 32)
    sizes = {}
    for scorer in ("linear", "mlp"):
        for middle in ("attention", "control", "nothing"):
            made = build_model("attended_cnn", classes=4, in_channels=3, seed=2, middle=middle, scorer=scorer)
            torch.testing.assert_close(made(images), plain(images))
            sizes[scorer, middle] = sum(weights.numel() for weights in made.parameters())
            common = {key: value for key, value in made.state_dict().items() if "_8" not in key}
            assert common.keys() == plain.state_dict().keys()
            assert all(torch.equal(value, plain.state_dict()[key]) for key, value in common.items())
    assert sizes["linear", "attention"] - sizes["linear", "nothing"] == 128 + 1
    assert sizes["mlp", "attention"] - sizes["mlp", "nothing"] == 128 * 64 + 64 + 64 + 1
    for scorer in ("linear", "mlp"):
        assert abs(sizes[scorer, "attention"] - sizes[scorer, "control"]) <= 1


def test_attended_cnn_takes_any_size_with_pooling() -> None:
    model = build_model("attended_cnn", classes=4, in_channels=1, width=4, pool=True, after="features.6")
    assert model(torch.rand(2, 1, 48, 40)).shape == (2, 4)
    assert model.features.attention_6.scorer[0].in_channels == 8


def test_small_cnn_is_ready_for_cam() -> None:
    *_, pool, _flatten, classifier = build_model("small_cnn", classes=10, in_channels=1)
    assert isinstance(pool, nn.AdaptiveAvgPool2d)
    assert isinstance(classifier, nn.Linear)


def test_vgg16_has_torchvisions_keys() -> None:
    with torch.device("meta"):
        theirs = torchvision.models.vgg16(num_classes=10)
        theirs.classifier = nn.Sequential(
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(512, 10),
        )
    assert shapes(build_model("vgg16_cifar10", classes=10, in_channels=3)) == shapes(theirs)


def test_he_initialisation_keeps_the_variance_through_all_layers() -> None:
    model = build_model("vgg16_cifar10", classes=10, in_channels=3)
    assert 0.2 < float(model(torch.randn(64, 3, 32, 32)).detach().std()) < 5


@pytest.mark.parametrize("name", ["small_cnn", "squeezenet1_1"])
def test_the_seed_alone_fixes_the_weights(name: str) -> None:
    built = []
    for around in (1, 2):
        torch.manual_seed(around)
        before = torch.get_rng_state()
        built.append(build_model(name, classes=10, in_channels=3, seed=5).state_dict())
        assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(built[0][key], built[1][key]) for key in built[0])
    other = build_model(name, classes=10, in_channels=3, seed=6).state_dict()
    assert not all(torch.equal(built[0][key], other[key]) for key in other)


def test_torchvision_models_are_torchvisions() -> None:
    torch.manual_seed(3)
    theirs = torchvision.models.squeezenet1_1(num_classes=7).state_dict()
    ours = build_model("squeezenet1_1", classes=7, in_channels=3, seed=3).state_dict()
    assert all(torch.equal(theirs[key], ours[key]) for key in theirs)


def test_torchvision_models_take_grey_images() -> None:
    model = build_model("resnet18", classes=7, in_channels=1)
    assert model(torch.rand(2, 1, 32, 32)).shape == (2, 7)


def test_every_classifier_of_torchvision_is_known() -> None:
    assert {"vgg16", "resnet50", "vit_b_16"} <= set(MODELS.names())
    assert set(torchvision.models.list_models(module=torchvision.models)) <= set(MODELS.names())


def test_inceptions_allow_for_means_of_their_own() -> None:
    assert build_model("googlenet", classes=2, in_channels=3).transform_input
    assert not build_model("googlenet", classes=2, in_channels=1).transform_input


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'smal_cnn'; did you mean 'small_cnn'"):
        build_model("smal_cnn", classes=10, in_channels=1)
    with pytest.raises(UnknownNameError, match="did you mean 'resnet18'"):
        build_model("resnet_18", classes=10, in_channels=3)
    with pytest.raises(UnknownNameError, match=r"unknown setting of mlp 'widths'; .*hidden"):
        build_model("mlp", classes=10, in_channels=1, widths=(3,))
    with pytest.raises(UnknownNameError, match="unknown setting of resnet18 'weights'"):
        build_model("resnet18", classes=10, in_channels=1, weights="DEFAULT")


def test_settings_are_checked() -> None:
    with pytest.raises(SettingError, match="mlp: hidden=0; expected greater than or equal to 1"):
        build_model("mlp", classes=10, in_channels=1, hidden=(5, 0))
    with pytest.raises(SettingError, match="resnet18: classes=0"):
        build_model("resnet18", classes=0, in_channels=3)
    with pytest.raises(SettingError, match="cnn: size=True"):
        build_model("cnn", classes=10, in_channels=3, size=True)
