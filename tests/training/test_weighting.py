"""Sample weights by explanations: the formulas, the increments, the controls, and no test image in any of them."""

import math
from dataclasses import replace

import pytest
import torch
from courses import course, network, quarters
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import xaicompare.methods  # noqa: F401 (registers the methods)
from xaicompare.errors import DataError, DivergedError, InputError, SettingError, UnknownNameError
from xaicompare.training import weighting
from xaicompare.training._common import attributions, built_method, logits_of
from xaicompare.training.arms import ARMS, Plain
from xaicompare.training.fit import Recipe, accuracy, fit
from xaicompare.training.lesson import Batch, Lesson
from xaicompare.training.weighting import (
    Longer,
    Weighted,
    local_difference,
    masked_difference,
    sample_weights,
    stage_ends,
    weighted_cross_entropy,
)


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def differences(wrong: Tensor, true: Tensor, masked: bool) -> list[float]:
    """Slowly, feature by feature."""
    found = []
    for w, t in zip(wrong.double().flatten(1).tolist(), true.double().flatten(1).tolist(), strict=True):
        total = 0.0
        for a, b in zip(w, t, strict=True):
            if not masked:
                total += a - b if a > b else b - a
            elif a > 0:
                total += a - b
        found.append(total)
    return found


def test_differences_are_their_sums() -> None:
    wrong, true = torch.randn(7, 3, 5, 4), torch.randn(7, 3, 5, 4)
    assert masked_difference(wrong, true).tolist() == pytest.approx(differences(wrong, true, masked=True), rel=1e-12)
    assert local_difference(wrong, true).tolist() == pytest.approx(differences(wrong, true, masked=False), rel=1e-12)


def test_differences_in_closed_form() -> None:
    values = torch.randn(4, 1, 3, 3)
    nothing = torch.zeros_like(values)
    for difference in (masked_difference, local_difference):
        assert difference(values, values).tolist() == [0] * 4
        assert torch.allclose(difference(3 * values, 3 * nothing), 3 * difference(values, nothing))
    assert torch.allclose(local_difference(values, nothing), local_difference(nothing, values))
    assert masked_difference(-values.abs(), values).tolist() == [0] * 4  # no feature speaks for the wrong class
    assert torch.allclose(masked_difference(values.abs(), nothing), local_difference(values, nothing))


def test_differences_want_one_shape() -> None:
    for wrong, true in ((torch.zeros(2, 3), torch.zeros(2, 4)), (torch.zeros(3), torch.zeros(3))):
        for difference in (masked_difference, local_difference):
            with pytest.raises(InputError, match=r"expected one shape \(n, \.\.\.\) for both"):
                difference(wrong, true)


def test_weights_are_one_and_the_normalised_distance() -> None:
    distances = torch.randn(20).double()
    known = distances.tolist()
    slowly = [1 + (value - min(known)) / (max(known) - min(known)) for value in known]
    assert sample_weights(distances).tolist() == pytest.approx(slowly, rel=1e-12)


@pytest.mark.parametrize("shift", [-5.0, 0.0, 1e6])
def test_weights_are_bounded_and_know_neither_order_nor_unit(shift: float) -> None:
    distances, order = torch.randn(30).double(), torch.randperm(30)
    weights = sample_weights(distances)
    assert (float(weights.min()), float(weights.max())) == (1, 2)
    assert torch.equal(sample_weights(distances[order]), weights[order])
    assert torch.allclose(sample_weights(3 * distances + shift), weights, atol=1e-6)
    assert torch.equal(weights.argsort(), distances.argsort())


def test_weights_of_equal_distances_of_one_and_of_none() -> None:
    assert sample_weights(torch.full((3,), 7.0)).tolist() == [1, 1, 1]
    assert sample_weights(torch.tensor([5.0])).tolist() == [1]
    assert sample_weights(torch.empty(0)).shape == (0,)
    for wrong in (torch.tensor([1.0, torch.nan]), torch.zeros(2, 2)):
        with pytest.raises(InputError, match=r"expected \(n,\), all finite"):
            sample_weights(wrong)


