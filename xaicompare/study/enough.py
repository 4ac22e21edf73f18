"""Whether a study's images can tell its methods apart at all, said before any of them is explained."""

from collections.abc import Mapping
from math import comb

from xaicompare.metrics import ConfidenceRemoval
from xaicompare.stats import least_images, too_small
from xaicompare.study.spec import Study


def too_few(study: Study) -> list[str]:
    """What images of the study are too few to tell apart, a sentence each; nothing where there are enough.

    See `xaicompare.stats.too_small`; and so few images may be asked for by a single metric or method alone. All pairs
    of methods count, controls included, as they do in `tests.csv`; which can't explain the model is not known yet.
    """
    methods = len(study.methods)
    if small := too_small(study.images, methods):
        return [small]
    if methods < 2:
        return []
    pairs = comb(methods, 2)
    least = least_images(pairs)
    by_metric = {_measured(study, label): images for label, images in study.metric_images.items()}
    said = []
    if few := _fewer(by_metric, least):
        said.append(f"No methods can be told apart by {few}: tests of {pairs} pairs need at least {least}.")
    if few := _fewer(study.method_images, least):
        said.append(f"Not to be told from any other: {few}; tests of {pairs} pairs need at least {least}.")
    return said


def _measured(study: Study, label: str) -> str:
    return "confidence_gain" if isinstance(study.metrics[label], ConfidenceRemoval) else label


def _fewer(images: Mapping[str, int], least: int) -> str:
    return ", ".join(f"{label} ({_count(n)})" for label, n in images.items() if n < least)


def _count(images: int) -> str:
    return f"{images} image{'' if images == 1 else 's'}"
