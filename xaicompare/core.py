"""The nouns: an Attribution, the Method that makes it, the Metric that judges it."""

import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from xaicompare.borrow import borrowed, watched
from xaicompare.boundary import (
    Target,
    checked_inputs,
    checked_map,
    checked_masks,
    checked_outputs,
    checked_values,
    judged,
    outputs,
    per_pass,
    picked,
    resolved_target,
)
from xaicompare.errors import IncompleteError, InputError, LibraryError, UnsupportedModelError, XaiCompareError
from xaicompare.notebook import ROWS, relevance_picture, table
from xaicompare.scripted import callable_network
from xaicompare.settings import Settings

Status = Literal["ok", "warn", "failed"]
"""How complete an attribution is: its residual against the larger of |score| and |sum of the values|."""

COMPLETE, INCOMPLETE = 0.02, 0.1
"""Up to the first share the status is "ok", up to the second "warn", beyond it "failed"."""


class Traits(NamedTuple):
    """How a method works, as `xaicompare methods` prints it."""

    kind: Literal["gradient", "propagation", "perturbation", "surrogate", "control"]
    agnostic: bool = False  # needs only the model's outputs
    baseline: bool = False  # compares with a reference input
    neuron_relevance: bool = False  # gives each neuron a relevance that is not a gradient
    conserves: bool = False  # the values sum to the explained output, or its difference from the baseline
    needs: Literal["attention", "transformer", "pooling"] | None = None  # what a network must have; see `cli.methods`


class Values(NamedTuple):
    """What a method's one hole returns.

    A method that promises completeness says which part of the score its values leave out by definition: the output of
    the baseline, or the relevance that biases absorbed. The values and that part together must be the score.
    """

    values: Tensor  # (n, c or 1, *spatial), signed
    left_out: Tensor | None = None  # (n,)
    logits: Tensor | None = None  # (n, classes), where the method had them from elsewhere than a call of the model


@dataclass(frozen=True, eq=False)
class Attribution:
    """Which parts of the inputs speak for the explained output, for a batch of n samples."""

    values: Tensor  # (n, c or 1, *spatial), signed, same device as inputs
    inputs: Tensor  # (n, c, *spatial)
    target: Tensor  # (n,) int64, always concrete
    score: Tensor  # (n,) the explained output
    method: "Method"  # its repr is its full settings
    residual: Tensor | None  # (n,) sum of the values and of what they leave out, less the score: 0 when complete
    seconds: float  # wall time of the batch

    @property
    def map(self) -> Tensor:
        """One value per position, (n, *spatial): the sum over channels, so that nothing is gained or lost."""
        return self.values if self.values.ndim == 2 else self.values.sum(dim=1)

    @property
    def total(self) -> Tensor:
        """The sum of the values, (n,): the score of a map whose method promises no other."""
        return self.values.flatten(1).sum(1)

    @property
    def incompleteness(self) -> Tensor | None:
        """|residual| as a share of the larger of |score| and |sum of the values|, (n,); None without a promise."""
        if self.residual is None:
            return None
        scale = torch.maximum(self.score.abs(), self.values.flatten(1).sum(1).abs())
        return self.residual.abs() / scale.clamp_min(torch.finfo(scale.dtype).tiny)

    @property
    def status(self) -> Status | None:
        """How complete the worst sample is; None where the method promises nothing."""
        shares = self.incompleteness
        return None if shares is None else status_of(shares)

    @property
    def complaint(self) -> str | None:
        """A sentence on the least complete sample; None where the method promises nothing."""
        shares = self.incompleteness
        return None if shares is None else complaint_of(shares, self.method)

    def part(self, chosen: slice) -> "Attribution":
        """The same attribution, of some of its samples only."""
        names = ("values", "inputs", "target", "score", *(() if self.residual is None else ("residual",)))
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def save(self, path: str | Path) -> Path:
        """Writes everything to one file of safetensors, and returns its path; what was there is replaced.

        Raises:
            DataError: the file can't be written.
            XaiCompareError: the method is not registered, or one of its settings has no form as text or tensor.
        """
        return importlib.import_module("xaicompare.saved").save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> "Attribution":
        """Reads what `save` wrote: the same fields with the same shapes and types, on the CPU.

        Raises:
            DataError: the file can't be read, is no saved attribution, or its method is not known here.
        """
        return importlib.import_module("xaicompare.saved").load(path)

    def plot(self, **options: Any) -> Any:  # a Figure of matplotlib, whose home is above
        """A matplotlib Figure of the inputs and their maps, a row per sample; options are those of `xaicompare.grid`.

        >>> Attribution.load("cat.safetensors").plot(outlines=0).savefig("cat.png")  # doctest: +SKIP

        Raises:
            InputError: inputs that are no images.
            SettingError: an option out of range.
        """
        return importlib.import_module("xaicompare.figures").grid(self, **options)

    def __len__(self) -> int:
        return len(self.values)

    def _repr_html_(self) -> str:
        """What a notebook shows: a row for each of the first samples, with its map."""
        shares, n = self.incompleteness, min(len(self), ROWS)
        rows = []
        for i in range(n):
            target, score = str(int(self.target[i])), f"{float(self.score[i]):.4g}"
            missed = "not promised" if shares is None else f"misses {float(shares[i]):.2%}"
            drawn = relevance_picture(self.map[i], f"{self.method.name}, sample {i}, class {target}") or "no picture"
            rows.append((str(i), target, score, missed, drawn))
        more = f", the first {n} shown" if n < len(self) else ""
        told = f"values {tuple(self.values.shape)}{more}; {self.seconds:.3g} s for all"
        completeness = "" if self.status is None else f"; completeness: {self.status}"
        heads = ("sample", "class explained", "its score", "completeness", "map (blue against, red for)")
        return table(self.method.label(), [repr(self.method), told + completeness], heads, rows)

    def __repr__(self) -> str:
        classes = ", ".join(str(int(target)) for target in self.target[:8]) + (", ..." if len(self) > 8 else "")
        shape = tuple(self.values.shape)
        return f"Attribution({self.method}, values={shape}, target=[{classes}], {self.seconds:.3g} s)"


