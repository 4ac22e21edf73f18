"""Live pages in a browser on this machine: see, draw, remove [only home of starlette and uvicorn].

A page asks, in JSON, about the image that it holds; the answer is computed by the same functions as in Python, and
nothing that was handed in is kept. Browsers without a network show it whole: no font, script or picture is elsewhere.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

from xaicompare.errors import XaiCompareError

__all__ = ["Explorer", "explore"]


def __getattr__(name: str) -> Any:
    """Imports the server when it is first used: it is an extra."""
    if name not in __all__:
        raise AttributeError(f"module 'xaicompare.explore' has no attribute {name!r}; it has {', '.join(__all__)}")
    try:
        return getattr(importlib.import_module("xaicompare.explore.live"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise XaiCompareError(
            f"explore needs {error.name}, which is not installed; expected the extra. "
            "Run: pip install 'xaicompare-torch[explore]'"
        ) from error


class _Room(ModuleType):
    """This package, which can be called: it shares its name with the verb, `xaicompare.explore(model, images)`."""

    def __call__(self, *given: Any, **options: Any) -> Any:
        return __getattr__("explore")(*given, **options)


sys.modules[__name__].__class__ = _Room
