"""What pruning saves: a network without half of its filters and neurons against the whole one.

    python benchmarks/speed/pruning.py [--share 0.5] [--batch 8] [--device cpu] [--cells vgg16 vgg16_cifar10]

Every line is A B A B in one process, medians of ratios, on the same images: forward passes in evaluation mode, and
training steps (zero_grad, forward, loss, backward, step of Adam). The floor counts multiplications of convolutions and
linear layers: where half of the filters go, a quarter is left of most layers, and half of the first, whose inputs stay.
Which filters go makes no difference to speed: they are drawn at random.
"""

import argparse

import torch
from _timing import interleaved
from guidance import Step, multiplications
from torch import nn

import xaicompare as xc

SIDES = {"vgg16": 224, "vgg16_cifar10": 32}


def forward(model: nn.Module, inputs: torch.Tensor) -> None:
    """One pass, its result awaited."""
    with torch.inference_mode():
        model(inputs)
    if inputs.is_cuda:
        torch.cuda.synchronize()


def size(model: nn.Module) -> int:
    """How many numbers a network holds."""
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    """Prints a line for each cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cells", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--steps", nargs="*", default=["vgg16_cifar10"], choices=list(SIDES), help="time training, too")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each line")
    given = parser.parse_args()
    print(f"torch {torch.__version__}, {given.device}, {torch.get_num_threads()} threads, batch {given.batch}")
    print(f"{'cell':<24}{'parameters':>12}{'floor':>8}  {'pruned / whole':<24}{'whole, ms':>10}")
    for name in given.cells:
        draws = torch.Generator().manual_seed(1)
        side = SIDES[name]
        inputs = torch.randn(given.batch, 3, side, side, generator=draws).to(given.device)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        labels = torch.randint(10, (given.batch,), generator=draws).to(given.device)
        whole = xc.build_model(name, 10, 3).to(given.device)
        small = xc.prune(whole, (inputs[:2], labels[:2]), given.share, "random")
        counts = [sum(multiplications(model, inputs).values()) for model in (small, whole)]
        for model in (whole, small):
            model.to(memory_format=torch.channels_last)
        parts = f"{size(small) / size(whole):>12.3f}{counts[0] / counts[1]:>8.3f}"
        ratio = interleaved(lambda: forward(small, inputs), lambda: forward(whole, inputs), seconds=given.seconds)  # noqa: B023
        print(f"{name + ', forward':<24}{parts}  {ratio!s:<24}{ratio.seconds_b * 1e3:>10.1f}", flush=True)
        if name in given.steps:
            a, b = (Step(model, model.train(), inputs, labels) for model in (small, whole))
            ratio = interleaved(a, b, seconds=given.seconds)
            print(f"{name + ', step':<24}{parts}  {ratio!s:<24}{ratio.seconds_b * 1e3:>10.1f}", flush=True)


if __name__ == "__main__":
    main()
