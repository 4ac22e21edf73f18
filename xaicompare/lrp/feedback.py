"""Layer-wise feedback propagation: the relevance of every weight for a reward, in the place of its gradient."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, fx, nn
from torch.autograd.function import once_differentiable

from xaicompare.errors import SettingError, XaiCompareError
from xaicompare.lrp.affine import Affine, affine_of
from xaicompare.lrp.composite import Composite, rule_from
from xaicompare.lrp.graph import Network, Step
from xaicompare.lrp.guided_pass import GuidedPass
from xaicompare.lrp.known_route import KnownRoute, check_inputs
from xaicompare.lrp.plan import planned
from xaicompare.lrp.route import Route, routed_to_all
from xaicompare.lrp.rules import Epsilon, Rule, Zero, quotient
from xaicompare.lrp.sweep import Sweep

RewardName = Literal["loss", "sign"]


def rewards(outputs: Tensor, gradient: Tensor, name: RewardName) -> Tensor:
    """What the outputs earn, (n, classes), of the loss's gradient with respect to them."""
    return -gradient * (outputs if name == "loss" else outputs.sign())


class FeedbackPropagation(nn.Module):
    """A model whose weights are told by relevance, instead of the gradient, which way to go.

    Call it instead of the model, and train as ever, with any optimizer: `feedback(inputs)` returns the model's outputs,
    and `loss.backward()` writes -(R_w sign(w)) into the gradient of every weight w of linear layers, convolutions and
    BatchNorms, summed over the batch: R_w = a_j w_jk / z_k * R_k is the share that the weight has in the relevance of
    its neuron's output. So a weight that was rewarded grows, whatever its sign, one that was not shrinks, and one that
    is 0 stays there, as do biases that start at 0. The relevance of the outputs is their reward. No derivative of an
    activation is taken. Without gradients (`torch.no_grad()`) it is the model.

    For networks with ReLU, LFP-0 and the reward "loss" give the loss's gradient times |w|. Hence SGD needs a learning
    rate that is larger by 1 / |w|: that is what `gain` is for; Adam does not see it.

    Args:
        model: any model that LRP can trace, except compiled ones.
        rule: "zero" (LFP-0), "epsilon" (LFP-epsilon), or {"rule": "epsilon", "epsilon": 0.01}.
        reward: "loss": z_k times minus the loss's gradient with respect to z_k; with cross-entropy, z (one-hot -
            softmax). "sign": the same with the sign of z_k; as it is divided by z_k, it wants a larger epsilon.
        gain: all rewards are multiplied by it.

    Raises:
        UnsupportedModelError: a model that can't be traced, has a step without a rule, or is compiled or wrapped.
        SettingError: a setting out of range.

    Source: Weber et al. 2025, Efficient and Flexible Neural Network Training through Layer-wise Feedback Propagation,
    arXiv:2308.12053, theorem 1; rewards: the authors' reference implementation.
    Differs: BatchNorm in training mode shares relevance by the batch's own statistics, as constants; where one follows
    a layer, both are one map.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> feedback = FeedbackPropagation(model, rule="zero")
    >>> nn.functional.cross_entropy(feedback(torch.ones(2, 4)), torch.tensor([0, 2])).backward()
    >>> feedback
    FeedbackPropagation(Sequential, rule=Zero(), reward='loss', gain=1.0)
    """

    def __init__(
        self,
        model: nn.Module,
        rule: str | Rule | Mapping[str, Any] = "epsilon",
        reward: RewardName = "loss",
        *,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        made = rule_from(rule)
        if not isinstance(made, (Zero, Epsilon)):
            raise SettingError(f"rule={made.name!r}; expected 'zero' or 'epsilon'.")
        if reward not in get_args(RewardName):
            raise SettingError(f"reward={reward!r}; expected 'loss' or 'sign'.")
        if isinstance(gain, bool) or not (isinstance(gain, (int, float)) and math.isfinite(gain) and gain > 0):
            raise SettingError(f"gain={gain!r}; expected a finite number above 0.")
        self.model = model
        self.rule = made
        self.reward: RewardName = reward
        self.gain = float(gain)
        self.batch = 0  # batches so far
        self._route = KnownRoute(model, "FeedbackPropagation", self._routed)
        self._taught_by = self._route.now()  # tells at once what can't be done
        self._taught = _taught(self._taught_by)

    def forward(self, inputs: Tensor) -> Tensor:
        """The model's outputs (n, classes) for inputs (n, ...)."""
        if not torch.is_grad_enabled():
            return self.model(inputs)
        check_inputs(inputs)
        route = self._route.proven(inputs, self.batch)
        passed = GuidedPass(route, _Silent(), self.batch, lambda logits: logits)
        self.batch += 1
        with torch.no_grad():
            outputs = passed.run(inputs)
        if route is not self._taught_by:
            self._taught_by, self._taught = route, _taught(route)
        feedback: Tensor = _Feedback.apply(outputs, self, passed, *self._taught)
        return feedback

    def __repr__(self) -> str:
        told = f"rule={self.rule!r}, reward={self.reward!r}, gain={self.gain}"
        return f"FeedbackPropagation({type(self.model).__name__}, {told})"

    def _routed(self, network: Network) -> Route:
        return routed_to_all(
            planned(network, Composite(convolution=self.rule, dense=self.rule, normalisation=self.rule))
        )


@dataclass(frozen=True, eq=False)
class _Teaching:
    """What the sweep of one pass knows."""

    passed: GuidedPass
    rule: Zero | Epsilon
    sweep: Sweep
    made: dict[Tensor, Tensor]  # by parameter

    def down(self) -> None:
        """Relevance goes down; what it makes of each layer's parameters is noted."""
        passed, sweep = self.passed, self.sweep
        for step in reversed(passed.route.plan.network.steps):
            relevance = sweep.relevance.pop(step.node, None)
            if relevance is not None:
                if step.node in passed.route.guided:
                    self._teach(step, relevance)
                else:
                    sweep.send(step, relevance)
            passed.forward.values.pop(step.node, None)

    def _teach(self, step: Step, relevance: Tensor) -> None:
        """One layer with weights, perhaps with the BatchNorm that is one map with it."""
        forward, plan = self.passed.forward, self.passed.route.plan
        z, a, layer = forward.at(step.node), forward.padded(step), forward.layer(step)
        s = quotient(relevance, z, self.rule.stabilizer(z), int(step.node in plan.rectified))  # (n, upper)
        if step.node in self.passed.route.above:
            self.sweep.hand_down(step, layer.down(s, layer.weight, a).mul_(a))
        norm = plan.network.norms.get(step.node)
        if norm is not None:
            self._note_norm(norm, s, z)
            s = s * _beside(_scale(norm, forward.statistics.get(step.node)), s, layer)
        if isinstance(step.module, nn.modules.batchnorm._BatchNorm):
            self._note_norm(step.module, s, z)
        else:
            self._note_layer(step.module, a, s)  # type: ignore[arg-type]

    def _note_layer(self, module: nn.Module, a: Tensor, s: Tensor) -> None:
        layer = affine_of(module)
        assert layer is not None
        weight, bias = layer.gradients(a, s, of_bias=layer.bias is not None)
        self._note(layer.weight, weight.mul_(layer.weight.abs()))
        if bias is not None:
            self._note(layer.bias, bias.mul_(layer.bias.abs()))  # type: ignore[arg-type,union-attr] # it has one

    def _note_norm(self, norm: nn.modules.batchnorm._BatchNorm, s: Tensor, z: Tensor) -> None:
        """A BatchNorm's scale g and shift b: z = g x + b, and so g x = z - b."""
        if norm.weight is not None:
            axes = [0, *range(2, s.ndim)]
            total = s.sum(axes)
            self._note(norm.weight, norm.weight.sign() * ((s * z).sum(axes) - norm.bias * total))
            self._note(norm.bias, norm.bias.abs() * total)

    def _note(self, parameter: Tensor, made: Tensor) -> None:
        self.made[parameter] = self.made[parameter] + made if parameter in self.made else made.to(parameter.dtype)


class _Silent:
    """Guides nothing; see `guided_pass.Guide`."""

    touches_weights = False

    def scale(self, layer: str, gradient: Tensor, relevance: Tensor, passed: GuidedPass, node: fx.Node) -> Tensor:
        return gradient

    def weight_gradient(self, layer: str, gradient: Tensor, passed: GuidedPass, node: fx.Node) -> Tensor:
        return gradient

    def factor(self, layer: str) -> Tensor | None:
        return None

    def factor_gradient(self, layer: str) -> Tensor | None:
        return None


class _Feedback(torch.autograd.Function):
    """The outputs as they are; backward hands every parameter minus its update."""

    @staticmethod
    def forward(
        ctx: Any,
        outputs: Tensor,
        feedback: FeedbackPropagation,
        passed: GuidedPass,
        *taught: Tensor,
    ) -> Tensor:
        ctx.feedback, ctx.passed, ctx.taught = feedback, passed, taught
        return outputs.view_as(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        feedback, passed = ctx.feedback, ctx.passed
        if passed is None:
            raise XaiCompareError(
                "a second backward through one batch; expected one: relevance is dropped on the way. Call "
                "feedback(inputs) again."
            )
        ctx.passed = None
        with torch.no_grad():
            outputs = passed.forward.outputs
            reward = rewards(outputs, gradient.to(outputs.dtype), feedback.reward)
            # As the sweep is linear, minus the reward gives minus the updates: what stands where gradients stand.
            sweep = Sweep(passed.forward, -feedback.gain * reward, accounts=False)
            teaching = _Teaching(passed, feedback.rule, sweep, {})
            teaching.down()
        return (None, None, None, *(teaching.made.get(parameter) for parameter in ctx.taught))


def _taught(route: Route) -> list[Tensor]:
    """The parameters of all layers, each once."""
    modules = []
    for node in route.guided:
        modules += [route.steps[node].module, route.plan.network.norms.get(node)]
    found = [each for module in modules if module is not None for each in module.parameters(recurse=False)]
    return list(dict.fromkeys(found))


def _scale(norm: nn.modules.batchnorm._BatchNorm, statistics: tuple[Tensor, Tensor] | None) -> Tensor:
    """What a BatchNorm multiplies each channel by, (c,)."""
    layer = affine_of(norm, statistics)
    assert layer is not None
    return layer.weight


def _beside(values: Tensor, s: Tensor, layer: Affine) -> Tensor:
    """Values (upper,) in a shape that broadcasts over s (n, upper, ...), of a linear layer (n, ..., upper)."""
    return values if layer.convolution is None else values.view(-1, *[1] * (s.ndim - 2))
