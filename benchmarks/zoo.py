"""Every method on every architecture: right, not defined there, or refused by name. Writes docs/zoo.md.

    python benchmarks/zoo.py [--out docs/zoo.md] [--nets NAME ...] [--jobs 2]

Networks have seeded random weights and randomised BatchNorm statistics, and take small images. "Right" means, per
method: equal to autograd (saliency, input_x_gradient), to a forward pass whose every rectifier is exchanged beneath the
model's code (deconvnet, guided_backprop, guided_gradcam), complete to 1e-3 (deeplift, deepshap) or to the status "ok"
(integrated_gradients, kernelshap), conserving with the share of biases to 1e-3 (lrp), finite and moving with the input
(the others, which read outputs or gradients alone). "n/a" is a method that such a network has no place for, by its
`traits.needs`: attention methods without attention, CAM without global pooling.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from zoo_nets import NETS, images, net

import xaicompare as xc
import xaicompare.methods
from xaicompare.errors import IncompleteError
from xaicompare.registry import METHODS

SETTINGS: dict[str, dict[str, Any]] = {
    "smoothgrad": {"n_samples": 2},
    "integrated_gradients": {"n_steps": 200, "baseline": 0.5},  # at 0, ConvNeXt's LayerNorm has an infinite slope
    "gradient_shap": {"n_samples": 2},
    "lime": {"n_samples": 40, "segments": "grid", "n_segments": 4, "alpha": 1e-6},
    "kernelshap": {"n_samples": 20, "segments": "grid", "n_segments": 4},
}
N_STEPS = dict.fromkeys(("swin_t", "swin_v2_t", "convnext_base", "maxvit_t"), 64)
N_STEPS |= dict.fromkeys(("mnasnet0_5", "mobilenet_v3_large", "timm:tf_efficientnet_lite0"), 1000)
N_STEPS |= {"mobilenet_v2": 4000, "efficientnet_v2_s": 1000}
"""Of integrated gradients, where 200 are too few, or more than it takes."""

EMPTIED = ("gradcam", "guided_gradcam", "gradcam_plus_plus", "layercam", "xgradcam", "scorecam", "ablationcam")
"""Their last step, ReLU, may leave nothing."""


def verdict(name: str, method: str) -> str:
    """ "right", "n/a", or why the method refuses the network.

    Raises:
        AssertionError: neither; a silent failure.
    """
    model, inputs = net(name), images(name)
    inputs = inputs[:1] if method == "scorecam" else inputs  # up to 2,048 passes
    steps = {"n_steps": N_STEPS[name]} if method == "integrated_gradients" and name in N_STEPS else {}
    asked = METHODS.build(method, **SETTINGS.get(method, {}) | steps)
    try:
        made = asked.attribute(model, inputs)
    except (xc.UnsupportedModelError, IncompleteError) as error:
        return "n/a" if asked.traits.needs and isinstance(error, xc.UnsupportedModelError) else str(error)
    assert made.values.isfinite().all(), "not finite"
    if made.values.abs().max() == 0 and method in EMPTIED:  # rightly so, where the layer does say something
        assert METHODS.build("hirescam").attribute(model, inputs).values.abs().max() > 0, "nothing but zeros"
        return "right"
    assert made.values.abs().max() > 0, "nothing but zeros"
    if made.status == "warn":
        return made.complaint
    assert made.status in (None, "ok"), made.complaint
    _PROOFS.get(method, lambda *_: None)(model, made)
    return "right"


def _gradient(model: nn.Module, made: xc.Attribution) -> Tensor:
    leaf = made.inputs.clone().requires_grad_()
    logits = getattr(returned := model(leaf), "logits", returned)
    score = logits.gather(1, made.target[:, None]).sum()
    return torch.autograd.grad(score, leaf)[0]


_RECTIFIERS = (
    *("relu", "relu_", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "silu", "silu_", "gelu", "mish"),
    *("hardswish", "softplus", "hardtanh"),
)


class _Positive(torch.autograd.Function):
    """The identity, through which only positive gradients go."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.clamp(min=0)


