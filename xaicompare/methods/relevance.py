"""Layer-wise relevance propagation: one method, its rules and composites by name."""

from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from xaicompare.boundary import checked_outputs, explained_start, picked, shaped_outputs
from xaicompare.core import Method, Traits, Values
from xaicompare.diagnosis.recorded import check_same
from xaicompare.errors import SettingError, UnsupportedModelError
from xaicompare.lrp import Composite, Numbers, any_network, composite, evaluated, planned, swept
from xaicompare.methods._zennit import RuleSettings, pixel_bounds, zennit_relevance
from xaicompare.registry import method
from xaicompare.settings import Array, BatchSize, NonNegative, frozen

Rule = Literal["zero", "epsilon", "gamma", "alpha-beta", "z-plus", "z-box", "w-square", "flat"]
"""One rule at every layer; "z-box" at the pixels only, with epsilon above (its bounds are those of pixels)."""
Scheme = Literal[
    "epsilon-plus",
    "epsilon-plus-flat",
    "epsilon-gamma-box",
    "epsilon-alpha2-beta1",
    "epsilon-alpha2-beta1-flat",
    "attnlrp",
    "mnist-mlp",
    "vgg16-layers",
]
"""Which layer gets which rule."""

RULES: tuple[str, ...] = get_args(Rule)
COMPOSITES: tuple[str, ...] = get_args(Scheme)


@method
@frozen
class LRP(Method):
    """Relevance of the output, sent back layer by layer in proportion to what each neuron contributed.

    It starts from the explained output alone, f(x) of the target. Relevance that falls to biases is lost; the
    residual counts it, so that values and biases' share must make up f(x).

    - `composite`: the name of a rule, used at every layer, or of a scheme that gives each layer its rule; or a scheme
      of your own, as a `xaicompare.Composite` or as a table: {"first": "flat", "convolution": "z-plus"}.
      `mnist-mlp`: the output layer zero, the next epsilon with 0.1 std(z), lower ones gamma, the pixels z-box.
      `vgg16-layers`: zero for the classifier, epsilon with 0.25 rms(z) for features 17 to 30, gamma for 1 to 16, z-box
      at layer 0, and max-pooling treated as average pooling.
    - `epsilon` (added to |z|), `gamma`, `alpha` and `beta` (alpha - beta = 1) count where the composite has that rule.
    - `engine`: "native" sweeps through the traced network: branches, gates and merged BatchNorm included. "zennit" is
      the reference: its rules sit on modules, which must be all there is but in torchvision's ResNets; no residual.
    - `low`, `high`: the least and greatest value that a pixel can have, a number or one per channel, for z-box. None
      takes each sample's own extremes.

    Source: Bach et al. 2015, doi:10.1371/journal.pone.0130140, equations 56 to 62; Montavon, Binder, Lapuschkin, Samek,
    Mueller 2019, doi:10.1007/978-3-030-28954-6_10, table 10.1.
    Differs: gamma is the generalised form, for inputs of both signs (Andeol et al. 2021, arXiv:2106.01107); it equals
    the classic one where inputs are at least 0.
    """

    name: ClassVar[str] = "lrp"
    traits: ClassVar[Traits] = Traits("propagation", neuron_relevance=True, conserves=True)

    composite: Rule | Scheme | Composite | dict[str, Any] = "epsilon-plus-flat"
    engine: Literal["native", "zennit"] = "native"
    epsilon: NonNegative = 1e-6
    gamma: NonNegative = 0.25
    alpha: NonNegative = 2.0
    beta: NonNegative = 1.0
    low: float | Array | None = None
    high: float | Array | None = None
    batch_size: BatchSize = 64

    def __post_init__(self) -> None:
        if self.alpha - self.beta != 1:
            raise SettingError(f"lrp: alpha={self.alpha}, beta={self.beta}; expected alpha - beta = 1.")
        if isinstance(self.composite, str):
            return
        if self.engine == "zennit":
            raise SettingError("lrp: engine='zennit' with a composite of your own; expected the name of one.")
        composite(self.composite)  # tells slips now

    @property
    def rules(self) -> Composite:
        """The composite with this method's numbers, as `xaicompare.relevance` takes it."""
        return composite(self.composite, Numbers(self.epsilon, self.gamma, self.alpha, self.beta, self.low, self.high))

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        if self.engine == "zennit":
            low, high = pixel_bounds(self.low, inputs, "low"), pixel_bounds(self.high, inputs, "high")
            settings = RuleSettings(self.epsilon, self.gamma, self.alpha, self.beta, low, high)
            return Values(zennit_relevance(model, inputs, target, str(self.composite), settings))
        for bound, which in ((self.low, "low"), (self.high, "high")):
            if bound is not None:
                pixel_bounds(bound, inputs, which)
        steps = any_network(model, inputs)
        if steps.alone and len(inputs) > 1:
            singles = zip(inputs.split(1), target.split(1), strict=True)
            return _joined([self._values(model, *single) for single in singles])
        try:
            plan = planned(steps, self.rules)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"composite {self.composite!r} on {type(model).__name__}: {error}") from error
        forward = evaluated(plan, inputs.detach())
        logits = checked_outputs(forward.outputs, len(inputs))
        if steps.alone:
            with torch.no_grad():
                check_same(shaped_outputs(model.forward(inputs.detach()), len(inputs)), logits)
        start = explained_start(forward.outputs, target, picked(logits, target))
        passed = swept(forward, start)
        return Values(passed.relevance, left_out=passed.lost, logits=logits)


def _joined(parts: list[Values]) -> Values:
    """The values of several samples."""
    values, left_out, logits = zip(*((part.values, part.left_out, part.logits) for part in parts), strict=True)
    return Values(torch.cat(values), left_out=torch.cat(left_out), logits=torch.cat(logits))
