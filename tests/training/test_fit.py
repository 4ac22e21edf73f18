"""The training loop: it learns, repeats itself, moves nothing else, and says what went wrong."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from xaicompare.errors import (
    DataError,
    DivergedError,
    SettingError,
    UnknownNameError,
    UnsupportedModelError,
    XaiCompareError,
)
from xaicompare.registry import MODELS
from xaicompare.training import losses as losses_of
from xaicompare.training.fit import RECIPES, Recipe, accuracy, fit, trained
from xaicompare.zoo import Dataset, ImageArray, Scale, build_model, data_root, load_dataset

SCALE = Scale(mean=(0.5,), std=(0.25,))
QUICK = Recipe(epochs=20, batch_size=16, lr=1e-2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XAICOMPARE_CACHE", str(tmp_path))
    return tmp_path


def bright_quarters(n: int = 60, seed: int = 0) -> ImageArray:
    """Noise of 8 x 8 pixels, brighter in the quarter that the label numbers: upper left, upper right, lower left."""
    draws = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 100, (n, 1, 8, 8), dtype=torch.uint8, generator=draws)
    labels = torch.arange(n) % 3
    for image, label in zip(pixels, labels.tolist(), strict=True):
        image[0, 4 * (label // 2) :, 4 * (label % 2) :][:4, :4] += 120
    return ImageArray(pixels, labels, SCALE)


def data(train: ImageArray | None = None, name: str = "quarters") -> Dataset:
    return Dataset(name, ("0", "1", "2"), SCALE, bright_quarters() if train is None else train, bright_quarters(seed=1))


def net(seed: int = 0) -> nn.Module:
    return build_model("mlp", classes=3, in_channels=1, in_features=64, hidden=(16,), seed=seed)


def fitted(recipe: Recipe, dataset: Dataset | None = None, model: nn.Module | None = None) -> dict[str, Tensor]:
    model = net() if model is None else model
    fit(model, data() if dataset is None else dataset, recipe)
    return model.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    "recipe", [QUICK, replace(QUICK, optimizer="sgd-onecycle", lr=0.1), replace(QUICK, bf16=True)], ids=str
)
def test_it_learns(recipe: Recipe) -> None:
    model = net()
    went = fit(model, data(), recipe)
    assert len(went.losses) == recipe.epochs
    assert went.losses[-1] < 0.2 * went.losses[0]
    assert went.seconds > 0
    assert accuracy(model, data().test) == 1


def test_a_convolution_is_given_back_as_it_came() -> None:
    model = build_model("small_cnn", classes=3, in_channels=1)
    weight = model.features[3].weight
    fit(model, data(), replace(QUICK, epochs=1))
    assert model.features[3].weight is weight
    assert weight.is_contiguous()
    assert not any(module.training for module in model.modules())


def test_one_batch_is_one_step_of_adam() -> None:
    model, oracle, images = net(), net(), bright_quarters()
    went = fit(model, data(), Recipe(epochs=2, batch_size=len(images), lr=0.01))
    descent = torch.optim.Adam(oracle.parameters(), lr=0.01)
    inputs, labels = images.batch(range(len(images)))
    for epoch in range(2):
        loss = nn.functional.cross_entropy(oracle(inputs), labels)
        assert went.losses[epoch] == pytest.approx(float(loss.detach()), rel=1e-5)
        descent.zero_grad()
        loss.backward()
        descent.step()
    for ours, theirs in zip(model.parameters(), oracle.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_seed_alone_fixes_the_result() -> None:
    def with_dropout() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Dropout(), net()[1:]).train()

    recipe = replace(QUICK, epochs=2, flip=True)
    torch.manual_seed(1)
    model = with_dropout()
    before = torch.get_rng_state()
    one = fitted(recipe, model=model)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert same(one, fitted(recipe, model=with_dropout()))
    assert not same(one, fitted(replace(recipe, seed=1), model=with_dropout()))


def test_limit_is_a_sample_of_that_size() -> None:
    few = replace(QUICK, epochs=1, limit=10)
    assert same(fitted(few), fitted(replace(few, limit=None), data(bright_quarters().drawn(10, seed=0))))
    assert not same(fitted(few), fitted(replace(few, limit=None)))


def test_flips_change_only_what_is_not_symmetric() -> None:
    once = replace(QUICK, epochs=1)
    assert not same(fitted(once), fitted(replace(once, flip=True)))
    images = bright_quarters()
    symmetric = data(replace(images, pixels=torch.maximum(images.pixels, images.pixels.flip(-1))))
    assert same(fitted(once, symmetric), fitted(replace(once, flip=True), symmetric))


def test_a_loss_that_explodes_stops_the_training() -> None:
    with pytest.raises(
        XaiCompareError, match=r"the loss is (nan|inf) in epoch 1, batch \d+, with Recipe\(.*lr=1e\+30.*Lower lr"
    ):
        fit(net(), data(), Recipe(lr=1e30, batch_size=16))


def test_nothing_to_train_on() -> None:
    nothing = data(bright_quarters().subset([]))
    with pytest.raises(DataError, match="data set quarters has no training images"):
        fit(net(), nothing, QUICK)
    with pytest.raises(DataError, match="61 images are asked for; expected at most 60"):
        fit(net(), data(), replace(QUICK, limit=61))


def test_models_that_answer_otherwise() -> None:
    class Pair(nn.Linear):
        def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
            logits = super().forward(inputs.flatten(1))
            return logits, logits

    with pytest.raises(UnsupportedModelError, match=r"returns a tuple for 16 samples; expected \(16, 3\)"):
        fit(Pair(64, 3), data(), QUICK)
    wide = build_model("mlp", classes=4, in_channels=1, in_features=64)
    with pytest.raises(UnsupportedModelError, match=r"returns shape \(16, 4\) for 16 samples; expected \(16, 3\)"):
        fit(wide, data(), QUICK)


def test_recipes_are_checked() -> None:
    with pytest.raises(SettingError, match=r"recipe: optimizer='sgd'; expected 'adam' or 'sgd-onecycle'"):
        Recipe(optimizer="sgd")
    with pytest.raises(SettingError, match="recipe: epochs=0"):
        Recipe(epochs=0)
    with pytest.raises(UnknownNameError, match="setting of recipe 'epoch'; did you mean 'epochs'"):
        Recipe(epoch=3)
    assert all(name in MODELS for name in RECIPES)


def test_accuracy_counts_and_gives_the_model_back() -> None:
    model = net().train()
    images = bright_quarters()
    inputs, labels = images.batch(range(len(images)))
    share = float((model(inputs).argmax(1) == labels).double().mean())
    assert accuracy(model, images) == pytest.approx(share)
    assert accuracy(model, images, batch_size=7) == pytest.approx(share)
    assert model.training
    with pytest.raises(DataError, match="0 images"):
        accuracy(model, images.subset([]))


def test_trained_once_and_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"in_features": 64, "hidden": (16,)}
    model, origin = trained("mlp", data(), QUICK, **settings)
    assert not origin.cached
    assert origin.path.parent == cache / "weights"
    assert origin.accuracy == accuracy(model, data().test) == 1

    monkeypatch.setattr("xaicompare.training.fit.fit", lambda *_: pytest.fail("trained again"))
    again, kept = trained("mlp", data(), QUICK, **settings)
    assert kept == replace(origin, cached=True)
    assert same(model.state_dict(), again.state_dict())


def test_whatever_differs_is_trained_anew() -> None:
    once = replace(QUICK, epochs=1)
    paths = [
        trained(name, dataset, recipe, in_features=64, hidden=hidden)[1].path
        for name, dataset, recipe, hidden in [
            ("mlp", data(), once, (16,)),
            ("mlp", data(), replace(once, seed=1), (16,)),
            ("mlp", data(), replace(once, lr=0.02), (16,)),
            ("mlp", data(), once, (8,)),
            ("mlp", data(name="quarters (copy)"), once, (16,)),
            ("mlp", data(bright_quarters(seed=2)), once, (16,)),
            ("mlp", data(bright_quarters(n=59)), once, (16,)),
        ]
    ]
    assert len(set(paths)) == len(paths)
    assert paths[4].name.startswith("mlp-quarters-copy-")


def test_damaged_weights_in_the_cache_are_named() -> None:
    settings = {"in_features": 64, "hidden": (16,)}
    path = trained("mlp", data(), QUICK, **settings)[1].path
    path.write_bytes(b"damaged")
    with pytest.raises(DataError, match=path.name):
        trained("mlp", data(), QUICK, **settings)


def test_trained_without_training_images() -> None:
    with pytest.raises(DataError, match="no training images"):
        trained("mlp", data(bright_quarters().subset([])), in_features=64)


def test_small_cnn_learns_digits() -> None:
    digits = load_dataset("digits")
    model = build_model("small_cnn", classes=10, in_channels=1)
    fit(model, digits, replace(RECIPES["small_cnn"], epochs=8, lr=2e-3))
    assert accuracy(model, digits.test) > 0.85


@pytest.mark.slow
def test_small_cnn_learns_mnist() -> None:
    if not (data_root() / "MNIST").is_dir():
        pytest.skip("needs real data: MNIST in the folder that XAICOMPARE_DATA names")
    _, origin = trained("small_cnn", load_dataset("mnist"), replace(RECIPES["small_cnn"], bf16=True))
    assert origin.accuracy > 0.98


def test_losses_are_read_every_so_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, late = net(), net()
    losses = fit(usual, data(), QUICK).losses
    monkeypatch.setitem(losses_of._EVERY, "cpu", 7)  # as on a GPU; an epoch has 4 batches, and its end is a look
    assert fit(late, data(), QUICK).losses == losses
    assert same(usual.state_dict(), late.state_dict())


def test_a_loss_that_is_read_late_still_names_its_batch() -> None:
    kept = losses_of.Losses(5, 2, "a recipe")
    values = [1.0, 0.5, float("inf"), float("nan"), 2.0]
    for value in values[:4]:
        assert not kept.add(torch.tensor(value), 3)
    with pytest.raises(DivergedError, match="the loss is inf in epoch 2, batch 2, with a recipe"):
        kept.add(torch.tensor(values[4]), 3)


def test_the_mean_loss_weighs_batches_by_their_images() -> None:
    kept = losses_of.Losses(2, 1, "a recipe")
    looked = [kept.add(torch.tensor(value), n) for value, n in ((1.0, 4), (2.0, 4), (4.0, 2))]
    assert looked == [False, True, False]
    assert kept.mean() == pytest.approx((1 * 4 + 2 * 4 + 4 * 2) / 10)
