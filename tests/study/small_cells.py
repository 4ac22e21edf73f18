"""A small study with many cells, and methods that break in all ways."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from xaicompare.core import Attribution, Method, Metric, MetricTraits, Traits, Values
from xaicompare.results import Results
from xaicompare.settings import BatchSize, frozen

SMALL = """
images = 5
grid_images = 2
cell_images = 2
methods = ["saliency", "integrated_gradients", "cam", "random"]
metrics = [
  { name = "confidence_removal", order = "most", shares = [0.1, 0.5] },
  { name = "confidence_removal", order = "least", shares = [0.1, 0.5] },
  { name = "sparseness", images = 3 },
]
[data]
name = "digits"
[model]
name = "mlp"
settings = { hidden = [8] }
recipe = { epochs = 1, limit = 100 }
"""
METHODS = ("saliency", "integrated_gradients", "random", "edges", "center", "constant")  # that explain it


def bare(results: Results) -> pd.DataFrame:
    """All but what no two runs have alike."""
    return results.table.drop(columns="seconds")


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, *classes: type) -> Iterator[Counter[str]]:
    """How often the hole of each class is called for how many samples, by its name."""
    calls: Counter[str] = Counter()
    with monkeypatch.context() as patch:
        for cls in classes:

            def seen(self, model, given, *more, plain=cls._values, name=cls.name):  # type: ignore[no-untyped-def]
                calls[name] += len(given)
                return plain(self, model, given, *more)

            patch.setattr(cls, "_values", seen)
        yield calls


@frozen
class Faulty(Method):
    """Divides by zero, for all images or those of one class."""

    name: ClassVar[str] = "faulty"
    traits: ClassVar[Traits] = Traits("control")
    batch_size: BatchSize = 64
    only: int | None = None
    error: ClassVar[type[BaseException]] = ZeroDivisionError

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        if self.only is None or self.only in target:
            raise self.error("by zero")
        return Values(inputs * 2)


@frozen
class Hungry(Method):
    """Has memory for two images."""

    name: ClassVar[str] = "hungry"
    traits: ClassVar[Traits] = Traits("control")
    batch_size: BatchSize = 64

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Values(inputs * 2)


@frozen
class HungryMetric(Metric):
    """Has memory for one image, and says it as torch does on a CPU."""

    name: ClassVar[str] = "hungry_metric"
    traits: ClassVar[MetricTraits] = MetricTraits("complexity")
    higher_is_better = True

    def _values(self, model: nn.Module, attribution: Attribution, masks: Tensor | None) -> Tensor:
        if len(attribution) > 1:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return attribution.map.flatten(1).sum(1)


@frozen
class Deadly(Method):
    """Kills the process that it runs in, unless that is the one that runs the tests."""

    name: ClassVar[str] = "deadly"
    traits: ClassVar[Traits] = Traits("control")
    batch_size: BatchSize = 64
    spared: int = 0

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        assert os.getpid() != self.spared
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError
