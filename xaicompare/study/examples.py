"""The images and maps that a study leaves to look at, small enough to stay beside its tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from xaicompare.boundary import probabilities
from xaicompare.core import Attribution
from xaicompare.errors import DataError, XaiCompareError
from xaicompare.files import replacing
from xaicompare.study.subject import part_of

if TYPE_CHECKING:
    from xaicompare.study.run import Outcome

_FILES = ("examples.json", "examples.safetensors")
_DRAWN = 256  # the longest side that pictures and maps are kept at, in pixels: 150 maps are to fit a page


class Told(NamedTuple):
    """What is known of one shown image."""

    image: int  # its number in the test part
    target: int  # the explained class
    label: int  # -1: unknown
    predicted: int
    probability: float | None = None  # of the explained class; folders of older versions don't have it


@dataclass(frozen=True)
class Shown:
    """What one method said of the shown images."""

    settings: str = ""  # the method's repr
    error: str = ""  # why there are no maps
    status: str | None = None  # the completeness of all its images, where it promises that
    scores: tuple[float, ...] = ()  # (n,) the explained outputs
    peaks: tuple[float, ...] = ()  # (n,) what the values of each map were divided by: their largest |value|
    missed: tuple[float, ...] | None = None  # (n,) incompleteness, as a share


@dataclass(frozen=True, eq=False)
class Examples:
    """The first images of a study, and the maps of every method."""

    classes: Sequence[str]
    told: Sequence[Told]
    pictures: Tensor  # (n, 1 or 3, h, w) uint8
    shown: Mapping[str, Shown]  # by the method's label
    maps: Mapping[str, Tensor]  # by label, (n, h, w) float16 from -1 to 1; none where there was an error

    @classmethod
    def of(cls, outcome: "Outcome") -> "Examples":
        """Those of a study that was carried out."""
        subject, n = outcome.subject, min(outcome.study.grid_images, outcome.study.images)
        chances = probabilities(subject.logits).gather(1, subject.target[:, None].to(subject.logits.device))[:, 0]
        columns = (subject.image, subject.target, subject.label, subject.predicted, chances)
        told = [Told(*row) for row in zip(*(column[:n].tolist() for column in columns), strict=True)]
        shown = {label: _shown(found, outcome.study.methods[label]) for label, found in outcome.examples.items()}
        for label, reason in outcome.incomplete.items():
            shown[label] = replace(shown[label], status=reason.partition(",")[0])
        made = {label: found for label, found in outcome.examples.items() if isinstance(found, Attribution)}
        maps = {label: _map(found, shown[label]) for label, found in made.items()}
        pictures = _pictures(part_of(subject, slice(n)).inputs, subject.dataset.scale.mean, subject.dataset.scale.std)
        return cls(subject.dataset.classes, told, pictures, shown, maps)

    def save(self, folder: str | Path) -> list[Path]:
        """Writes examples.json and examples.safetensors, and says where; either replaces what was there."""
        paths = [Path(folder) / name for name in _FILES]
        content = {
            "classes": list(self.classes),
            "images": [told._asdict() for told in self.told],
            "methods": {label: asdict(shown) for label, shown in self.shown.items()},
        }
        with replacing(paths[0]) as path:
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        # Labels are the study's own words; numbers can't clash with the pictures' name.
        tensors = {str(list(self.shown).index(label)): values.contiguous() for label, values in self.maps.items()}
        with replacing(paths[1]) as path:
            save_file({"pictures": self.pictures.contiguous(), **tensors}, path)
        return paths

    @classmethod
    def load(cls, folder: str | Path) -> "Examples | None":
        """What `save` left in a folder; None where it left nothing.

        Raises:
            DataError: files are there that can't be read.
        """
        texts, tensors = (Path(folder) / name for name in _FILES)
        if not texts.exists():
            return None
        try:
            content: dict[str, Any] = json.loads(texts.read_text(encoding="utf-8"))
            shown = {label: _listed(given) for label, given in content["methods"].items()}
            with safe_open(tensors, framework="pt") as file:
                pictures = file.get_tensor("pictures")
                known = set(file.keys())
                maps = {label: file.get_tensor(str(i)) for i, label in enumerate(shown) if str(i) in known}
            told = [Told(**row) for row in content["images"]]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{texts} can't be read as examples; expected what a study wrote. {error}") from error
        return cls(content["classes"], told, pictures, shown, maps)


def _shown(found: Attribution | XaiCompareError, method: object) -> Shown:
    if not isinstance(found, Attribution):
        return Shown(settings=repr(method), error=str(found))
    peaks = found.map.abs().flatten(1).amax(1)
    missed = found.incompleteness
    return Shown(
        settings=repr(found.method),
        status=found.status,
        scores=tuple(found.score.tolist()),
        peaks=tuple(peaks.tolist()),
        missed=None if missed is None else tuple(missed.tolist()),
    )


def _listed(given: Mapping[str, Any]) -> Shown:
    """From JSON, which has lists for tuples."""
    known: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return Shown(**known)


def _map(found: Attribution, shown: Shown) -> Tensor:
    # Divided first: sixteen bits hold neither the smallest relevances nor the largest.
    peaks = torch.tensor(shown.peaks).to(found.map).reshape(-1, *[1] * (found.map.ndim - 1))
    scaled = torch.where(peaks > 0, found.map / peaks.clamp_min(torch.finfo(peaks.dtype).tiny), 0.0)
    return _small(scaled[:, None].float())[:, 0].half().cpu()


def _pictures(inputs: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Inputs (n, c, h, w) as they were before they were normalised, grey unless there are three channels."""
    shape = (1, -1, 1, 1)
    pixels = inputs * torch.tensor(std).reshape(shape).to(inputs) + torch.tensor(mean).reshape(shape).to(inputs)
    seen = pixels if pixels.shape[1] == 3 else pixels.mean(1, keepdim=True)
    return (_small(seen).clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def _small(images: Tensor) -> Tensor:
    """Images (n, c, h, w) whose longest side is at most `_DRAWN`."""
    shrink = _DRAWN / max(images.shape[2:])
    return images if shrink >= 1 else torch.nn.functional.interpolate(images, scale_factor=shrink, mode="area")
