"""What metrics cost: ours over the forward passes that they need, and Quantus and pytorch-grad-cam over ours.

    python benchmarks/speed/metrics.py [--network small vgg16] [--only road ...] [--seconds 4] [--no-peers]

The floor is the same network on as many images, without gradients, in the batch size and order of memory that are
fastest for it; how many images pass is counted while the metric runs, also those that it passes twice. Peers judge the
same maps of the same images with the settings named in `peers`, and see the whole batch at once, where they can. Every
line is A B A B in one process, medians of ratios. Networks have seeded random weights; the map is input x gradient.
"""

import argparse
import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from _timing import interleaved, timed
from torch import nn

import xaicompare as xc
import xaicompare.methods  # first: it makes torchvision importable where its own library is missing
from xaicompare.registry import METRICS

# isort: split
try:
    import quantus
except ImportError:
    quantus = None
try:
    from pytorch_grad_cam.metrics.road import ROADCombined, ROADMostRelevantFirstAverage
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
except ImportError:
    ROADCombined = None

Call = Callable[[], object]

NAMES = (
    *("confidence_removal", "deletion", "insertion", "pixel_flipping", "road", "aopc", "selectivity", "irof"),
    *("sufficiency", "infidelity", "faithfulness_correlation", "sensitivity_n"),
)
TENTHS = [step / 10 for step in range(1, 10)]
ROUNDS = 3  # at least; more where `--seconds` allows


