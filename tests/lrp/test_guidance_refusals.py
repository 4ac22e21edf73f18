"""What guidance refuses by name, and what else it traces right."""

import copy

import pytest
import torch
from test_guidance import batch, cnn, gradients, mlp
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import xaicompare as xc
from xaicompare.lrp.multiplier import Multiplier


class TestRefusals:
    def test_relevance_that_is_not_finite_is_told_with_layer_and_batch(self) -> None:
        model, (inputs, labels) = mlp(), batch(mlp)
        guidance = xc.RelevanceGuidance(model)
        guidance(inputs)
        nn.init.constant_(model[4].weight, float("nan"))
        with pytest.raises(xc.DivergedError, match="relevance at layer 2 in guided batch 1 is not finite"):
            gradients(model, guidance, inputs, labels)

    def test_products_that_are_not_finite(self) -> None:
        guidance = xc.RelevanceGuidance(mlp(), 1e200, normalise="max")
        with pytest.raises(xc.DivergedError, match="scaled gradient at layer 0 in guided batch 0 is not finite"):
            gradients(guidance.model, guidance, *batch(mlp))

    def test_gradients_that_are_not_finite(self) -> None:
        outputs = xc.RelevanceGuidance(mlp())(batch(mlp)[0])
        with pytest.raises(xc.DivergedError, match="gradient at layer 2 in guided batch 0 is not finite"):
            (outputs * float("inf")).sum().backward()

    def test_what_is_looked_at_late_still_names_layer_and_batch(self) -> None:
        model, (inputs, labels) = mlp(), batch(mlp)
        guidance = xc.RelevanceGuidance(model, check_every=3)
        gradients(model, guidance, inputs, labels)
        nn.init.constant_(model[4].weight, float("nan"))
        for _ in range(2):
            gradients(model, guidance, inputs, labels)
        with pytest.raises(xc.DivergedError, match="scaled gradient at layer 2 in guided batch 1 is not finite"):
            guidance(inputs)
        guidance.look()  # it is told once

    def test_looking_late_changes_no_gradient(self) -> None:
        model, given = cnn(), batch(cnn)
        usual = gradients(model, xc.RelevanceGuidance(model, 0.5, layers="all"), *given)
        late = gradients(model, xc.RelevanceGuidance(model, 0.5, layers="all", check_every=9), *given)
        assert all(torch.equal(one, other) for one, other in zip(usual, late, strict=True))

    def test_looks_are_counted_in_batches(self) -> None:
        with pytest.raises(xc.SettingError, match="check_every=0; expected a number of batches, at least 1"):
            xc.RelevanceGuidance(mlp(), check_every=0)

    def test_a_second_backward(self) -> None:
        model, (inputs, labels) = mlp(), batch(mlp)
        loss = cross_entropy(xc.RelevanceGuidance(model)(inputs), labels)
        loss.backward(retain_graph=True)
        with pytest.raises(xc.XaiCompareError, match="a second backward through guided batch 0"):
            loss.backward()

    def test_compiled_and_wrapped_models(self) -> None:
        with pytest.raises(xc.UnsupportedModelError, match=r"Use RelevanceGuidance\(model._orig_mod\)"):
            xc.RelevanceGuidance(torch.compile(mlp(), backend="eager"))
        with pytest.raises(xc.UnsupportedModelError, match=r"DataParallel\(RelevanceGuidance\(model\)\)"):
            xc.RelevanceGuidance(nn.DataParallel(mlp()))

    @pytest.mark.parametrize(
        ("settings", "told"),
        [
            ({"factor": "learn"}, "factor='learn'; expected a number"),
            ({"factor": True}, "factor True; expected a finite number"),
            ({"factor": float("nan")}, "factor nan; expected a finite number"),
            ({"factor": {"2": 0.1}}, "none for 0; expected one for every guided layer"),
            ({"factor": {"5": 0.1}}, "unknown guided layer '5'"),
            ({"rule": "alpha-beta"}, "rule='alpha-beta'; expected 'zero', 'epsilon' or 'gamma'"),
            ({"rule": "epsilom"}, "did you mean 'epsilon'"),
            ({"layers": "lineer"}, "did you mean 'linear'"),
            ({"layers": "4"}, "layers='4' leaves nothing to guide; expected a layer below the output layer, 4"),
            ({"layers": "conv"}, "layers='conv' leaves nothing to guide"),
            ({"start": "score"}, "start='score'; expected 'outputs'"),
            ({"clamp": (2.0, 1.0)}, "expected \\(least, greatest\\) with 1 between them"),
            ({"clamp": (2.0, 3.0)}, "with 1 between them"),
            ({"layers": 0}, "layers=0; expected 'all'"),
            ({"layers": ["0", "4"]}, "names the output layer, 4, which is never guided"),
            ({"record_every": "5"}, "record_every='5'"),
            ({"bound": -1}, "bound=-1; expected a finite number above 0"),
            ({"normalise": "sum"}, "normalise"),
            ({"factor": "learned", "bound": 0.0}, "bound=0.0; expected a finite number above 0"),
            ({"factor": "learned", "filters": True}, "expected one of them"),
            ({"record_every": 0}, "record_every=0"),
        ],
    )
    def test_settings(self, settings: dict[str, object], told: str) -> None:
        with pytest.raises(xc.XaiCompareError, match=told):
            xc.RelevanceGuidance(mlp(), **settings)

    def test_labels(self) -> None:
        inputs, labels = batch(mlp)
        guidance = xc.RelevanceGuidance(mlp(), start="label")
        with pytest.raises(xc.InputError, match=r"expected guidance\(inputs, labels\)"):
            guidance(inputs)
        with pytest.raises(xc.InputError, match=r"target has shape \(3,\); expected \(4,\)"):
            guidance(inputs, labels[:3])

    def test_inputs(self) -> None:
        inputs, labels = batch(mlp)
        guidance = xc.RelevanceGuidance(mlp(), start="label")
        with pytest.raises(xc.InputError, match="inputs are a ndarray"):
            guidance(inputs.numpy())
        with pytest.raises(xc.InputError, match="an empty batch"):
            guidance(inputs[:0])
        with pytest.raises(xc.InputError, match="inputs hold NaN"):
            guidance(inputs * float("nan"), labels)
        with pytest.raises(xc.InputError, match="target holds 7; expected classes from 0 to 2"):
            guidance(inputs, torch.full_like(labels, 7))
        with pytest.raises(xc.UnsupportedModelError, match="guided already"):
            xc.RelevanceGuidance(guidance)

    def test_steps_without_a_rule_may_stand_below(self) -> None:
        below = [nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten()]
        model = nn.Sequential(*below, nn.Linear(144, 5), nn.ReLU(), nn.Linear(5, 3)).double()
        found = gradients(model, xc.RelevanceGuidance(model), *batch(cnn))
        assert all(torch.isfinite(gradient).all() for gradient in found)
        with pytest.raises(xc.UnsupportedModelError, match=r"no rule for GroupNorm \(at 1\), which stands above"):
            xc.RelevanceGuidance(model, layers="all")

    def test_parametrized_layers(self) -> None:
        model = mlp()
        torch.nn.utils.parametrizations.spectral_norm(model[2])
        with pytest.raises(xc.UnsupportedModelError, match="2 has parametrizations"):
            xc.RelevanceGuidance(model)

    @pytest.mark.parametrize("how", ["a counter", "chance", "noise", "an attribute"])
    def test_a_model_that_goes_another_way_each_time(self, how: str) -> None:
        class Wavering(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layers, self.calls, self.scale = mlp(), 0, 1.0

            def forward(self, x: Tensor) -> Tensor:
                self.calls += 1
                made = self.layers(x)
                if how == "a counter":
                    return made * self.calls
                if how == "chance" and torch.rand(1) < 0.5:
                    return 2 * made
                return made + torch.randn(3) if how == "noise" else made * self.scale

        def train() -> None:
            for seed in range(4):
                torch.manual_seed(seed)
                guidance = xc.RelevanceGuidance(Wavering().eval())
                guidance.train()
                for number in range(3):
                    gradients(guidance.model, guidance, *batch(mlp, number))
                    guidance.model.scale = 2.0

        with pytest.raises(xc.UnsupportedModelError, match="a traced copy differs"):
            train()


class TestWhatElseIsTraced:
    """Findings of a first reader: what was guided wrongly, and is not any more."""

    def test_several_outputs_and_heads_that_nobody_uses(self) -> None:
        class Heads(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.one, self.other, self.unused = (nn.Linear(6, 6) for _ in range(4))

            def forward(self, x: Tensor) -> Tensor:
                h = self.a(x).relu()
                made = self.one(h) + self.other(h)
                self.unused(h)
                return made

        assert xc.RelevanceGuidance(Heads(), layers="all").layers == ("a",)

    @pytest.mark.parametrize("how", ["method", "function", "out of place"])
    def test_operations_in_place(self, how: str) -> None:
        class Overwriting(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b, self.c = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)

            def forward(self, x: Tensor) -> Tensor:
                h = self.b(torch.relu(self.a(x)))
                if how == "method":
                    h = h.mul_(0.5)
                elif how == "function":
                    h = nn.functional.dropout(h * 0.5, 0.0, True, True)
                else:
                    h = h * 0.5
                return self.c(torch.tanh(h))

        found = []
        for _ in range(2):
            torch.manual_seed(0)
            model = Overwriting().double()
            found.append(gradients(model, xc.RelevanceGuidance(model, layers="a"), *batch(mlp)))
            how = "out of place"
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other)

    @pytest.mark.parametrize("change", ["deepcopy", "unfreeze", "assign", "two passes", "tied"])
    def test_filters_follow_the_weights_of_now(self, change: str) -> None:
        """Against single passes through a fresh guidance."""
        model, (inputs, labels) = cnn(), batch(cnn)
        if change == "unfreeze":
            model.requires_grad_(False)
        guidance = xc.RelevanceGuidance(model, 0.7, layers="all", filters=True)
        if change == "deepcopy":
            guidance = copy.deepcopy(guidance)
        elif change == "assign":
            model.load_state_dict({key: value.clone() for key, value in model.state_dict().items()}, assign=True)
        guidance.model.requires_grad_(True)
        fresh = xc.RelevanceGuidance(copy.deepcopy(guidance.model), 0.7, layers="all", filters=True)
        expected = gradients(fresh.model, fresh, inputs, labels)
        if change == "two passes":
            more = gradients(fresh.model, fresh, *batch(cnn, 1))
            expected = [one + other for one, other in zip(expected, more, strict=True)]
            guidance.zero_grad()
            losses = [cross_entropy(guidance(x), y) for x, y in (batch(cnn), batch(cnn, 1))]
            sum(losses).backward()
            found = [parameter.grad for parameter in guidance.model.parameters()]
        else:
            found = gradients(guidance.model, guidance, inputs, labels)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)

    def test_filters_of_linear_layers_on_tokens(self) -> None:
        """The relevance of a neuron is summed over tokens."""
        relevance = torch.randn(4, 7, 5)
        used = Multiplier(filters=True).used(relevance, channels_last=True)
        torch.testing.assert_close(used, relevance.sum(1))
        model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3)).double()
        gradients(model, xc.RelevanceGuidance(model, filters=True), torch.randn(4, 4, 6).double(), batch(mlp)[1])

    def test_gradients_that_a_hook_holds_are_not_overwritten(self) -> None:
        model, held = mlp(), []

        def hold(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            if given[0].requires_grad:
                given[0].register_hook(lambda gradient: held.append(gradient) or held.append(gradient.clone()))

        model[3].register_forward_pre_hook(hold)
        gradients(model, xc.RelevanceGuidance(model, 1000.0), *batch(mlp))
        assert torch.equal(held[0], held[1])
