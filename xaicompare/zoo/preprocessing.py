"""How a photograph becomes what a network takes: the network's own preprocessing, wherever its library keeps it."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import Compose, Normalize
from torchvision.transforms.v2 import Compose as Compose2
from torchvision.transforms.v2 import Normalize as Normalize2

from xaicompare.errors import DataError, InputError
from xaicompare.zoo.images import Scale

PIXELS = Scale((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Inputs that are pixels from 0 to 1."""


@dataclass(frozen=True)
class Preprocess:
    """A function from a photograph to a tensor (c, h, w), and the scale of pixels that it ends with, if known."""

    call: Callable[[Image.Image], Any]
    scale: Scale | None = None
    told: str = "the given function"

    def __call__(self, image: Image.Image) -> Tensor:
        """One image, (c, h, w) floating point.

        Raises:
            InputError: it is no such tensor.
        """
        try:
            made = self.call(image)
        except (TypeError, ValueError, RuntimeError, AttributeError, LookupError) as error:
            raise InputError(
                f"preprocess failed on an image of {image.size} pixels in mode {image.mode} "
                f"({type(error).__name__}: {error}); expected a function from a PIL image to a tensor (c, h, w)."
            ) from error
        tensor = torch.as_tensor(made)
        if tensor.ndim == 4 and len(tensor) == 1:  # (1, c, h, w), as processors give it
            tensor = tensor[0]
        if tensor.ndim != 3 or not tensor.is_floating_point():
            raise InputError(
                f"preprocess gave {tensor.dtype} of shape {tuple(tensor.shape)}; expected floating point (c, h, w). "
                "End it with torchvision's ToTensor, or alike."
            )
        return tensor

    def __repr__(self) -> str:
        return f"Preprocess({self.told})"


def preprocess_of(model: nn.Module) -> Preprocess | None:
    """The preprocessing that the library of a model keeps for it: timm's and Hugging Face's; None elsewhere."""
    if isinstance(getattr(model, "pretrained_cfg", None), dict):
        return _timms(model)
    if hasattr(getattr(model, "config", None), "image_size") and hasattr(model, "name_or_path"):
        return _hugging_faces(model)
    return None


def given_preprocess(given: Callable[[Image.Image], Any]) -> Preprocess:
    """A function of one's own; the scale of the last `Normalize` in it, or of its attributes `mean` and `std`."""
    if isinstance(given, Preprocess):
        return given
    found = [_scale(each) for each in _steps(given) if isinstance(each, (Normalize, Normalize2))]
    return Preprocess(given, found[-1] if found else _scale(given))


def _steps(given: Any) -> Iterator[Any]:
    yield given
    if isinstance(given, (Compose, Compose2, nn.Sequential)):
        steps: Any = given if isinstance(given, nn.Sequential) else given.transforms
        for each in steps:
            yield from _steps(each)


def _scale(given: Any) -> Scale | None:
    """Pixels from 0 to 1, less a mean, in units of a deviation."""
    mean, std = (getattr(given, name, None) for name in ("mean", "std"))
    try:
        return Scale(tuple(map(float, mean)), tuple(map(float, std)))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _timms(model: nn.Module) -> Preprocess:
    data: Any = importlib.import_module("timm.data")
    config = data.resolve_model_data_config(model)
    made = data.create_transform(**config, is_training=False)
    scale = Scale(tuple(map(float, config["mean"])), tuple(map(float, config["std"])))
    return Preprocess(made, scale, f"timm's for {model.pretrained_cfg.get('architecture', type(model).__name__)}")  # type: ignore[union-attr, operator]


def _hugging_faces(model: Any) -> Preprocess | None:
    transformers: Any = importlib.import_module("transformers")
    if not model.name_or_path:
        return None
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(model.name_or_path)
    except (OSError, ValueError, ImportError) as error:
        raise DataError(
            f"the image processor of {model.name_or_path} can't be had ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}); expected preprocessor_config.json beside the model. Pass `preprocess`."
        ) from error
    scale = None
    if getattr(processor, "do_normalize", False):
        scale = Scale(tuple(map(float, processor.image_mean)), tuple(map(float, processor.image_std)))

    def processed(image: Image.Image) -> Tensor:
        made: Tensor = processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
        return made

    return Preprocess(processed, scale, f"the image processor of {model.name_or_path}")
