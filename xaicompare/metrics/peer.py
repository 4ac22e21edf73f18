"""Any metric of Quantus, by a name such as "quantus:MaxSensitivity" [only home of quantus].

Quantus judges a batch by the global random state, prints, and some of its metrics compare images of one batch. Here
every image is judged alone, quietly, with draws of its own; what has no value for an image alone is refused.
"""

import inspect
import logging
import random
import warnings
from abc import ABC
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from xaicompare.boundary import class_scores, judged, outputs
from xaicompare.core import Attribution, Metric, MetricTraits
from xaicompare.draws import sample_generators
from xaicompare.errors import InputError, UnsupportedModelError, XaiCompareError, unknown
from xaicompare.metrics._peer_faults import mended, old_numpy
from xaicompare.registry import METRICS
from xaicompare.settings import Seed, frozen

_FAMILY = "quantus"

_BATCHWISE = "Quantus compares the images of one batch with each other, so that an image alone has no value"
_REFUSED = {
    "BatchSufficiency": _BATCHWISE + "; of our own, sufficiency asks for the loss when little is kept.",
    "Consistency": _BATCHWISE + "; expected another metric.",
    "Focus": "Quantus judges mosaics of several images; expected another metric, such as our own relevance_mass.",
    "SensitivityN": _BATCHWISE + "; our own sensitivity_n correlates over subsets of each image, as its paper does.",
    "Sufficiency": _BATCHWISE + "; of our own, sufficiency asks for the loss when little is kept.",
}

# Of Quantus's settings, those that would change what is returned or said, not the value of an image.
_NOT_OURS = {
    "aggregate_func",
    "args",
    "default_plot_func",
    "disable_warnings",
    "display_progressbar",
    "kwargs",
    "return_aggregate",
}


class QuantusMetric(Metric, ABC):
    """A metric of Quantus; its settings are Quantus's own, and `seed`, which is passed on where Quantus has one.

    It gets the map summed over channels, and explains by the attribution's own method where it explains again. What it
    returns for an image, a curve or a number per layer, becomes its mean, without the untouched model of MPRT.

    Source: Hedstroem, Weber, Krakowczyk, Bareeva, Motzkus, Samek, Lapuschkin, Hoehne 2023, arXiv:2202.06861.
    Differs: `normalise` is off, so that a map keeps its scale; `abs` is what Quantus has for each metric. Every image
    is judged alone. `num_classes` of RandomLogit is the model's.
    """

    peer: ClassVar[type]
    seed: int

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        self._check(attribution)
        options = self._options(model, attribution)
        draws = [each.initial_seed() for each in sample_generators(attribution.inputs, self.seed)]
        found = []
        for image, seed in enumerate(draws):
            mask = None if masks is None else masks[image]
            found.append(self._judged(model, attribution.part(slice(image, image + 1)), mask, seed, options))
        values = torch.tensor(found, dtype=attribution.inputs.dtype, device=attribution.inputs.device)
        if not bool(values.isfinite().all()):
            image = int((~values.isfinite()).nonzero()[0])
            raise UnsupportedModelError(
                f"Quantus returns {found[image]} for sample {image}; expected a finite number. It does so where noise "
                "changes the prediction (return_nan_when_prediction_changes=False keeps them, where there is "
                "such a setting), and where abs=False leaves values that its formula can't take."
            )
        return values

    def _check(self, attribution: Attribution) -> None:
        inputs = attribution.inputs
        if inputs.ndim != 4 or inputs.dtype != torch.float32:
            raise InputError(
                f"inputs are {inputs.dtype} of shape {tuple(inputs.shape)}; expected float32 images (n, c, h, w), all "
                "that Quantus computes with. Use inputs.float() and a model in float32."
            )

    def _options(self, model: nn.Module, attribution: Attribution) -> dict[str, object]:
        """The arguments of Quantus's class."""
        known = inspect.signature(self.peer).parameters
        options = {name: getattr(self, name) for name in known if name not in _NOT_OURS}
        if "num_classes" in options and options["num_classes"] is None:
            options["num_classes"] = class_scores(outputs(model, attribution.inputs[:1], 1)).shape[1]
        return options | {"return_aggregate": False, "disable_warnings": True, "display_progressbar": False}

    def _judged(
        self, model: nn.Module, alone: Attribution, mask: Tensor | None, seed: int, options: dict[str, object]
    ) -> float:
        """The value of the one image of an attribution."""
        inputs = alone.inputs

        def explained(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, device: str) -> np.ndarray:
            given = torch.as_tensor(inputs, dtype=torch.float32, device=device).view(-1, *alone.inputs.shape[1:])
            target = torch.as_tensor(targets, device=device)
            return alone.method.attribute(model, given, target, strict=False).map[:, None].cpu().numpy()

        values = alone.map[:, None].cpu().numpy()
        options, values = mended(self.peer.__name__, options, values, inputs.shape[1])
        with _quiet(), old_numpy(), judged(model, alone.target):
            _seed(seed)
            found = self.peer(**options)(
                model=model,
                x_batch=inputs.cpu().numpy(),
                y_batch=alone.target.cpu().numpy(),
                a_batch=values,
                s_batch=None if mask is None else mask.view(1, 1, *inputs.shape[2:]).cpu().numpy(),
                channel_first=True,
                explain_func=explained,
                device=str(inputs.device),
            )
        return _mean(found)

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is made when its name is first asked for, so that another process would not find it.
        return _rebuilt, (self.name, self.changed())