@pytest.mark.parametrize(
    "recipe", [{}, {"optimizer": "sgd-onecycle", "lr": 0.1}, {"bf16": True}, {"flip": True}], ids=str
)
def test_weights_of_one_are_plain_training_bit_by_bit(recipe: dict[str, object]) -> None:
    made = course()
    one, other, settings = network(), network(), Recipe(epochs=3, batch_size=16, **recipe)
    plain = fit(one, made.dataset, settings)
    weighted = fit(other, made.dataset, settings, Lesson.plain(other, weighted_cross_entropy(torch.ones(60))))
    assert same(one, other)
    assert weighted.losses == pytest.approx(plain.losses, rel=1e-6)


def test_the_loss_weighs_each_image_where_it_stands() -> None:
    weights, logits = 1 + torch.rand(10), torch.randn(4, 3)
    labels, places = torch.tensor([0, 2, 1, 1]), torch.tensor([9, 0, 3, 4])
    slowly = 0.0
    for row, label, place in zip(logits.double().tolist(), labels.tolist(), places.tolist(), strict=True):
        slowly += float(weights[place]) * (math.log(sum(map(math.exp, row))) - row[label]) / 4
    loss = weighted_cross_entropy(weights)(logits, Batch(torch.empty(4, 1), labels, places))
    assert float(loss) == pytest.approx(slowly, rel=1e-6)


def test_an_image_of_weight_two_counts_as_two() -> None:
    logits, labels = torch.randn(3, 4), torch.tensor([3, 0, 1])
    twice = torch.cat([logits, logits[1:2]]), torch.cat([labels, labels[1:2]])
    loss = weighted_cross_entropy(torch.tensor([1.0, 2.0, 1.0]))(logits, Batch(logits, labels, torch.arange(3)))
    assert torch.allclose(3 * loss, cross_entropy(*twice, reduction="sum"))


@pytest.mark.parametrize("n", [1, 2, 3, 10, 57])
@pytest.mark.parametrize(("first", "increments"), [(0.5, 2), (0.0, 3), (1.0, 1), (0.3, 5)])
def test_stages_grow_to_all_images(n: int, first: float, increments: int) -> None:
    ends = stage_ends(n, first, increments)
    assert len(ends) == increments + 1
    assert ends == sorted(ends)
    assert ends[0] == max(1, round(first * n))
    assert ends[-1] == n