@dataclass(frozen=True, eq=False)
class Case:
    """A network, maps of its images, and how often metrics with samples draw."""

    name: str
    model: nn.Module
    made: xc.Attribution
    samples: dict[str, dict[str, int]]

    def metric(self, name: str) -> xc.Metric:
        """Ours, with default settings but for the numbers of draws."""
        return METRICS.build(name, **self.samples.get(name, {}))

    def passes(self, call: Call) -> int:
        """The images that pass meanwhile."""
        seen: list[int] = []
        handle = self.model.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
        call()
        handle.remove()
        return sum(seen)

    def forwards(self, count: int, size: int) -> None:
        """The floor: so many images, at most `size` at once."""
        images = self.made.inputs
        batch = images.repeat(-(-size // len(images)), 1, 1, 1)[:size].contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            for start in range(0, count, size):
                self.model(batch[: count - start])

    def best_size(self) -> int:
        """The batch size with the least time per image: the least of five calls for each."""
        large = self.made.inputs.shape[-1] > 64
        sizes = (1, 2, 4, 8, 16) if large else (16, 32, 64, 128, 256, 512)
        times = {
            size: min(timed(lambda: self.forwards(size, size)) for _ in range(5)) / size  # noqa: B023
            for size in sizes
        }
        return min(times, key=times.__getitem__)


def cases(chosen: list[str]) -> Iterator[Case]:
    """A small network, where the making of images shows, and one of the usual size."""
    draws = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    if "small" in chosen:
        model = xc.build_model("small_cnn", 10, 1).eval()
        inputs = torch.rand(64, 1, 32, 32, generator=draws)
        made = xc.attribute(model, inputs, method="input_x_gradient")
        yield Case("small_cnn, 64 images of 1 x 32 x 32", model, made, {})
    if "vgg16" in chosen:
        model = xc.build_model("vgg16", 1000, 3).eval()
        inputs = torch.randn(2, 3, 224, 224, generator=draws)
        made = xc.attribute(model, inputs, method="input_x_gradient")
        few = {"infidelity": {"n_samples": 20}, "faithfulness_correlation": {"n_subsets": 20}}
        few["sensitivity_n"] = {"n_subsets": 3}
        yield Case("vgg16, 2 images of 3 x 224 x 224", model, made, few)


def quantus_call(case: Case, name: str, **settings: object) -> Call:
    """Quantus's metric on the whole batch; quiet, as ours is."""
    made = case.made
    arrays = (made.inputs.numpy(), made.target.numpy(), made.map[:, None].numpy())

    def call() -> object:
        quiet = {"normalise": False, "return_aggregate": False, "disable_warnings": True}
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return getattr(quantus, name)(**quiet, **settings)(case.model, *arrays, channel_first=True)

    return call


def grad_cam_call(case: Case, metric: Callable[..., object]) -> Call:
    """A metric of pytorch-grad-cam, of the softmax probability, on maps scaled to 0 to 1 as it wants them."""
    low, high = (bound(case.made.map, dim=(1, 2), keepdim=True) for bound in (torch.amin, torch.amax))
    maps = ((case.made.map - low) / (high - low)).numpy()
    targets = [ClassifierOutputSoftmaxTarget(int(target)) for target in case.made.target]
    return lambda: metric([int(100 * share) for share in TENTHS])(case.made.inputs, maps, targets, case.model)


def peers(case: Case) -> Iterator[tuple[str, str, dict[str, object], Call]]:
    """Whose, our metric, our settings, and the peer's call with the same work."""
    grey, side = case.made.inputs.shape[1] == 1, case.made.inputs.shape[-1]
    if quantus is not None:
        patches, pixels = (side // 8) ** 2, side * side
        steps = tuple(step / 16 for step in range(1, 17))
        if grey:  # Quantus fails on colour images
            yield (
                "Quantus",
                "road",
                {"order": "most", "of": "accuracy"},
                quantus_call(case, "ROAD", percentages=[int(100 * share) for share in TENTHS]),
            )
        flipping = quantus_call(case, "PixelFlipping", features_in_step=case.made.inputs[0].numel() // 16)
        yield "Quantus", "pixel_flipping", {"order": "most", "shares": steps}, flipping
        selectivity = {"n_features": patches, "shares": tuple(step / patches for step in range(1, patches + 1))}
        yield "Quantus", "selectivity", selectivity, quantus_call(case, "Selectivity", patch_size=8)
        blocks = (side // 4) ** 2 + (side // 8) ** 2  # of one draw
        draws = 1 if side > 64 else 4
        infidelity = quantus_call(case, "Infidelity", n_perturb_samples=draws, perturb_patch_sizes=[4, 8])
        yield "Quantus", "infidelity", {"n_samples": draws * blocks}, infidelity
        # With one number of draws, as a user would set it: for each of ours Quantus passes every block of the image.
        yield "Quantus", "infidelity", {"perturbation": "square", "n_samples": draws}, infidelity
        if grey:
            runs = {"nr_runs": 100, "subset_size": pixels // 10}
            yield "Quantus", "faithfulness_correlation", {}, quantus_call(case, "FaithfulnessCorrelation", **runs)
    if ROADCombined is not None:
        yield "pytorch-grad-cam", "road", {}, grad_cam_call(case, ROADCombined)
        yield "pytorch-grad-cam", "road", {"order": "most"}, grad_cam_call(case, ROADMostRelevantFirstAverage)


def main() -> None:
    """Prints two tables for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", choices=["small", "vgg16"], default=["small", "vgg16"])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each line")
    parser.add_argument("--no-peers", action="store_true")
    given = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for case in cases(given.network):
        floors(case, given.only, given.seconds)
        if not given.no_peers:
            against_peers(case, given.only, given.seconds)


def floors(case: Case, names: tuple[str, ...], seconds: float) -> None:
    """Ours over the passes alone."""
    size = case.best_size()
    print(f"\n{case.name}; passes alone in batches of {size}\n")
    print("| metric | passes per image | ours / passes | ours, ms |\n|---|---|---|---|")
    for name in names:
        metric = case.metric(name)
        ours = lambda: metric(case.model, case.made)  # noqa: B023, E731
        count = case.passes(ours)
        ratio = interleaved(ours, lambda: case.forwards(count, size), seconds=seconds, rounds=ROUNDS)  # noqa: B023
        print(f"| {name} | {count / len(case.made):.0f} | {ratio} | {ratio.seconds_a * 1e3:.0f} |", flush=True)


def against_peers(case: Case, names: tuple[str, ...], seconds: float) -> None:
    """Peers over ours."""
    print(f"\n{case.name}\n\n| metric | peer | peer / ours | peer's passes | our passes |\n|---|---|---|---|---|")
    for whose, name, settings, theirs in peers(case):
        if name not in names:
            continue
        metric = METRICS.build(name, **settings)
        ours = lambda: metric(case.model, case.made)  # noqa: B023, E731
        counts = [case.passes(call) / len(case.made) for call in (theirs, ours)]
        ratio = interleaved(theirs, ours, seconds=seconds, rounds=ROUNDS)
        label = metric.label() if len(metric.label()) < 60 else metric.name
        print(f"| {label} | {whose} | {ratio} | {counts[0]:.0f} | {counts[1]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