class _EveryRectifier(TorchFunctionMode):
    """Follows every rectifier, wherever it is called, by `_Positive`; a deconvnet's has the slope 1."""

    def __init__(self, guided: bool) -> None:
        super().__init__()
        self.guided = guided

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") not in _RECTIFIERS:
            return func(*args, **(kwargs or {}))
        x = args[0]
        y = func(x.clone(), *args[1:], **(kwargs or {}))
        made = _Positive.apply(y if self.guided else x + (y - x).detach())
        return x.copy_(made) if func.__name__.endswith("_") or (kwargs or {}).get("inplace") else made


def _changed(guided: bool) -> Callable[[nn.Module, xc.Attribution], Tensor]:
    def gradient(model: nn.Module, made: xc.Attribution) -> Tensor:
        with _EveryRectifier(guided):
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


_PROOFS: dict[str, Callable[[nn.Module, xc.Attribution], None]] = {
    "saliency": _equal(lambda model, made: _gradient(model, made).abs()),
    "input_x_gradient": _equal(lambda model, made: made.inputs * _gradient(model, made)),
    "guided_backprop": _equal(_changed(guided=True)),
    "deconvnet": _equal(_changed(guided=False)),
    "guided_gradcam": _equal(_guided_gradcam),
    "gradcam": _gradcam,
    "deeplift": _conserves,
    "deepshap": _conserves,
    "lrp": _conserves,
}


def verdicts(name: str) -> list[str]:
    """What each method says of an architecture, in one thread; silent failures begin with WRONG."""
    torch.set_num_threads(1)
    begun, said = time.perf_counter(), []
    for method in METHODS.names():
        try:
            said.append(verdict(name, method))
        except (AssertionError, xc.XaiCompareError) as error:
            said.append(f"WRONG: {error}")
            print(f"{name} {method}: {said[-1]}", file=sys.stderr)
    net.cache_clear()
    print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)
    return said


def main() -> int:
    """Writes the matrix; the exit status counts silent failures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/zoo.md"))
    parser.add_argument("--nets", nargs="+", default=NETS, choices=NETS, metavar="NAME")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes, of one thread each")
    asked = parser.parse_args()
    found = joblib.Parallel(asked.jobs)(joblib.delayed(verdicts)(name) for name in asked.nets)
    said = (read(asked.out) if set(asked.nets) != set(NETS) else {}) | dict(zip(asked.nets, found, strict=True))
    asked.out.write_text(page({name: said[name] for name in NETS if name in said}), encoding="utf-8")
    return sum(each.startswith("WRONG") for verdicts in said.values() for each in verdicts)


def page(said: dict[str, list[str]]) -> str:
    """The table, and the reasons of refusals below it."""
    reasons, rows, signs = dict[str, int](), list[str](), {"right": "✓", "n/a": "n/a"}
    for name, verdicts in said.items():
        cells = [signs.get(each) or f"[{reasons.setdefault(each, len(reasons) + 1)}]" for each in verdicts]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    names = METHODS.names()
    head = ["# Which method is right on which architecture", "", _WHAT, ""]
    head += [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    refused = ["", "Refused, in the words of the error:", "", *(f"{n}. {text}" for text, n in reasons.items())]
    return "\n".join([*head, *rows, *(refused if reasons else ())]) + "\n"


def read(file: Path) -> dict[str, list[str]]:
    """What such a page says: the verdicts of each network, in the order of the methods."""
    if not file.exists():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines()
    texts = {f"[{n}]": text for n, _, text in (line.partition(". ") for line in lines) if n.isdigit()}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    if not rows or rows[0][1:] != METHODS.names():
        return {}
    return {name: [texts.get(cell, "right" if cell == "✓" else cell) for cell in cells] for name, *cells in rows[1:]}


_WHAT = """Written by `make zoo`. Nothing but these three happens.

- ✓: right. `benchmarks/zoo.py` says how each method is checked.
- n/a: not defined there, such as attention methods on a network without attention, or CAM without global pooling.
- a number: refused, with the error below.

`timm:` and `hf:` are models of the packages timm and transformers; all have seeded random weights and small images."""

if __name__ == "__main__":
    sys.exit(main())
