"""What LRP costs: our engine against Zennit, Captum's LRP, and the floor: a forward pass and the input's gradient.

    python benchmarks/speed/lrp.py [--batch 1 8] [--device cpu] [--dtype float32] [--peers] [--size 224]

VGG-16 with seeded random weights. Every line is A B A B in one process, medians of ratios. All sides start from the
predicted class's logit and return relevance of the pixels; ours finds, besides, what biases absorbed. Before timing,
our values are compared with Zennit's. Captum's LRP knows one rule for all layers and is timed with epsilon alone.
Peak memory is what is allocated beyond the model, on a CPU from a second, untimed run under a profiler of allocations.
"""

import argparse
from collections.abc import Callable

import torch
from _timing import interleaved, peak
from torch import Tensor, nn

import xaicompare as xc
import xaicompare.methods  # first: it makes torchvision importable where its own library is missing

# isort: split
import captum.attr
import zennit.attribution
import zennit.composites
import zennit.rules

LOW, HIGH = -2.2, 2.7
OURS = ("epsilon", "epsilon-plus-flat", "epsilon-gamma-box", "epsilon-alpha2-beta1")


def zennits(name: str) -> zennit.core.Composite:
    """Zennit's composite of the same definition."""
    shape = (1, 3, 1, 1)
    low, high = torch.full(shape, LOW), torch.full(shape, HIGH)
    return {
        "epsilon": lambda: zennit.composites.LayerMapComposite(
            layer_map=[
                (zennit.types.Activation, zennit.rules.Pass()),
                (zennit.types.AvgPool, zennit.rules.Norm()),
                (zennit.types.Linear, zennit.rules.Epsilon(epsilon=1e-6)),
            ]
        ),
        "epsilon-plus-flat": zennit.composites.EpsilonPlusFlat,
        "epsilon-gamma-box": lambda: zennit.composites.EpsilonGammaBox(low=low, high=high, gamma=0.25),
        "epsilon-alpha2-beta1": zennit.composites.EpsilonAlpha2Beta1,
    }[name]()


def gradient(model: nn.Module, inputs: Tensor) -> Tensor:
    """The floor: forward, and the gradient of the predicted class's logit."""
    leaf = inputs.clone().requires_grad_()
    return torch.autograd.grad(model(leaf).amax(1).sum(), leaf)[0]


def ours(model: nn.Module, inputs: Tensor, name: str) -> Tensor:
    """The engine itself, without the checks around it."""
    return xc.relevance(model, inputs, None, name, layers=(), **_numbers(name)).values


def _numbers(name: str) -> dict[str, float]:
    return {"low": LOW, "high": HIGH} if name == "epsilon-gamma-box" else {}


def by_zennit(model: nn.Module, inputs: Tensor, name: str) -> Tensor:
    """The same by Zennit."""

    def start(logits: Tensor) -> Tensor:
        return torch.zeros_like(logits).scatter(1, logits.argmax(1, keepdim=True), logits.amax(1, keepdim=True))

    with zennit.attribution.Gradient(model, zennits(name)) as attributor:
        return attributor(inputs, start)[1]


def by_captum(model: nn.Module, inputs: Tensor) -> Tensor:
    """Captum's LRP, epsilon at every layer."""
    with torch.no_grad():
        target = model(inputs).argmax(1)
    return captum.attr.LRP(model).attribute(inputs, target)


def main() -> None:
    """Prints a table for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--peers", action="store_true", help="Zennit and Captum, too")
    parser.add_argument("--composite", nargs="+", choices=OURS, default=OURS)
    given = parser.parse_args()
    torch.manual_seed(0)
    model = xc.build_model("vgg16", 1000, 3).to(given.device, getattr(torch, given.dtype)).eval()
    for module in model.modules():  # in place, Captum's and Zennit's hooks fail
        if isinstance(module, nn.ReLU):
            module.inplace = False
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {given.device} {given.dtype}, VGG-16")
    for batch in given.batch:
        inputs = (
            torch.randn(batch, 3, given.size, given.size)
            .clamp(LOW, HIGH)
            .to(given.device, next(model.parameters()).dtype)
        )
        _table(model, inputs, given)


def _table(model: nn.Module, inputs: Tensor, given: argparse.Namespace) -> None:
    def done(call: Callable[[], object]) -> Callable[[], object]:
        def waited() -> None:
            call()
            if given.device != "cpu":
                torch.cuda.synchronize()

        return waited

    def floor() -> Tensor:
        return gradient(model, inputs)

    memory = peak(floor, given.device)
    print(f"\nbatch {len(inputs)}; forward + gradient: {memory:.0f} MiB at most")
    print(f"{'composite':<24}{'ours / gradient':<24}{'peak / gradient':<18}{'Zennit / ours':<24}Captum / ours")
    for name in given.composite:
        line = f"{name:<24}{interleaved(done(lambda: ours(model, inputs, name)), done(floor))!s:<24}"  # noqa: B023
        line += f"{peak(lambda: ours(model, inputs, name), given.device) / memory:<18.2f}"  # noqa: B023
        if given.peers:
            torch.testing.assert_close(ours(model, inputs, name), by_zennit(model, inputs, name), rtol=1e-2, atol=1e-4)
            both = interleaved(done(lambda: by_zennit(model, inputs, name)), done(lambda: ours(model, inputs, name)))  # noqa: B023
            line += f"{both!s:<24}"
            if name == "epsilon":
                other = interleaved(done(lambda: by_captum(model, inputs)), done(lambda: ours(model, inputs, name)))  # noqa: B023
                line += f"{other!s}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
