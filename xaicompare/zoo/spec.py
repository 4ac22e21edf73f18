"""A network by its SPEC: a name, a library and a name, a Python file, a module, or an exported program.

    resnet18                          ours or torchvision's
    timm:vit_tiny_patch16_224         timm's, with the extra `timm`
    hf:google/vit-base-patch16-224    Hugging Face's, or a folder in that format, with the extra `hf`
    path/to/net.py:make               a function or class in a file
    package.module:make               the same in a module that can be imported
    net.pt2                           a program saved by torch.export

Nothing is unpickled, and no code comes with weights.
"""

import importlib
import importlib.util
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import get_model_weights

from xaicompare.errors import DataError, SettingError, UnknownNameError, XaiCompareError
from xaicompare.registry import MODELS
from xaicompare.zoo.images import Scale
from xaicompare.zoo.models import build_model, seeded
from xaicompare.zoo.places import located
from xaicompare.zoo.preprocessing import Preprocess, given_preprocess, preprocess_of
from xaicompare.zoo.weights import load_weights

RANDOM = "random"
"""As weights: the network as it was made, untrained, by a seed."""
RANDOM_WEIGHTS = "random weights"
"""What results say of such."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A network and what came along with it."""

    model: nn.Module
    name: str  # what results call it
    origin: str  # where its weights come from, in words
    classes: tuple[str, ...] | None = None  # their names, if anyone told
    preprocess: Preprocess | None = None


def open_model(
    spec: str,
    *,
    weights: str | Path | None = None,
    key: str | None = None,
    classes: int | None = None,
    seed: int = 0,
    **settings: object,
) -> Opened:
    """The network of a SPEC, see the module's first lines, in evaluation mode.

    Args:
        weights: a file (.safetensors, .pt, .pth); a name of torchvision's ("DEFAULT"), for a network of its; "random",
            for a network as it is made, by the seed. None: what the SPEC brings along.
        key: where in the file the weights are, such as "model"; None: at its top, or under "state_dict".
        classes: how many outputs; None: what the weights or the library say.
        settings: for the function that makes the network.

    Raises:
        UnknownNameError: no such network; the nearest names are told.
        DataError: a file, a package or weights are missing, or don't fit.
        SettingError: weights that the SPEC has no use for.
    """
    kind, rest = _kind(spec)
    with seeded(seed, torch.device("cpu")):
        opened = _OPENERS[kind](rest, None if weights is None else str(weights), classes, settings)
    if weights is not None and str(weights) != RANDOM and not _is_torchvisions(kind, str(weights)):
        told = load_weights(opened.model, weights, name=rest, key=key)
        origin = f"weights {weights}" + (f" ({told})" if told else "")
        opened = Opened(opened.model, opened.name, origin, opened.classes, opened.preprocess)
    opened.model.eval()
    return opened


def is_spec(name: str) -> bool:
    """Whether a name says where a network comes from, in place of one that a registry knows."""
    return ":" in name or name.endswith(".pt2")


def _kind(spec: str) -> tuple[str, str]:
    if not isinstance(spec, str) or not spec.strip():
        raise SettingError(f"model={spec!r}; expected a SPEC such as 'resnet18', 'timm:NAME' or 'net.py:make'.")
    head, colon, rest = spec.partition(":")
    if colon and head in ("timm", "hf"):
        return head, rest
    if spec.endswith(".pt2"):
        return "pt2", spec
    if spec.endswith((".pt", ".pth", ".safetensors", ".bin", ".ckpt", ".onnx")):
        raise DataError(
            f"{spec} holds weights, no network: a network is code. Give that as a SPEC such as net.py:make, with "
            f"`--weights {spec}`, or save a program by torch.export as net.pt2."
        )
    if colon and (len(head) > 1 or rest.rpartition(":")[2]):  # a letter before the colon is a drive
        return "code", spec
    if spec.endswith(".py"):
        raise SettingError(f"model={spec!r} lacks the function that makes the network; expected {spec}:NAME.")
    return "name", spec


