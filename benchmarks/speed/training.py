"""What other ways to train cost: a step with scaling, feedback or an explanation in its loss, against a plain one.

    python benchmarks/speed/training.py [--batch 64] [--cells scaled-mlp lfp-lenet ...] [--seconds 10]

Every line is A B A B in one process, medians of ratios of CPU time, with Adam; a step is zero_grad, forward, loss,
backward and optimizer step, with the same images on both sides.
"""

import argparse
import time
from collections.abc import Callable

import torch
from _timing import interleaved
from torch import nn

import xaicompare as xc
from xaicompare.training.lesson import Batch, Lesson
from xaicompare.training.right_reasons import RightReasons


def scaled(model: nn.Module) -> Lesson:
    """Relevance-scaled steps, all layers."""
    guidance = xc.RelevanceGuidance(model, 0.0, layers="all")
    return Lesson(guidance, wrapped=lambda optimizer: xc.RelevanceScaled(optimizer, guidance))


def lfp(model: nn.Module) -> Lesson:
    """LFP-epsilon."""
    return Lesson.plain(xc.FeedbackPropagation(model))


def right_reasons(model: nn.Module) -> Lesson:
    """Input gradients outside a mask in the loss."""
    mask = torch.zeros(4096, 32, 32, dtype=torch.bool)
    mask[:, 8:16, 8:16] = True
    return RightReasons(weight=1.0).lesson(model, lambda places: mask[places])


WAYS: dict[str, Callable[[nn.Module], Lesson]] = {"scaled": scaled, "lfp": lfp, "right_reasons": right_reasons}
NETWORKS = {"mlp": 1, "lenet": 1, "cnn": 3}
CELLS = [f"{way}-{network}" for way in WAYS for network in NETWORKS]


def step(network: str, way: Callable[[nn.Module], Lesson], batch: int) -> Callable[[], None]:
    """One training step of a fresh network on one batch."""
    channels = NETWORKS[network]
    model = xc.build_model(network, 10, channels).train().to(memory_format=torch.channels_last)
    draws = torch.Generator().manual_seed(1)
    inputs = torch.randn(batch, channels, 32, 32, generator=draws).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,), generator=draws)
    lesson = way(model)
    optimizer = lesson.wrapped(torch.optim.Adam(model.parameters(), fused=True))

    def steps() -> None:
        optimizer.zero_grad()
        lesson.loss(lesson.logits(inputs, labels), Batch(inputs, labels, torch.arange(batch))).backward()
        optimizer.step()

    return steps


def main() -> None:
    """Prints a line for each cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--cells", nargs="+", default=CELLS, choices=CELLS)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each cell")
    given = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {given.batch}")
    print(f"{'cell':<22}{'its step / a plain one':<24}{'plain, CPU ms':>14}")
    for cell in given.cells:
        way, network = cell.rsplit("-", 1)
        plain = step(network, Lesson.plain, given.batch)
        ratio = interleaved(
            step(network, WAYS[way], given.batch), plain, seconds=given.seconds, clock=time.process_time
        )
        print(f"{cell:<22}{ratio!s:<24}{ratio.seconds_b * 1e3:>14.2f}", flush=True)


if __name__ == "__main__":
    main()
