"""What guidance costs: a guided training step against a plain one, time and peak memory.

    python benchmarks/speed/guidance.py [--batch 64] [--device cpu] [--cells mlp cnn-linear cnn-whole]

The networks of the experiments, with Adam. Every line is A B A B in one process, medians of ratios; one step is
zero_grad, forward, loss, backward and optimizer step, with the same images on both sides. The floor counts
multiplications: a plain step makes three passes of them per layer, guidance adds one for every layer that relevance is
swept through. Peak memory is what a step allocates beyond model and optimizer, on a CPU from a second, untimed run
under a profiler of allocations.
"""

import argparse

import torch
from _timing import interleaved, peak
from torch import nn
from torch.nn.functional import cross_entropy

import xaicompare as xc

CELLS = {
    "mlp": ("mlp", 1, "linear"),
    "cnn-linear": ("cnn", 3, "linear"),
    "cnn-whole": ("cnn", 3, "all"),
}


class Step:
    """One training step of one network, plain or guided."""

    def __init__(self, model: nn.Module, called: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        self.called, self.inputs, self.labels = called, inputs, labels
        self.optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def __call__(self) -> None:
        """Trains on the one batch."""
        self.optimizer.zero_grad()
        cross_entropy(self.called(self.inputs), self.labels).backward()
        self.optimizer.step()
        if self.inputs.is_cuda:
            torch.cuda.synchronize()


def step(name: str, channels: int, layers: str | None, batch: int, device: str) -> Step:
    """A fresh network and its step; layers None: plain."""
    model = xc.build_model(name, 10, channels).train().to(device, memory_format=torch.channels_last)
    draws = torch.Generator().manual_seed(1)
    inputs = torch.randn(batch, channels, 32, 32, generator=draws).to(device, memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,), generator=draws).to(device)
    called = model if layers is None else xc.RelevanceGuidance(model, factor=0.1, layers=layers)
    return Step(model, called, inputs, labels)


def multiplications(model: nn.Module, inputs: torch.Tensor) -> dict[str, int]:
    """Per layer and sample, of the forward pass, from the input up."""
    counts: dict[str, int] = {}

    def count(name: str):
        def hook(module: nn.Module, _: object, output: torch.Tensor) -> None:
            counts[name] = output[0].numel() * module.weight[0].numel()

        return hook

    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    hooks = [layer.register_forward_hook(count(name)) for name, layer in layers]
    model(inputs[:1])
    for hook in hooks:
        hook.remove()
    return counts


def floor(model: nn.Module, inputs: torch.Tensor, lowest: str) -> float:
    """Multiplications of a guided step over those of a plain one."""
    counts = multiplications(model, inputs)
    names = list(counts)
    plain = 3 * sum(counts.values()) - counts[names[0]]  # the images need no gradient
    return 1 + sum(counts[name] for name in names[names.index(lowest) + 1 :]) / plain


def main() -> None:
    """Prints a line for each cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--seconds", type=float, default=20.0, help="for each cell")
    given = parser.parse_args()
    print(f"torch {torch.__version__}, {given.device}, {torch.get_num_threads()} threads, batch {given.batch}")
    print(f"{'cell':<12}{'floor':>7}  {'guided / plain':<24}{'plain, ms':>10}{'memory':>8}")
    for cell in given.cells:
        name, channels, layers = CELLS[cell]
        plain = step(name, channels, None, given.batch, given.device)
        guided = step(name, channels, layers, given.batch, given.device)
        ratio = interleaved(guided, plain, seconds=given.seconds)
        least = floor(plain.called, plain.inputs, guided.called.layers[0])
        memory = peak(guided, given.device) / peak(plain, given.device)
        print(f"{cell:<12}{least:>7.2f}  {ratio!s:<24}{ratio.seconds_b * 1e3:>10.1f}{memory:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
