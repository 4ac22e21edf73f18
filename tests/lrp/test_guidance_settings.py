"""Factors and stabilisers of guidance, by hand and against the oracle."""

import oracles
import pytest
import torch
from test_guidance import batch, cnn, gradients, mlp, steps
from torch import Tensor
from torch.nn.functional import cross_entropy

import xaicompare as xc
from xaicompare.lrp.multiplier import Multiplier


class TestFactors:
    def test_one_per_layer(self) -> None:
        guidance = xc.RelevanceGuidance(mlp(), {"*": 0.1, "2": 0.5})
        assert guidance.factors() == {"0": 0.1, "2": 0.5}
        assert "{'0': 0.1, '2': 0.5}" in repr(guidance)

    def test_a_schedule_counts_guided_batches(self) -> None:
        model, (inputs, labels) = mlp(), batch(mlp)
        guidance = xc.RelevanceGuidance(model, lambda number: 0.1 * number)
        for number in range(3):
            assert guidance.factors() == dict.fromkeys("02", 0.1 * number)
            gradients(model, guidance, inputs, labels)
        again = xc.RelevanceGuidance(mlp(), lambda number: 0.1 * number)
        again.load_state_dict(guidance.state_dict())
        assert again.batch == 3

    def test_learned_start_at_zero_stay_bounded_and_move(self) -> None:
        model = mlp().float()
        guidance = xc.RelevanceGuidance(model, "learned", bound=0.2, normalise="max")
        assert guidance.factors() == {"0": 0.0, "2": 0.0}
        optimizer = torch.optim.SGD(guidance.parameters(), lr=0.5)
        inputs, labels = batch(mlp)
        for _ in range(60):
            optimizer.zero_grad()
            cross_entropy(guidance(inputs.float()), labels).backward()
            optimizer.step()
        factors = guidance.factors()
        assert all(0 < abs(factor) <= 0.2 for factor in factors.values()), factors

    def test_learned_gradient_is_minus_the_cosine(self) -> None:
        """Of the weights' gradient that relevance added, and of the next batch's gradient; handed on later."""
        model, (inputs, labels) = mlp(), batch(mlp)
        guidance = xc.RelevanceGuidance(model, "learned", layers="2")
        plain = gradients(model, guidance, inputs, labels)
        for parameter in guidance.parameters():
            parameter.grad = None
        one = oracles.guided_gradients(
            list(model), inputs, labels, 1.0, oracles.epsilon(1e-6), lambda layer: layer is model[2]
        )
        direction = one[2] - plain[2]
        later = gradients(model, guidance, *batch(mlp, 1))
        guidance.zero_grad()
        gradients(model, guidance, *batch(mlp, 2))
        cosine = (direction * later[2]).sum() / direction.norm() / later[2].norm()
        (raw,) = guidance.learned.raw
        assert float(raw.grad) == pytest.approx(-float(cosine), rel=1e-5)


class TestStabilisers:
    def multipliers(self, **settings: object) -> list[Tensor]:
        """The multiplier of layer 2, sample by sample, from the gradients of its bias."""
        model = mlp()
        inputs, labels = batch(mlp)
        found = []
        for sample, label in zip(inputs, labels, strict=True):
            plain = gradients(model, model, sample[None], label[None])[3]
            guided = gradients(model, xc.RelevanceGuidance(model, layers="2", **settings), sample[None], label[None])[3]
            found.append((guided / plain)[plain != 0])
        return found

    def test_normalised_relevance_reaches_the_factor(self) -> None:
        for made in self.multipliers(factor=0.5, normalise="max"):
            assert float((made - 1).abs().max()) == pytest.approx(0.5)

    def test_clamped(self) -> None:
        for made in self.multipliers(factor=100.0, clamp=(0.5, 2.0)):
            assert 0.5 - 1e-9 <= float(made.min()) <= float(made.max()) <= 2.0 + 1e-9

    @pytest.mark.parametrize("normalise", [None, "max", "mean"])
    def test_centred_multipliers_have_mean_one(self, normalise: str | None) -> None:
        relevance = torch.randn(4, 3, 5, 5, dtype=torch.float64)
        multiplier = Multiplier(centre=True, normalise=normalise)
        made = multiplier.of(multiplier.used(relevance), 0.7)
        torch.testing.assert_close(made.flatten(1).mean(1), torch.ones(4, dtype=torch.float64))

    def test_filters_scale_their_weights_gradient_alone(self) -> None:
        model, (inputs, labels) = cnn(), batch(cnn)
        plain = gradients(model, model, inputs, labels)
        found = gradients(model, xc.RelevanceGuidance(model, 0.7, layers="0", filters=True), inputs, labels)
        cached = [
            oracles._cached_relevance(steps(model), sample, 0, oracles.epsilon(1e-6), "outputs")[0][0][1]
            for sample in inputs
        ]
        scale = 1 + 0.7 * torch.stack(cached).sum((2, 3)).mean(0)
        torch.testing.assert_close(found[0], plain[0] * scale[:, None, None, None], rtol=1e-9, atol=1e-12)
        assert all(torch.equal(one, other) for one, other in zip(found[1:], plain[1:], strict=True))

    def test_recorded_quantiles(self) -> None:
        model, (inputs, labels) = cnn(), batch(cnn)
        guidance = xc.RelevanceGuidance(model, 0.5, layers="all", normalise="max", record_every=2)
        for _ in range(3):
            gradients(model, guidance, inputs, labels)
        assert {(told.batch, told.layer) for told in guidance.recorded} == {
            (n, name) for n in (0, 2) for name in "0258"
        }
        assert all(0.5 <= t.least <= t.low <= t.median <= t.high <= t.greatest <= 1.5 for t in guidance.recorded)