@pytest.mark.parametrize("weights", ["masked_difference", "local_difference", "loss"])
def test_only_what_is_wrong_weighs_more(weights: weighting.Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def told(given: Tensor) -> object:
        seen.append(given.clone())
        return weighted_cross_entropy(given)

    monkeypatch.setattr(weighting, "weighted_cross_entropy", told)
    made, arm = course(quarters(bright=10), epochs=3, lr=0.01), Weighted(weights=weights, increments=3, baselines=2)
    arm.train(made)
    assert [len(given) for given in seen] == [40, 50, 60]
    assert torch.equal(seen[0][:30], torch.ones(30))
    assert torch.equal(seen[2][:50], seen[1])  # a weight is kept
    start = network()
    fit(start, replace(made.dataset, train=made.dataset.train.subset(range(30))), made.recipe)
    joining = made.dataset.train.subset(range(30, 40))
    wrong = logits_of(start, joining).argmax(1) != joining.labels
    assert 1 < int(wrong.sum()) < 10
    untrained = logits_of(network(), joining).argmax(1) != joining.labels
    assert not torch.equal(wrong, untrained)
    assert torch.equal(seen[0][30:][~wrong], torch.ones(int((~wrong).sum())))
    assert float(seen[0][30:][wrong].min()) == 1
    assert float(seen[0][30:][wrong].max()) == 2


def test_weights_come_from_the_explanations_of_both_classes() -> None:
    """Against explanations of one image at a time."""
    made, model = course(), network()
    fit(model, made.dataset, replace(made.recipe, epochs=1))
    images = quarters(30, seed=5)
    inputs, labels = images.batch(range(30))
    method = built_method("deepshap", inputs[:3])
    distances = {}
    for place in range(30):
        with torch.no_grad():
            predicted = int(model(inputs[place : place + 1]).argmax())
        if predicted != int(labels[place]):
            pair = [method.attribute(model, inputs[[place]], each).values for each in (predicted, int(labels[place]))]
            distances[place] = differences(*pair, masked=True)[0]
    low, high = min(distances.values()), max(distances.values())
    expected = [1 + (distances[i] - low) / (high - low) if i in distances else 1.0 for i in range(30)]
    assert len(distances) > 3
    assert Weighted()._weighed(model, images, method).tolist() == pytest.approx(expected, abs=1e-4)


def test_uniform_weights_are_the_same_retraining_without() -> None:
    made = course()
    model = Weighted(weights="uniform").train(made)
    by_hand, images = network(), made.dataset.train
    for end in (30, 45, 60):
        fit(by_hand, replace(made.dataset, train=images.subset(range(end))), made.recipe)
    assert same(model, by_hand)


def test_a_first_share_of_all_is_plain_training_and_once_more() -> None:
    made = course()
    model, plain = Weighted(first=1.0, increments=1, epochs=1).train(made), course()
    Plain().train(plain)
    assert made.stages[0].losses == plain.stages[0].losses
    assert [stage.batches for stage in made.stages] == [8, 4]
    assert accuracy(model, made.dataset.train) > 1 / 3


@pytest.mark.parametrize("settings", [{}, {"epochs": 1}, {"first": 0.1, "increments": 4, "epochs": 3}], ids=str)
def test_longer_takes_as_many_steps(settings: dict[str, float]) -> None:
    weighted, longer = course(), course()
    Weighted(weights="uniform", **settings).train(weighted)
    Longer(**settings).train(longer)
    assert sum(stage.batches for stage in weighted.stages) == longer.stages[0].batches
    assert longer.stages[0].batches > 8


def test_longer_for_the_usual_steps_is_plain_training() -> None:
    plain, longer = course(), network()
    model = Plain().train(plain)
    course().fit(longer, steps=8)
    assert same(model, longer)


@pytest.mark.parametrize("place", [3, 33, 59])
def test_a_test_image_in_any_stage_is_an_error(place: int) -> None:
    test, train = quarters(20, seed=1), quarters()
    pixels = train.pixels.clone()
    pixels[place] = test.pixels[7]
    made = course(replace(train, pixels=pixels), test)
    for weights in ("masked_difference", "uniform"):
        with pytest.raises(DataError, match=f"1 of 60 training images are test images, first number {place}"):
            Weighted(weights=weights).train(made)
    assert made.stages == []


def test_any_method_stands_in() -> None:
    made = course()
    by_name, by_table = (Weighted(method=given) for given in ("saliency", {"name": "deepshap", "n_baselines": 3}))
    assert not same(by_name.train(made), by_table.train(course()))
    with pytest.raises(UnknownNameError, match="did you mean 'deepshap'"):
        Weighted(method="deepshapp").train(made)
    with pytest.raises(SettingError, match="expected a name, or a table with a name"):
        Weighted(method={"n_baselines": 3}).train(made)
    with pytest.raises(SettingError, match="weights='masked'; expected"):
        Weighted(weights="masked")
    assert {"weighted", "longer"} <= set(ARMS.names())


def test_baselines_are_training_images_unless_settings_say_otherwise() -> None:
    some, own = torch.rand(2, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    assert built_method("deepshap", some).baselines is some
    assert built_method({"name": "deepshap", "baselines": own}, some).baselines.shape == own.shape
    assert built_method("saliency", some) == built_method("saliency")


def test_images_keep_their_order_in_attributions() -> None:
    model, images = network().eval(), quarters(300)
    inputs, labels = images.batch(range(300))
    method = built_method("input_x_gradient")
    parts = list(attributions(method, model, images, labels))
    assert len(parts) == 2
    whole = method.attribute(model, inputs, labels).values
    assert torch.allclose(torch.cat([part.values for part in parts]), whole, atol=1e-6)


def test_outputs_that_are_not_finite_have_diverged() -> None:
    model = network()
    nn.init.constant_(model[-1].bias, torch.inf)
    with pytest.raises(DivergedError, match="not finite"):
        logits_of(model, quarters(3))