def _is_torchvisions(kind: str, weights: str) -> bool:
    return kind == "name" and Path(weights).suffix not in (".safetensors", ".pt", ".pth")


def _by_name(name: str, weights: str | None, classes: int | None, settings: Mapping[str, object]) -> Opened:
    if name not in MODELS:
        raise UnknownNameError(f"{MODELS.unknown(name)} A SPEC may also be timm:NAME, hf:NAME, net.py:make or net.pt2.")
    known, options = _torchvision_weights(name), dict[str, Any](settings)
    if weights is None and classes is None and known is None:
        raise SettingError(f"model={name!r} without weights and without classes; expected how many classes it has.")
    chosen = "DEFAULT" if weights is None and classes is None else weights
    if known is not None and chosen is not None and chosen in ("DEFAULT", *known.__members__):
        entry = known[chosen]
        told = tuple(entry.meta["categories"])
        model = build_model(name, len(told), 3, **options)
        load_weights(model, chosen, name=name)
        made = entry.transforms()
        return Opened(model, name, f"weights {chosen} of torchvision", told, _torchvisions(made, name))
    if weights is not None and weights != RANDOM and Path(weights).suffix not in (".safetensors", ".pt", ".pth"):
        build = build_model(name, classes or 1000, 3)
        load_weights(build, weights, name=name)  # raises, and says what is known
    count = classes or (1000 if known is not None else None)
    if count is None:
        raise SettingError(f"model={name!r} without classes; expected how many classes it has.")
    names = None if known is None or count != 1000 else tuple(known["DEFAULT"].meta["categories"])
    process = None if known is None else _torchvisions(known["DEFAULT"].transforms(), name)
    return Opened(
        build_model(name, count, 3, seed=torch.initial_seed(), **options), name, RANDOM_WEIGHTS, names, process
    )


def _torchvision_weights(name: str) -> Any:
    try:
        return get_model_weights(name)
    except ValueError:
        return None


def _torchvisions(made: Any, name: str) -> Preprocess:
    scale = Scale(tuple(map(float, made.mean)), tuple(map(float, made.std)))
    return Preprocess(made, scale, f"torchvision's for {name}")


def _of_timm(name: str, weights: str | None, classes: int | None, settings: Mapping[str, object]) -> Opened:
    timm = _package("timm", "timm")
    if not timm.is_model(name.partition(".")[0]):
        near = timm.list_models(f"*{name.partition('.')[0]}*")[:5] or timm.list_models(f"*{name[:5]}*")[:5]
        raise UnknownNameError(f"timm has no model {name!r}. Did you mean {', '.join(near) or 'another'}?")
    with _offline(f"weights of timm's {name}"):
        options = {**settings, **({} if classes is None else {"num_classes": classes})}
        model = timm.create_model(name, pretrained=weights is None, **options)
    names = None
    if model.num_classes == 1000:
        names = _imagenet()
    origin = "timm's weights" if weights is None else RANDOM_WEIGHTS
    return Opened(model, f"timm:{name}", origin, names, preprocess_of(model))


def _of_hugging_face(name: str, weights: str | None, classes: int | None, settings: Mapping[str, object]) -> Opened:
    transformers = _package("transformers", "hf")
    auto, options = transformers.AutoModelForImageClassification, dict(settings)
    if classes is not None:
        options["num_labels"] = classes
    with _offline(f"{name} of Hugging Face"):
        if weights is None:
            model = auto.from_pretrained(name, use_safetensors=True, trust_remote_code=False, **options)
        else:
            config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False, **options)
            model = auto.from_config(config, trust_remote_code=False)
            model.name_or_path = name
    labels = model.config.id2label
    names = tuple(str(labels[number]) for number in range(len(labels)))
    origin = "Hugging Face's weights" if weights is None else RANDOM_WEIGHTS
    return Opened(model, f"hf:{name}", origin, names, preprocess_of(model))


