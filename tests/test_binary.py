"""One output z is a binary classifier: class 1 scores z, class 0 scores -z, everywhere.

The reference is the same network with two outputs, -z and z, which nothing here treats specially; and for what is made
of probabilities, outputs -z/2 and z/2, whose softmax is sigmoid(z).
"""

import copy

import pytest
import torch
from torch import Tensor, nn

import xaicompare as xc
import xaicompare.methods
import xaicompare.metrics  # registers them
from xaicompare.boundary import outputs, predicted, probabilities
from xaicompare.registry import METHODS, METRICS

_N = 3


class _Flat(nn.Module):
    """Outputs (n,), as networks for a yes or no often give them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: Tensor) -> Tensor:
        return self.net(inputs).flatten()


def _network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(8, 1),
        ).eval()  # fmt: skip


def _twin(net: nn.Sequential, scale: float = 1.0) -> nn.Sequential:
    """The same network with the outputs -z and z, times a scale."""
    made = copy.deepcopy(net)
    last = nn.Linear(8, 2)
    with torch.no_grad():
        for mine, its in ((last.weight, net[-1].weight), (last.bias, net[-1].bias)):
            mine.copy_(scale * torch.cat([-its, its]))
    made[-1] = last
    return made.eval()


@pytest.fixture
def inputs() -> Tensor:
    return torch.rand(_N, 1, 12, 12, generator=torch.Generator().manual_seed(0))


_NOT_HERE = {"attention", "attention_rollout", "gradient_rollout", "extended_lrp", "attention_refined_lrp"}


@pytest.mark.parametrize("name", sorted(set(METHODS.names()) - _NOT_HERE))
@pytest.mark.parametrize("target", [0, 1, None])
def test_a_map_of_one_output_is_that_of_its_two_classes(name: str, target: int | None, inputs: Tensor) -> None:
    settings = {"baselines": torch.zeros(2, 1, 12, 12)} if name in ("deepshap", "gradient_shap") else {}
    method = METHODS.build(name, **settings)
    net = _network()
    wanted = method.attribute(_twin(net), inputs, target, strict=False)
    for model in (net, _Flat(net)):
        if name == "cam" and model is not net:
            continue
        made = method.attribute(model, inputs, target, strict=False)
        torch.testing.assert_close(made.target, wanted.target)
        torch.testing.assert_close(made.score, wanted.score)
        torch.testing.assert_close(made.values, wanted.values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("engine", ["native", "zennit"])
@pytest.mark.parametrize("composite", ["zero", "epsilon", "gamma", "epsilon-plus"])
@pytest.mark.parametrize("target", [0, 1])
def test_lrp_of_one_output(engine: str, composite: str, target: int, inputs: Tensor) -> None:
    net = _network()
    one, two = (
        xc.LRP(composite=composite, engine=engine).attribute(each, inputs, target) for each in (net, _twin(net))
    )
    if composite != "epsilon-plus" or target == int(predicted(outputs(net, inputs, 8))[0]):
        torch.testing.assert_close(one.values, two.values, rtol=1e-3, atol=1e-6)


def test_reveal_cancel_of_one_output(inputs: Tensor) -> None:
    net, method = _network(), METHODS.build("deeplift", rule="reveal-cancel")
    for target in (0, 1):
        one, two = (method.attribute(each, inputs, target) for each in (net, _twin(net)))
        torch.testing.assert_close(one.values, two.values, rtol=1e-4, atol=1e-6)


def test_probabilities_and_classes_of_one_output() -> None:
    logits = torch.tensor([[2.0], [-1.0]])
    torch.testing.assert_close(probabilities(logits)[:, 1], torch.sigmoid(logits[:, 0]))
    assert predicted(logits).tolist() == [1, 0]
    expected = torch.sigmoid(torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(xc.confidence(logits), (2 * expected - 1) / expected)


@pytest.mark.parametrize("name", [name for name in METRICS.names() if not name.startswith("quantus:")])
def test_metrics_of_one_output_follow_the_probabilities_of_sigmoid(name: str, inputs: Tensor) -> None:
    metric, net = METRICS.build(name), _network()
    masks = None
    if metric.traits.masks:
        masks = torch.zeros(_N, 12, 12, dtype=torch.bool)
        masks[:, 3:8, 3:8] = True
    half = _twin(net, 0.5)
    one = metric(net, xc.attribute(net, inputs, method="lrp"), masks)
    two = metric(half, xc.attribute(half, inputs, method="lrp"), masks)
    assert torch.isfinite(one).all()
    if name not in {"infidelity", "aopc", "selectivity"}:  # in units of the score
        torch.testing.assert_close(one, two, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["deletion", "road", "pixel_flipping", "irof"])
def test_removal_of_one_output_says_something(name: str, inputs: Tensor) -> None:
    net = _network()
    values = xc.score(net, xc.attribute(net, inputs, method="occlusion"), metric=name)
    assert len(set(values.tolist())) == _N
    assert not bool((values == 1).any() | (values == 0).all())


def test_a_third_class_is_told(inputs: Tensor) -> None:
    with pytest.raises(xc.InputError, match="expected classes from 0 to 1"):
        xc.attribute(_network(), inputs, 2, method="saliency")