def status_of(incompleteness: Tensor) -> Status:
    """How complete the worst of n samples is, by their `Attribution.incompleteness` (n,)."""
    worst = float(incompleteness.max())
    return "ok" if worst <= COMPLETE else "warn" if worst <= INCOMPLETE else "failed"


def complaint_of(incompleteness: Tensor, method: "Method") -> str:
    """A sentence on the least complete of n samples."""
    worst = int(incompleteness.argmax())
    more = " Use more n_steps." if hasattr(method, "n_steps") else ""
    return (
        f"the values of sample {worst} miss what they must sum to by {float(incompleteness[worst]):.1%} of it; "
        f"expected at most {INCOMPLETE:.0%}.{more}"
    )


class Method(Settings, ABC):
    """An attribution method: settings in its fields, one hole `_values`, no model and no state."""

    traits: ClassVar[Traits]
    batch_size: int  # every leaf declares it as a field

    @final
    def attribute(self, model: nn.Module, inputs: Tensor, target: Target = None, *, strict: bool = True) -> Attribution:
        """Explains the model's output for each sample.

        Args:
            model: maps inputs to (n, classes); run in evaluation mode, given back untouched.
            inputs: (n, c, h, w) or (n, features), floating point.
            target: None (the predicted class), a class, or (n,) classes.
            strict: raise where a promised completeness failed; False returns such values, with `status` "failed".

        Raises:
            InputError: inputs, target or a baseline don't fit the model or the method.
            UnsupportedModelError: the method has no right answer on this model.
            LibraryError: a library underneath failed, perhaps for now only.
            IncompleteError: the values miss what they must sum to by more than a tenth of it.
        """
        model = callable_network(model)
        checked = checked_inputs(model, inputs)
        with borrowed(model):
            logits = outputs(model, checked, self.batch_size) if target is None else None
            classes = resolved_target(target, checked, logits)
            started = time.perf_counter()
            size = per_pass(self.batch_size, checked)
            chunks = zip(checked.split(size), classes.split(size), strict=True)
            parts = [self._part(model, *chunk) for chunk in chunks]
            seconds = time.perf_counter() - started
        values, scores, residuals = (_joined(column) for column in zip(*parts, strict=True))
        residual = None if residuals.isnan().all() else residuals
        made = Attribution(values, checked, classes, scores, self, residual, seconds)
        if strict and made.status == "failed":
            raise IncompleteError(
                f"{self.name}: {made.complaint} xaicompare.doctor(model, inputs) looks for the cause; strict=False "
                "returns them all the same."
            )
        return made

    @abstractmethod
    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        """The values for at most `batch_size` samples; the model is already borrowed."""

    def _part(self, model: nn.Module, inputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values, score and residual (NaN where nothing is promised) of one chunk."""
        # A fresh leaf: methods ask for its gradient, and the user's tensor must not notice.
        inputs = inputs.clone().requires_grad_()
        with watched(model, inputs) as seen, judged(model, target), told_by(self, inputs):
            made = self._values(model, inputs, target)
            logits = seen[0] if seen else made.logits
            logits = outputs(model, inputs, len(inputs)) if logits is None else checked_outputs(logits, len(inputs))
            values = checked_values(made.values.detach(), inputs)
        score = picked(logits, target)
        residual = torch.full_like(score, torch.nan)
        if made.left_out is not None:
            residual = values.flatten(1).sum(1) + made.left_out.detach() - score
        return values, score, residual


Family = Literal[
    "removal", "subsets", "masking", "robustness", "complexity", "localisation", "randomisation", "axioms", "peer"
]
"""What a metric looks at."""


class MetricTraits(NamedTuple):
    """What a metric measures, as `xaicompare metrics` prints it."""

    family: Family
    low: float = -inf  # the least value there is
    high: float = inf  # the greatest
    masks: bool = False  # needs to know where the object is


class Metric(Settings, ABC):
    """A measure of an attribution: settings in its fields, one call, one hole `_values`."""

    traits: ClassVar[MetricTraits]
    higher_is_better: bool  # which way is good; a property where it depends on a setting

    @final
    def __call__(self, model: nn.Module, attribution: Attribution, masks: Tensor | None = None) -> Tensor:
        """One value per sample, (n,), finite.

        Args:
            model: the one that was explained; run in evaluation mode, given back untouched.
            masks: (n, *spatial) bool, True where the object is; for metrics that ask for them, and no others.

        Raises:
            InputError: the attribution does not fit its inputs or is not finite; masks are missing, unasked for, of
                another shape, or empty.
            UnsupportedModelError: the metric has no right answer on this model.
            LibraryError: a library underneath failed, perhaps for now only.
        """
        with self._judging(model, attribution) as network:
            known = checked_masks(masks, attribution.inputs, wanted=self.traits.masks)
            values = self._values(network, attribution, known)
            if not bool(torch.isfinite(values).all()):
                raise UnsupportedModelError("a value is NaN or inf; the model's outputs are too large or too small.")
        return values.detach()

    @abstractmethod
    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        """The values (n,); the model is already borrowed, attribution and masks are checked."""

    @contextmanager
    def _judging(self, model: nn.Module, attribution: Attribution) -> Iterator[nn.Module]:
        """What surrounds every measurement: checks, a borrowed model, errors with the metric's name."""
        with told_by(self, attribution.inputs):
            model = callable_network(model)
            checked_inputs(model, attribution.inputs)
            checked_map(attribution.values, attribution.inputs)
            with borrowed(model):
                yield model


class Curve(ABC):
    """What a metric saw on its way to a value: one quantity at each of s shares, for n samples."""

    shares: Tensor  # (s,) of the features removed

    @property
    @abstractmethod
    def values(self) -> Tensor:
        """The quantity, (n, s)."""

    def mean(self) -> Tensor:
        """The mean over the shares, (n,)."""
        return self.values.mean(1)

    def area(self) -> Tensor:
        """The area under the curve by the trapezoidal rule, over the width of the shares: a mean too, (n,).

        Raises:
            InputError: fewer than two shares, or shares that don't rise.
        """
        widths = self.shares.diff()
        if len(widths) == 0 or bool((widths <= 0).any()):
            raise InputError(f"shares are {self.shares.tolist()}; an area needs two or more, rising.")
        return torch.trapezoid(self.values, self.shares.to(self.values), dim=1) / widths.sum().to(self.values)


class CurveMetric(Metric, ABC):
    """A metric that comes from a curve, which `curve` gives."""

    @final
    def curve(self, model: nn.Module, attribution: Attribution) -> Curve:
        """The curve itself; arguments and errors are those of a call."""
        with self._judging(model, attribution) as network:
            return self._curve(network, attribution)

    @abstractmethod
    def _curve(self, model: nn.Module, attribution: Attribution) -> Curve:
        """The curve; the model is already borrowed, the attribution checked."""


def _joined(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat(parts) if len(parts) > 1 else parts[0]


@contextmanager
def told_by(owner: Settings, inputs: Tensor) -> Iterator[None]:
    """Errors of our own carry the name of the method or metric; those of the libraries underneath become ours."""
    try:
        yield
    except XaiCompareError as error:
        raise type(error)(f"{owner.name}: {error}") from error
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError, AssertionError, LookupError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise LibraryError(f"{owner.name} failed on inputs {tuple(inputs.shape)}: {reason}") from error
