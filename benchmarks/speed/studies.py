"""What carrying a study out costs beside its methods and metrics: time, memory, and what a second process gains.

    python benchmarks/speed/studies.py memory      # peak memory at 1,000 and 20,000 images
    python benchmarks/speed/studies.py overhead    # the runner's own share of the time, one thread
    python benchmarks/speed/studies.py jobs        # 1 process over 2, the digits suite with 500 images

`memory` takes images that are drawn as they are asked for, so that what grows is the study's own. `overhead` counts
processor seconds: those inside a method's or a metric's own computation, and all others from the first cell to the
last. `jobs` runs 1, 2, 1, 2 processes in turn, each in a folder of its own, by one thread for each process; it says
nothing on a machine that is busy with something else.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

import xaicompare.methods
import xaicompare.metrics  # noqa: F401 (registers their names)
from xaicompare.core import CurveMetric, Method, Metric
from xaicompare.registry import DATASETS
from xaicompare.study import Study, run
from xaicompare.study.folder import save
from xaicompare.zoo import Dataset, Scale
from xaicompare.zoo.images import Images, Indices

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "benchmarks" / "suites" / "digits.toml"
CALLS = ((Method, "attribute"), (Metric, "__call__"), (CurveMetric, "curve"))
SIZES = (1_000, 20_000)
STREAMED = """
images = {images}
methods = ["saliency"]
metrics = ["sparseness"]
[data]
name = "noise"
[model]
name = "mlp"
settings = {{ hidden = [32] }}
recipe = {{ epochs = 1 }}
"""


@dataclass(frozen=True, eq=False)
class Noise(Images):
    """Images that take no memory: each is drawn from its own number when it is asked for."""

    labels: Tensor
    numbers: Tensor
    scale: Scale

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Normalised images (n, 1, 32, 32) and their labels (n,)."""
        chosen = self.subset(indices)
        pixels = [
            torch.randint(256, (1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(int(number)))
            for number in chosen.numbers
        ]
        return self.scale.normalised(torch.stack(pixels)), chosen.labels

    def subset(self, indices: Indices) -> Self:
        """Only these images."""
        where = torch.as_tensor(indices, dtype=torch.int64)
        return replace(self, labels=self.labels[where], numbers=self.numbers[where])

    def to(self, device: torch.device | str) -> Self:
        """The same: they are on the CPU when they are drawn."""
        return self


def noise() -> Dataset:
    """200 images to train on, 20,000 to explain."""
    scale = Scale((0.5,), (0.3,))
    parts = (torch.arange(200), torch.arange(200, 200 + max(SIZES)))
    train, test = (Noise(numbers % 10, numbers, scale) for numbers in parts)
    return Dataset("noise", tuple("0123456789"), scale, train, test)


def peak() -> float:
    """Mebibytes that this process held at once, so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def memory_of(images: int) -> None:
    """One study of so many images in this process: peaks before, after the cells, and after the tables."""
    DATASETS.add("noise", noise)
    with tempfile.TemporaryDirectory() as place:
        file, out = Path(place) / "study.toml", Path(place) / "out"
        file.write_text(STREAMED.format(images=images))
        study = Study.load(file)
        run(replace(study, images=100))  # what is loaded and cached once
        peaks = [peak()]
        outcome = run(study, out)
        peaks.append(peak())
        save(outcome, out)
        peaks.append(peak())
        table = outcome.results.table
        held = table.memory_usage(deep=True).sum() / len(table)
        sizes = [
            path.stat().st_size / 2**20 for path in (out / "results.parquet", out / "results.csv") if path.exists()
        ]
    told = " | ".join(f"{value:.0f}" for value in peaks)
    print(f"| {images:,} | {told} | {len(table):,} | {held:.0f} | {' + '.join(f'{size:.1f}' for size in sizes)} |")


def memory() -> None:
    """Each size in a process of its own."""
    print("| images | MiB before | with cells | with tables | rows | bytes a row | MiB of results |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for images in SIZES:
        subprocess.run([sys.executable, __file__, "memory", "--images", str(images)], check=True)


@contextmanager
def clocked() -> Iterator[list[float]]:
    """Processor seconds inside the outermost calls of methods and metrics."""
    total, depth = [0.0], [0]

    def timed(call):  # type: ignore[no-untyped-def]
        def wrapped(*given, **settings):  # type: ignore[no-untyped-def]
            start = time.process_time()
            depth[0] += 1
            try:
                return call(*given, **settings)
            finally:
                depth[0] -= 1
                total[0] += 0.0 if depth[0] else time.process_time() - start

        return wrapped

    calls = {(cls, name): cls.__dict__[name] for cls, name in CALLS}
    for (cls, name), call in calls.items():
        setattr(cls, name, timed(call))
    try:
        yield total
    finally:
        for (cls, name), call in calls.items():
            setattr(cls, name, call)


def digits(images: int, only: list[str]) -> Study:
    """The digits suite with other images, and perhaps some of its methods only."""
    study = replace(Study.load(DIGITS), images=images)
    return replace(study, methods={label: study.methods[label] for label in only or study.methods})


def overhead(images: int, only: list[str]) -> None:
    """Processor seconds of the digits suite, inside methods and metrics and outside of them."""
    torch.set_num_threads(1)
    study = digits(images, only)
    run(replace(study, images=2, methods=dict([*study.methods.items()][:1])))  # trains
    with tempfile.TemporaryDirectory() as out, clocked() as inside:
        start = time.process_time()
        outcome = run(study, out)
        done, busy = time.process_time(), inside[0]
        save(outcome, out)
        tables = time.process_time() - done
    rest = done - start - busy
    of = f"{images} images, {len(study.methods)} methods"
    print(f"{of}: {busy:.1f} s in methods and metrics, {rest:.2f} s beside: {rest / busy:.2%}")
    print(f"tables, tests and figures afterwards: {tables:.1f} s")


def jobs(images: int, only: list[str], rounds: int) -> None:
    """Wall seconds of the digits suite by 1 process over those by 2."""
    study = digits(images, only)
    run(digits(2, ["saliency"]))  # trains
    print(f"load at the start: {os.getloadavg()[0]:.2f}", flush=True)
    ratios = []
    for number in range(rounds):
        seconds = {}
        for count in (1, 2) if number % 2 == 0 else (2, 1):
            torch.set_num_threads(1)
            with tempfile.TemporaryDirectory() as out:
                start = time.perf_counter()
                run(study, out, jobs=count)
                seconds[count] = time.perf_counter() - start
        ratios.append(seconds[1] / seconds[2])
        print(f"1 process {seconds[1]:.1f} s, 2 processes {seconds[2]:.1f} s: {ratios[-1]:.2f}", flush=True)
    print(f"median {statistics.median(ratios):.2f}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("memory", "overhead", "jobs"))
    parser.add_argument("--images", type=int)
    parser.add_argument("--methods", nargs="*", default=[], help="of the digits suite; all of them")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.what == "memory":
        memory_of(given.images) if given.images else memory()
    elif given.what == "overhead":
        overhead(given.images or 100, given.methods)
    else:
        jobs(given.images or 500, given.methods, given.rounds)


if __name__ == "__main__":
    main()
