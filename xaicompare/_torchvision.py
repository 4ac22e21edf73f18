"""Lets torchvision be imported beside a CPU-only torch.

PyPI's torchvision is built for CUDA; beside a CPU-only torch its compiled operators are missing, and the import fails
on declaring their shapes: "operator torchvision::nms does not exist". Nothing here uses those operators, so it is
enough to declare them. This happens while torchvision is imported, by whomever and whenever, once xaicompare is
imported: neither torchvision nor torch is imported here. Where the operators are there, nothing is touched.
"""

import sys
from importlib.abc import MetaPathFinder

_MISSING = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
# The modules of torchvision that name the operators; it has loaded its compiled ones before it imports these.
_NAMING = ("torchvision._autograd_registrations", "torchvision._meta_registrations")


class _Declaring(MetaPathFinder):
    """Finds no module; declares the missing operators before the first module that names them is looked for."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname in _NAMING and "torchvision.extension" in sys.modules:
            _declare_missing_operators()


def _declare_missing_operators() -> None:
    import torch

    if not hasattr(torch.ops.torchvision, "nms"):
        for name, signature in _MISSING.items():
            if not hasattr(torch.ops.torchvision, name):
                torch.library.define(f"torchvision::{name}", signature)


sys.meta_path.insert(0, _Declaring())