def _rebuilt(name: str, settings: dict[str, Any]) -> Metric:
    return METRICS.build(name, **settings)


def quantus_metric(title: str) -> type[Metric]:
    """The metric that Quantus calls so, as one of ours.

    >>> quantus_metric("MaxSensitivity")(nr_samples=5).label()
    'quantus:MaxSensitivity(nr_samples=5)'

    Raises:
        XaiCompareError: Quantus is not installed.
        UnknownNameError: it has no metric of that name.
        UnsupportedModelError: the metric has no value for an image alone.
    """
    peers = _peers()
    if title not in peers:
        raise unknown("metric of Quantus", title, peers)
    if title in _REFUSED:
        raise UnsupportedModelError(f"{_FAMILY}:{title}: {_REFUSED[title]}")
    return _made(peers[title])


@cache
def _made(peer: Any) -> type[Metric]:
    """A final class, whose fields are the settings of Quantus's."""
    parameters = inspect.signature(peer).parameters.values()
    settings = {each.name: each.default for each in parameters if each.name not in _NOT_OURS}
    settings |= {"normalise": False, "seed": 0} | ({"num_classes": None} if "num_classes" in settings else {})
    known: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": f"{peer.__name__} of Quantus.\n\n{inspect.getdoc(QuantusMetric)}",
        "__annotations__": {name: Seed if name == "seed" else Any for name in settings},
        "name": f"{_FAMILY}:{peer.__name__}",
        "peer": peer,
        "traits": MetricTraits("peer", masks=peer.evaluation_category.name == "LOCALISATION"),
        "higher_is_better": peer.score_direction.name == "HIGHER",
    }
    return frozen(type(peer.__name__, (QuantusMetric,), known | settings))


@cache
def _peers() -> dict[str, type]:
    """Quantus's metrics by the names of their classes."""
    quantus = _imported()
    classes = {name: each for name, each in vars(quantus).items() if isinstance(each, type)}
    # An old name of MPRT, which Quantus itself says it will drop.
    return {
        name: each
        for name, each in classes.items()
        if issubclass(each, quantus.Metric) and name not in ("Metric", "ModelParameterRandomisation")
    }


def _imported() -> ModuleType:
    """Quantus itself; its import draws a random number."""
    state = random.getstate()
    try:
        import xaicompare._torchvision  # noqa: F401 (first: Quantus imports torchvision)

        with _quiet():
            import quantus
    except ImportError as error:
        raise XaiCompareError(
            f"metrics named {_FAMILY}:... need Quantus ({error}); expected it installed: "
            "pip install 'xaicompare-torch[quantus]'."
        ) from error
    finally:
        random.setstate(state)
    return quantus


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Quantus's prints and warnings; with a log handler, so that none is installed behind our back."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeHandler(handler)


def _seed(seed: int) -> None:
    """The global generators, which Quantus draws from; the borrowed model's surroundings put them back."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (the legacy global is what Quantus reads)
    torch.manual_seed(seed)


def _mean(found: Any) -> float:
    """Of whatever Quantus returns for one image; of layers, those that were randomised."""
    parts = [value for name, value in found.items() if name != "original"] if isinstance(found, dict) else found
    return float(np.mean([np.mean(part) for part in parts]))


METRICS.add_family(_FAMILY, quantus_metric)
