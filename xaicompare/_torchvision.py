"""Lets torchvision be imported beside a CPU-only torch.

PyPI's torchvision is built for CUDA; beside a CPU-only torch its compiled operators are missing, and the import fails
on declaring their shapes: "operator torchvision::nms does not exist". Nothing here uses those operators, so it is
enough to declare them. Where the plain import works, nothing is touched. Zennit imports torchvision too, so whoever
imports either imports this module first.
"""

import torch

_MISSING = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _declare_missing_operators() -> None:
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        for name, signature in _MISSING.items():
            torch.library.define(f"torchvision::{name}", signature)
        import torchvision  # noqa: F401


_declare_missing_operators()
