"""What attention costs in training: a step of the CNN with the module against one of the plain CNN.

    python benchmarks/speed/attended.py [--batch 64] [--width 64] [--seconds 15]

Adam, channels last, the same images on both sides; A B A B in one process, medians of ratios with quartiles. The floor
counts multiplications of convolutions and matrices: what the scorer adds.
"""

import argparse

import torch
from _timing import interleaved
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

import xaicompare as xc

SIDES = {
    "attention, linear": {"scorer": "linear"},
    "attention, mlp": {"scorer": "mlp"},
    "control": {"scorer": "mlp", "middle": "control"},
}


class Step:
    """One training step of one network."""

    def __init__(self, batch: int, **settings: object) -> None:
        draws = torch.Generator().manual_seed(1)
        inputs = torch.randn(batch, 3, 32, 32, generator=draws)
        self.inputs = inputs.to(memory_format=torch.channels_last)
        self.labels = torch.randint(10, (batch,), generator=draws)
        model = xc.build_model("attended_cnn", 10, 3, **settings)
        self.model = model.train().to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.model.parameters())

    def __call__(self) -> None:
        """Trains on the one batch."""
        self.optimizer.zero_grad()
        cross_entropy(self.model(self.inputs), self.labels).backward()
        self.optimizer.step()

    def multiplications(self) -> int:
        """Of one step."""
        with FlopCounterMode(display=False) as counter:
            self()
        return counter.get_total_flops() // 2


def main() -> None:
    """Prints a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=15.0)
    given = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {given.batch}, width {given.width}")
    plain = Step(given.batch, width=given.width, middle="nothing")
    for name, settings in SIDES.items():
        other = Step(given.batch, width=given.width, **settings)
        floor = other.multiplications() / plain.multiplications()
        ratio = interleaved(other, plain, seconds=given.seconds)
        print(f"{name:20} floor {floor:.4f}  step / plain {ratio}  plain {1000 * ratio.seconds_b:.1f} ms", flush=True)


if __name__ == "__main__":
    main()
