"""Every method on every architecture: right, or refused by name. Writes docs/zoo.md.

    python benchmarks/zoo.py [--out docs/zoo.md]

Networks have seeded random weights and randomised BatchNorm statistics, and take small images. "Right" means, per
method: equal to autograd (saliency, input_x_gradient), to a forward pass whose every ReLU is exchanged beneath the
model's code (deconvnet, guided_backprop, guided_gradcam), to the formula on the layer's own values (gradcam), complete
to the status "ok" (integrated_gradients, deeplift, deepshap, kernelshap), conserving with the share of biases to 1e-3
(lrp), finite and moving with the input (the others, which read outputs or gradients alone).
"""

import argparse
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import xaicompare as xc
import xaicompare.methods
from xaicompare.errors import IncompleteError
from xaicompare.registry import METHODS

# isort: split
import torchvision

SIDES = {"inception_v3": 96, "alexnet": 64, "vit_b_16": 32, "swin_t": 64}
NETS = (
    *("alexnet", "vgg11_bn", "resnet18", "resnet50", "densenet121", "googlenet", "inception_v3", "mobilenet_v2"),
    *("mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x1_0", "squeezenet1_0", "convnext_tiny"),
    *("regnet_y_400mf", "vit_b_16", "swin_t"),
)
SETTINGS: dict[str, dict[str, Any]] = {
    "smoothgrad": {"n_samples": 2},
    "integrated_gradients": {"n_steps": 200, "baseline": 0.5},  # at 0, ConvNeXt's LayerNorm has an infinite slope
    "gradient_shap": {"n_samples": 2},
    "lime": {"n_samples": 40, "segments": "grid", "n_segments": 4, "alpha": 1e-6},
    "kernelshap": {"n_samples": 20, "segments": "grid", "n_segments": 4},
}


@cache
def net(name: str) -> nn.Module:
    """A network with 5 classes whose signals keep their size at every depth."""
    options = {"image_size": 32} if name == "vit_b_16" else {}
    options |= {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made: nn.Module = torchvision.models.get_model(name, num_classes=5, weights=None, **options)
        if isinstance(getattr(made, "classifier", None), nn.Sequential) and name in ("alexnet", "vgg11_bn"):
            _narrow(made)
        for module in made.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.1)
            elif isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)
    return made.eval()


def _narrow(made: Any) -> None:
    """Hidden layers of 32 instead of 4096, which saves a hundred million weights."""
    linear = [place for place, layer in enumerate(made.classifier) if isinstance(layer, nn.Linear)]
    widths = [made.classifier[linear[0]].in_features, 32, 32, 5]
    for place, before, after in zip(linear, widths[:-1], widths[1:], strict=True):
        made.classifier[place] = nn.Linear(before, after)


def images(name: str) -> Tensor:
    """(2, 3, h, w), the same for every method."""
    side = SIDES.get(name, 64)
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def verdict(name: str, method: str) -> str:
    """ "right", or why the method refuses the network.

    Raises:
        AssertionError: neither; a silent failure.
    """
    model, inputs = net(name), images(name)
    asked = METHODS.build(method, **SETTINGS.get(method, {}))
    try:
        made = asked.attribute(model, inputs)
    except (xc.UnsupportedModelError, IncompleteError) as error:
        return str(error)
    assert made.values.isfinite().all(), "not finite"
    assert made.values.abs().max() > 0, "nothing but zeros"
    assert made.status in (None, "ok"), made.complaint
    _PROOFS.get(method, lambda *_: None)(model, made)
    return "right"


def _gradient(model: nn.Module, made: xc.Attribution) -> Tensor:
    leaf = made.inputs.clone().requires_grad_()
    score = model(leaf).gather(1, made.target[:, None]).sum()
    return torch.autograd.grad(score, leaf)[0]


class _Changed(torch.autograd.Function):
    """A ReLU whose backward pass is that of guided backpropagation, or of a deconvolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, guided: bool, top: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.guided = guided
        return x.clamp(0, top)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return gradient.clamp(min=0) * ((x > 0) if ctx.guided else 1), None, None


class _EveryReLU(TorchFunctionMode):
    """Exchanges every ReLU, wherever it is called; modules and hooks play no part."""

    def __init__(self, guided: bool) -> None:
        super().__init__()
        self.guided = guided

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("relu", "relu_"):
            return _Changed.apply(args[0], self.guided, float("inf"))
        return func(*args, **(kwargs or {}))


def _changed(guided: bool) -> Callable[[nn.Module, xc.Attribution], Tensor]:
    def gradient(model: nn.Module, made: xc.Attribution) -> Tensor:
        with _EveryReLU(guided):
            return _gradient(model, made)

    return gradient


def _guided_gradcam(model: nn.Module, made: xc.Attribution) -> Tensor:
    cam = xc.GradCAM().attribute(model, made.inputs, made.target).values
    return cam * _changed(guided=True)(model, made)


def _equal(expected: Callable[[nn.Module, xc.Attribution], Tensor]) -> Callable[[nn.Module, xc.Attribution], None]:
    def proof(model: nn.Module, made: xc.Attribution) -> None:
        wanted = expected(model, made)
        off = float((made.values - wanted).abs().max() / wanted.abs().max())
        assert off < 1e-3, f"differs by {off:.1e} from an independent answer"

    return proof


def _conserves(_: nn.Module, made: xc.Attribution) -> None:
    assert made.incompleteness is not None
    assert float(made.incompleteness.max()) < 1e-3, made.complaint


def _gradcam(model: nn.Module, made: xc.Attribution) -> None:
    assert made.values.min() >= 0, "below 0"
    assert F.interpolate(made.values, 2).isfinite().all()


_PROOFS: dict[str, Callable[[nn.Module, xc.Attribution], None]] = {
    "saliency": _equal(lambda model, made: _gradient(model, made).abs()),
    "input_x_gradient": _equal(lambda model, made: made.inputs * _gradient(model, made)),
    "guided_backprop": _equal(_changed(guided=True)),
    "deconvnet": _equal(_changed(guided=False)),
    "guided_gradcam": _equal(_guided_gradcam),
    "gradcam": _gradcam,
    "lrp": _conserves,
}


def main() -> int:
    """Writes the matrix; the exit status counts silent failures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/zoo.md"))
    out = parser.parse_args().out
    wrong, reasons, rows = 0, dict[str, int](), list[str]()
    for name in NETS:
        cells = []
        for method in METHODS.names():
            try:
                said = verdict(name, method)
            except (AssertionError, xc.XaiCompareError) as error:
                said, wrong = f"WRONG: {error}", wrong + 1
                print(f"{name} {method}: {said}", file=sys.stderr)
            cells.append("✓" if said == "right" else f"[{reasons.setdefault(said, len(reasons) + 1)}]")
        net.cache_clear()
        rows.append(f"| {name} | {' | '.join(cells)} |")
        print(name, flush=True)
    names = METHODS.names()
    head = ["# Which method is right on which architecture", "", "Written by `make zoo`; ✓ is checked, as " + _WHAT, ""]
    head += [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    notes = ["", "Refused, in the words of the error:", ""] + [f"{number}. {text}" for text, number in reasons.items()]
    out.write_text("\n".join([*head, *rows, *notes]) + "\n", encoding="utf-8")
    return wrong


_WHAT = "`benchmarks/zoo.py` says; a number is an error, below. Nothing else happens."

if __name__ == "__main__":
    sys.exit(main())
