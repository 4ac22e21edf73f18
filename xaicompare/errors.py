"""Every error that xaicompare raises on purpose, and the words it uses for unknown names."""

from collections.abc import Iterable
from difflib import get_close_matches


class XaiCompareError(ValueError):
    """Something that was given can't be used; the message names it and says what to do."""


class UnknownNameError(XaiCompareError):
    """A method, metric, model, data set, layer or setting that does not exist."""


class SettingError(XaiCompareError):
    """A setting whose value is out of range or of the wrong type."""


class InputError(XaiCompareError):
    """Inputs, targets or baselines that don't fit the model or the method."""


class UnsupportedModelError(XaiCompareError):
    """A model on which a method has no right answer."""


class LibraryError(UnsupportedModelError):
    """What a library underneath raised while it explained or judged; no refusal of ours, and it may pass."""


class IncompleteError(XaiCompareError):
    """Values that don't sum to what their method promises."""


class DivergedError(XaiCompareError):
    """A training whose numbers are no longer finite."""


class DataError(XaiCompareError):
    """Data or weights that are not where they should be, or can't be read."""


class StudyError(XaiCompareError):
    """A study file that does not say a valid study."""


def unknown(noun: str, given: object, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not among the known ones, with the nearest ones first.

    >>> print(unknown("method", "grad-cam", ["lime", "gradcam"]))
    unknown method 'grad-cam'; did you mean 'gradcam'? Known: gradcam, lime
    """
    names = sorted(known)
    near = get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UnknownNameError(f"unknown {noun} {given!r}; {hint}Known: {', '.join(names) or 'none'}")
