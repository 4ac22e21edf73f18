"""Training on chosen images: each score by its formula, exact numbers, and what must stay as it was."""

import math

import pytest
import torch
from courses import course, network, quarters
from torch import Tensor, nn

import xaicompare.methods
import xaicompare.metrics  # noqa: F401 (both register their names)
from xaicompare.core import Attribution
from xaicompare.errors import InputError, SettingError, XaiCompareError
from xaicompare.registry import METHODS
from xaicompare.training import sampling
from xaicompare.training._common import logits_of
from xaicompare.training.arms import Plain
from xaicompare.training.fit import accuracy
from xaicompare.training.sampling import Sampled, kept, map_scores, margins

SCORES = ("mean", "sum", "max", "entropy", "gini")


def attribution(values: Tensor) -> Attribution:
    n = len(values)
    return Attribution(
        values, torch.rand(n, 1, 8, 8), torch.zeros(n).long(), torch.zeros(n), METHODS.build("saliency"), None, 0.0
    )


def slow_score(values: list[float], score: str) -> float:
    """Of one map, position by position."""
    sizes = sorted(abs(value) for value in values)
    total, count = math.fsum(sizes), len(values)
    if score == "entropy":
        return -math.fsum(size / total * math.log(size / total) for size in sizes if size > 0)
    if score == "gini":  # the mean difference of all pairs over twice the mean
        return math.fsum(abs(a - b) for a in sizes for b in sizes) / (2 * count * total)
    known = {"sum": math.fsum(values), "mean": math.fsum(values) / count, "max": max(values)}
    return known[score]


@pytest.mark.parametrize("score", SCORES)
def test_scores_are_their_formulas(score: sampling.MapScore) -> None:
    values = torch.randn(6, 1, 8, 8)
    values[0, 0, 0, 0] = 0
    slowly = [slow_score(each, score) for each in values.double().flatten(1).tolist()]
    assert map_scores(network(), attribution(values), score).tolist() == pytest.approx(slowly, rel=1e-6, abs=1e-9)


def test_scores_in_closed_form() -> None:
    even, single = torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    single[0, 0, 2, 3] = 5.0
    values = torch.cat([even, single, even - 2 * single / 5])
    found = {score: map_scores(network(), attribution(values), score).tolist() for score in SCORES}
    assert found["entropy"] == pytest.approx([math.log(64), 0, math.log(64)])
    assert found["gini"] == pytest.approx([0, 63 / 64, 0])
    assert found["max"] == pytest.approx([1, 5, 1])
    assert found["sum"] == pytest.approx([64, 5, 62])
    assert found["mean"] == pytest.approx([1, 5 / 64, 62 / 64])


def test_the_sum_is_the_output_where_a_method_conserves() -> None:
    """So it can't tell maps apart: without biases LRP's sum is the logit, which needs no map."""
    model, inputs = (
        nn.Sequential(nn.Flatten(), nn.Linear(64, 16, bias=False), nn.ReLU(), nn.Linear(16, 3, bias=False)),
        None,
    )
    inputs, labels = quarters(20).batch(range(20))
    made = METHODS.build("lrp", composite="zero").attribute(model, inputs, labels, strict=False)
    assert torch.allclose(map_scores(model, made, "sum").float(), made.score, rtol=1e-3, atol=1e-4)
    assert torch.equal(map_scores(model, made, "sum").argsort(), map_scores(model, made, "mean").argsort())


def test_margins_are_right_where_the_network_is() -> None:
    logits, labels = torch.randn(50, 4), torch.randint(4, (50,))
    slowly = [row[k] - max(row[:k] + row[k + 1 :]) for row, k in zip(logits.tolist(), labels.tolist(), strict=True)]
    assert margins(logits, labels).tolist() == pytest.approx(slowly)
    assert torch.equal(margins(logits, labels) > 0, logits.argmax(1) == labels)


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.3, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("highest", [True, False])
def test_exactly_so_many_are_kept(keep: float, highest: bool) -> None:
    scores = torch.randn(37).double()
    found = kept(scores, keep, highest=highest)
    assert len(found) == max(1, round(keep * 37))
    assert torch.equal(found, found.unique())
    rest = scores[~torch.isin(torch.arange(37), found)]
    if len(rest):
        assert bool(scores[found].min() >= rest.max() if highest else scores[found].max() <= rest.min())


def test_what_is_kept_knows_no_order_and_ties_go_to_the_first() -> None:
    scores, order = torch.randn(40), torch.randperm(40)
    assert torch.equal(order[kept(scores[order], 0.4)].sort().values, kept(scores, 0.4))
    assert kept(torch.zeros(6), 0.5).tolist() == kept(torch.zeros(6), 0.5, highest=False).tolist() == [0, 1, 2]
    for wrong in (torch.empty(0), torch.tensor([torch.nan]), torch.zeros(2, 2)):
        with pytest.raises(InputError, match=r"expected \(n,\), n >= 1, all finite"):
            kept(wrong, 0.5)


@pytest.mark.parametrize("score", [*SCORES, "loss", "margin", "random"])
def test_all_of_the_images_is_plain_training(score: sampling.Score) -> None:
    plain, sampled = course(), course()
    one, other = Plain().train(plain), Sampled(keep=1.0, score=score, scout_epochs=1).train(sampled)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert sampled.stages[-1].losses == plain.stages[-1].losses
    assert [stage.batches for stage in sampled.stages] == ([8] if score == "random" else [4, 8])


def test_the_network_learns_from_what_was_chosen_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made, trained_on = course(), []
    usual = type(made).fit

    def noting(self: object, model: nn.Module, *args: object, images: object = None, **more: object) -> object:
        trained_on.append(images)
        return usual(self, model, *args, images=images, **more)

    monkeypatch.setattr(type(made), "fit", noting)
    Sampled(keep=0.25, score="margin", highest=False).train(made)
    scout = made.trained[0]
    labels = made.dataset.train.labels
    hardest = margins(logits_of(scout, made.dataset.train), labels).argsort()[:15].sort().values
    assert trained_on[0] is None
    assert torch.equal(trained_on[1].pixels, made.dataset.train.pixels[hardest])
    assert [stage.batches for stage in made.stages] == [4, 2]


def test_chance_repeats_itself_by_seed() -> None:
    def weights(seed: int) -> Tensor:
        return Sampled(score="random").train(course(seed=seed))[1].weight

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_scores_lead_to_different_images_and_all_learn() -> None:
    models = {
        score: Sampled(keep=0.5, score=score, method={"name": "lrp", "composite": "epsilon"}).train(
            course(epochs=20, lr=0.01)
        )
        for score in ("sum", "max", "entropy", "gini", "loss")
    }
    assert len({float(model[1].weight.detach().double().sum()) for model in models.values()}) == len(models)
    assert all(accuracy(model, quarters(seed=1)) > 0.4 for model in models.values())


def test_wrong_settings_are_told() -> None:
    with pytest.raises(SettingError, match=r"keep=1\.5"):
        Sampled(keep=1.5)
    with pytest.raises(SettingError, match="score='spread'; expected"):
        Sampled(score="spread")
    with pytest.raises(XaiCompareError, match="did you mean 'lrp'"):
        Sampled(method="lrpp").train(course())