def _of_code(spec: str, weights: str | None, classes: int | None, settings: Mapping[str, object]) -> Opened:
    place, _, name = spec.rpartition(":")
    module = _file_module(located(place, "Python file")) if place.endswith(".py") else _named_module(place)
    maker = getattr(module, name, None)
    if not callable(maker):
        known = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise UnknownNameError(f"{place} has no function or class {name!r}; it has {', '.join(known) or 'none'}.")
    options = {**settings, **({} if classes is None else {"classes": classes})}
    try:
        made = maker(**options)
    except XaiCompareError:
        raise
    except Exception as error:  # somebody else's code: whatever goes wrong in it is to be told with its place
        raise DataError(
            f"{spec} can't be made with the settings {options or '{}'} ({type(error).__name__}: {error}); expected a "
            "function that returns a torch.nn.Module."
        ) from error
    if not isinstance(made, nn.Module):
        raise DataError(f"{spec} returned a {type(made).__name__}; expected a torch.nn.Module.")
    names = getattr(module, "CLASSES", None)
    process = getattr(module, "preprocess", None)
    own = given_preprocess(process) if callable(process) else preprocess_of(made)
    told = "as it was made" if weights != RANDOM else RANDOM_WEIGHTS
    return Opened(made, name, told, None if names is None else tuple(map(str, names)), own)


def _file_module(path: Path) -> Any:
    """A Python file of the user's, run as a module; files beside it can be imported from it."""
    spec = importlib.util.spec_from_file_location(f"_xaicompare_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DataError(f"{path} can't be run ({type(error).__name__}: {error}); expected a Python file.") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _named_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise DataError(
            f"the module {name!r} can't be imported ({type(error).__name__}: {error}); expected one that is installed, "
            "or a file: path/to/net.py:make."
        ) from error


def _of_program(path: str, weights: str | None, classes: int | None, settings: Mapping[str, object]) -> Opened:
    place = located(path, "exported program")
    if weights is not None or classes is not None or settings:
        raise SettingError(f"{path} brings its weights and classes along; expected neither beside it.")
    try:
        _without_pickles(place)
        with _weights_only():
            model = torch.export.load(place).module()
    except XaiCompareError:
        raise
    except Exception as error:
        raise DataError(
            f"{path} can't be read ({type(error).__name__}: {str(error).splitlines()[0]}); expected a program that "
            "torch.export.save wrote by this version of torch."
        ) from error
    object.__setattr__(model, "eval", lambda *_: model)  # a program has one mode, that it was exported in
    return Opened(model, place.stem, f"the program {place.name}")


def _without_pickles(place: Path) -> None:
    """Constants of a program that are no tensors are pickles, which run code."""
    with zipfile.ZipFile(place) as file:
        names = [name for name in file.namelist() if name.endswith("constants_config.json")]
        for name in names:
            for constant in json.loads(file.read(name)).get("config", {}).values():
                if not str(constant.get("path_name", "")).startswith("tensor"):
                    raise DataError(
                        f"{place} holds objects that are pickled, which may run code; expected tensors only. Export "
                        "the network without them."
                    )


@contextmanager
def _weights_only() -> Iterator[None]:
    """Whatever torch loads meanwhile, it unpickles tensors only."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(
            f"the SPEC {extra}:... needs {name}, which can't be imported ({error}). Install xaicompare-torch[{extra}]."
        ) from error


@contextmanager
def _offline(what: str) -> Iterator[None]:
    """Errors of downloads and of missing files, in our words."""
    try:
        yield
    except XaiCompareError:
        raise
    except Exception as error:  # libraries raise their own and their HTTP client's
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"{what} can't be had ({type(error).__name__}: {reason[0][:200]}). Connect to the network once, give a "
            'local folder or file, or `weights = "random"` for an untrained network.'
        ) from error


def _imagenet() -> tuple[str, ...]:
    return tuple(get_model_weights("squeezenet1_0").DEFAULT.meta["categories"])


_OPENERS: dict[str, Callable[[str, str | None, int | None, Mapping[str, object]], Opened]] = {
    "name": _by_name,
    "timm": _of_timm,
    "hf": _of_hugging_face,
    "code": _of_code,
    "pt2": _of_program,
}
