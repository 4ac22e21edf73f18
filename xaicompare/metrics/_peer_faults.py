"""Where Quantus 0.6 stops on what it should take, and what it is given so that it computes what it means to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

Options = dict[str, Any]
"""The arguments of one of Quantus's classes."""


def mended(title: str, options: Options, values: np.ndarray, channels: int) -> tuple[Options, np.ndarray]:
    """The arguments, and the map (1, 1, h, w), as this metric of Quantus takes them for so many channels."""
    if channels > 1 and title == "ROAD":
        return _road(options, values, channels)
    if channels > 1 and title == "IROF":
        return options | {"perturb_func": _broadcasting(options["perturb_func"])}, values
    return options, values


def _road(options: Options, values: np.ndarray, channels: int) -> tuple[Options, np.ndarray]:
    """It ranks the values of all channels but removes positions: those of all but one come last, never reached."""
    values = np.abs(values) if options["abs"] else values
    others = np.full_like(values, values.min() - 1).repeat(channels - 1, axis=1)
    percentages = options["percentages"] or range(1, 100, 2)  # of all channels' values; the default is Quantus's own
    shares = [percentage / channels * (1 + 1e-9) for percentage in percentages]  # it rounds down
    made = options | {"percentages": shares, "abs": False, "normalise": False}
    return made, np.concatenate([values, others], axis=1)


def _broadcasting(perturb: Callable[..., np.ndarray] | None) -> Callable[..., np.ndarray]:
    """Its masks have one channel, and its replacement wants one mask for each."""
    from quantus.functions.perturb_func import baseline_replacement_by_mask

    chosen = baseline_replacement_by_mask if perturb is None else perturb

    def replaced(arr: np.ndarray, mask: np.ndarray, **settings: Any) -> np.ndarray:
        return chosen(arr=arr, mask=np.broadcast_to(mask, arr.shape), **settings)

    return replaced


@contextmanager
def old_numpy() -> Iterator[None]:
    """numpy.trapz, which Quantus calls and numpy 2.4 no longer has."""
    if hasattr(np, "trapz"):
        yield
        return
    np.trapz = np.trapezoid  # type: ignore[attr-defined]  # noqa: NPY201 (the name that Quantus calls)
    try:
        yield
    finally:
        del np.trapz  # type: ignore[attr-defined]  # noqa: NPY201
