"""Weights: from a file or from torchvision into a network, and from a network into a file."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import get_model_weights

from xaicompare.errors import DataError, unknown
from xaicompare.files import replacing
from xaicompare.zoo.places import located

_SUFFIXES = (".safetensors", ".pt", ".pth")


_PREFIXES = ("module.", "_orig_mod.", "model.")  # of DataParallel, torch.compile, and training frameworks


def load_weights(model: nn.Module, source: str | Path, *, name: str = "", key: str | None = None) -> str:
    """Copies weights into the model, whatever their precision; says what was stripped from their names, if anything.

    Args:
        source: a file (.safetensors, .pt, .pth), absolute or below the current folder or the data root; or the name
            that torchvision gives to weights of the model, "IMAGENET1K_V1" or "DEFAULT", which are downloaded once.
        name: the model's name in torchvision, needed for the latter only.
        key: under which name the file holds them; None: at its top, or "state_dict".

    Raises:
        DataError: the weights are absent, can't be read or downloaded, or are another network's.
        UnknownNameError: torchvision has no such weights of that model.
    """
    if Path(source).suffix in _SUFFIXES:
        weights = _from_file(located(source, "file of weights"), key)
    else:
        weights = _from_torchvision(str(source), name)
    weights, told = _stripped(model, weights)
    _fit_or_raise(model, weights, source)
    model.load_state_dict(weights)
    return told


def _stripped(model: nn.Module, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Weights without a prefix that all of them have, where their names are then exactly the network's."""
    own, left, gone = set(model.state_dict()), weights, ""
    while set(left) != own:
        prefix = next((each for each in _PREFIXES if left and all(name.startswith(each) for name in left)), None)
        if prefix is None:
            return weights, ""
        left, gone = {name.removeprefix(prefix): value for name, value in left.items()}, gone + prefix
    return left, f"{gone!r} stripped from their names" if gone else ""


def save_weights(model: nn.Module, path: str | Path, notes: Mapping[str, object] | None = None) -> None:
    """Writes the model's weights to a .safetensors file, all at once or not at all.

    Args:
        notes: what to remember about them, such as settings and accuracy; anything that JSON can hold.

    Raises:
        DataError: the name ends otherwise, or the folder can't be written to.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise DataError(f"weights were to be saved as {path.name!r}; expected a name that ends in .safetensors.")
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in model.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt", "notes": json.dumps(dict(notes or {}))})


def weight_notes(path: str | Path) -> dict[str, object]:
    """What `save_weights` was given to remember; empty for files of others.

    Raises:
        DataError: the file can't be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            notes: dict[str, object] = json.loads((file.metadata() or {}).get("notes", "{}"))
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise _unreadable(path, error) from error
    return notes


def _from_file(path: Path, key: str | None = None) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            content: object = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" not in str(error):  # a class or function, which torch names
            raise _unreadable(path, error) from error
        raise DataError(
            f"{path} can't be read (it holds objects beside tensors, which are not unpickled: that may run code); "
            "expected weights, tensors by name. Where you trust the file, save "
            "torch.load(FILE, weights_only=False).state_dict() by torch.save, and give that."
        ) from error
    except (OSError, EOFError, RuntimeError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    # Training scripts often save the weights beside other things.
    if key is not None and (not isinstance(content, dict) or key not in content):
        raise unknown(f"key of {path}", key, list(content) if isinstance(content, dict) else [])
    weights = content.get(key or "state_dict", content) if isinstance(content, dict) else content
    if isinstance(weights, dict) and any(isinstance(value, dict) for value in weights.values()):
        names = [name for name, value in weights.items() if isinstance(value, dict)]
        raise DataError(f"{path} holds {', '.join(names)}; expected weights. Say which they are by `--weights-key`.")
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise DataError(f"{path} holds something else than weights; expected a state_dict, tensors by name.")
    return weights


def _unreadable(path: str | Path, error: Exception) -> DataError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{path} can't be read ({reason}); expected weights as .safetensors, .pt or .pth. Fetch it anew.")


def _from_torchvision(source: str, name: str) -> dict[str, Tensor]:
    try:
        known = get_model_weights(name)
    except ValueError as error:
        raise DataError(
            f"weights {source!r} for model {name!r}; expected a file ({', '.join(_SUFFIXES)}), "
            "or the name of weights together with that of a torchvision model."
        ) from error
    names = ["DEFAULT", *known.__members__]
    if source not in names:
        raise unknown(f"weights of {name}", source, names)
    weights = getattr(known, source)
    try:
        content: dict[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
        raise DataError(
            f"weights {source} of {name} can't be downloaded ({error}); expected {weights.url} to answer. "
            f"Fetch that file elsewhere and put it at {file}, or pass it with `--weights FILE`."
        ) from error
    return content


def _fit_or_raise(model: nn.Module, weights: Mapping[str, Tensor], source: str | Path) -> None:
    """Says which tensors lack, are too many, or have another shape."""
    own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in weights.items()}
    lacking = [f"lacks {key}" for key in own if key not in given]
    surplus = [f"has {key}, which the network lacks" for key in given if key not in own]
    shapes = [f"has {key} {given[key]}, not {own[key]}" for key in own if key in given and given[key] != own[key]]
    faults = [fault for kind in (lacking, surplus, shapes) for fault in kind[:2]]
    if faults:
        n = len(lacking) + len(surplus) + len(shapes)
        raise DataError(
            f"{source}: {'; '.join(faults)} ({n} mismatches in all); expected the weights of this network, "
            f"{len(own)} tensors. Check the model's name and its number of classes."
        )
