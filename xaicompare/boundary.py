"""What users hand in, checked once where it enters: models, inputs, targets, baselines, outputs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite

import torch
from torch import Tensor, nn

from xaicompare.errors import InputError, UnsupportedModelError, XaiCompareError

Target = None | int | Tensor | Sequence[int]
"""Which output is explained: None (the predicted class), one class for all samples, or (n,) classes."""


def checked_inputs(model: nn.Module, inputs: Tensor) -> Tensor:
    """A detached copy-free view of the inputs that a method may require gradients of.

    Raises:
        InputError: not a floating-point (n, c, h, w) or (n, features) tensor, empty, not finite, or on another device
            than the model; no module, or one that was made under inference mode.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model is a {type(model).__name__}; expected a torch.nn.Module.")
    if not isinstance(inputs, Tensor):
        raise InputError(f"inputs are a {type(inputs).__name__}; expected a torch.Tensor. Use torch.as_tensor(inputs).")
    shape = tuple(inputs.shape)
    if inputs.ndim not in (2, 4):
        hint = " Add the batch dimension: inputs[None]." if inputs.ndim in (1, 3) else ""
        raise InputError(f"inputs have shape {shape}; expected (n, c, h, w) or (n, features).{hint}")
    if inputs.numel() == 0:
        raise InputError(f"inputs have shape {shape}, an empty batch; expected at least one sample.")
    if not inputs.is_floating_point():
        raise InputError(
            f"inputs are {inputs.dtype}; expected floating point. Use inputs.float() and the model's own normalisation."
        )
    for parameter in model.parameters():
        if parameter.device != inputs.device:
            raise InputError(
                f"model is on {parameter.device}, inputs on {inputs.device}; expected one device. "
                f"Use inputs.to({str(parameter.device)!r})."
            )
        if parameter.is_inference():
            raise InputError("model was made under torch.inference_mode(), beyond autograd's reach. Make it outside.")
        break
    if not finite(inputs):
        bad = int((~torch.isfinite(inputs)).flatten(1).any(1).nonzero()[0])
        raise InputError(f"inputs hold NaN or inf, first in sample {bad}; expected finite values.")
    return inputs.detach()


def resolved_target(target: Target, inputs: Tensor, logits: Tensor | None) -> Tensor:
    """The concrete (n,) int64 target; the predicted class of the logits (n, classes) where it is None."""
    n = len(inputs)
    if target is None:
        assert logits is not None
        return predicted(logits)
    try:
        given = torch.as_tensor(target, device=inputs.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"target is {target!r}; expected None, a class number, or {n} of them.") from error
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise InputError(f"target is {given.dtype}; expected int64 class numbers.")
    if given.ndim == 0:
        given = given.expand(n)
    if given.shape != (n,):
        raise InputError(f"target has shape {tuple(given.shape)}; expected ({n},), one class per sample, or one int.")
    if int(given.min()) < 0:
        raise InputError(f"target holds {int(given.min())}; expected classes from 0 up.")
    # A copy of its own: the user's may change later, or come from inference mode, where autograd refuses it.
    return given.to(torch.int64).clone()


def finite(values: Tensor) -> bool:
    """Whether every value is finite; a finite sum, ten times faster to have, says so first."""
    return isfinite(values.detach().sum().item()) or bool(torch.isfinite(values).all())


def outputs(model: nn.Module, inputs: Tensor, batch_size: int) -> Tensor:
    """The model's outputs (n, classes), without gradients, `batch_size` samples at a time."""
    with torch.no_grad():
        chunks = inputs.split(per_pass(batch_size, inputs))
        return torch.cat([checked_outputs(_called(model, _fast(chunk)), len(chunk)) for chunk in chunks])


_POSITIONS = 2**19  # ten images of 224 x 224


def per_pass(batch_size: int, inputs: Tensor) -> int:
    """How many samples like these to pass at once: `batch_size`, or fewer of large ones on a CPU.

    There, beyond some megabytes every layer's outputs are fresh memory, whose page faults double the time.
    """
    if inputs.device.type != "cpu":
        return batch_size
    return max(1, min(batch_size, _POSITIONS // inputs.shape[2:].numel()))


def _fast(images: Tensor) -> Tensor:
    """Images in the order of memory that a CPU convolves fastest: half the time on SqueezeNet, never more."""
    on_cpu = images.ndim == 4 and images.device.type == "cpu"
    return images.contiguous(memory_format=torch.channels_last) if on_cpu else images


def _called(model: nn.Module, inputs: Tensor) -> object:
    with fitting(model, inputs):
        return model(inputs)


@contextmanager
def fitting(model: nn.Module, inputs: Tensor) -> Iterator[None]:
    """Errors of torch meanwhile mean that the inputs don't fit the model; the message says so."""
    try:
        yield
    except (XaiCompareError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, TypeError, ValueError, LookupError) as error:
        raise InputError(
            f"{type(model).__name__} fails on inputs {tuple(inputs.shape)} of {inputs.dtype}: {error}; "
            "expected inputs of the shape and type that the model was made for."
        ) from error


def checked_outputs(logits: object, n: int) -> Tensor:
    """The outputs themselves, if they are (n, classes) and finite."""
    made = shaped_outputs(logits, n)
    if not finite(made):
        raise UnsupportedModelError("the model returns NaN or inf; expected finite outputs. Check its parameters.")
    return made


def shaped_outputs(logits: object, n: int) -> Tensor:
    """The outputs themselves, if they are (n, classes); those of a binary classifier, (n,) or (n, 1), as (n, 1)."""
    made = logits_among(logits)
    if not isinstance(made, Tensor):
        raise UnsupportedModelError(
            f"the model returns a {type(logits).__name__}; expected a tensor (n, classes), a tuple that begins with "
            "it, or something that has it as 'logits'. Wrap it to return that one."
        )
    if made.shape == (n,):
        return made[:, None]
    if made.ndim != 2 or len(made) != n:
        raise UnsupportedModelError(
            f"the model returns shape {tuple(made.shape)} for {n} samples; expected ({n}, classes)."
        )
    return made


def logits_among(returned: object) -> object:
    """What a model says of the classes: the first of a tuple or list, the `logits` of a dict or an object, or all."""
    if isinstance(returned, Mapping):  # ModelOutput of transformers is one
        return returned.get("logits", returned)
    if isinstance(returned, (tuple, list)) and not hasattr(returned, "logits"):
        return returned[0] if returned else returned
    return getattr(returned, "logits", returned)


@contextmanager
def judged(model: nn.Module, target: Tensor) -> Iterator[None]:
    """Whenever the model is called meanwhile, its outputs must be (n, classes) with a class for every target.

    So a wrong target is told in our words, before a library underneath indexes with it. A network with one output
    gives the scores of its two classes meanwhile, which a library can index.
    """
    greatest = int(target.max())

    def judge(module: nn.Module, given: tuple[Tensor, ...], logits: object) -> Tensor | None:
        _check_class(greatest, shaped_outputs(logits, len(given[0])))
        return two_classes(module, given, logits)

    handle = model.register_forward_hook(judge)
    try:
        yield
    finally:
        handle.remove()


def two_classes(_: nn.Module, given: tuple[Tensor, ...], logits: object) -> Tensor | None:
    """A forward hook: the tensor that is explained, with the scores (n, 2) for a binary classifier's one output."""
    shaped = shaped_outputs(logits, len(given[0]))
    return class_scores(shaped) if shaped.shape[1] == 1 else None if shaped is logits else shaped


def class_scores(logits: Tensor) -> Tensor:
    """The score of each class, (..., classes): the outputs; -z and z where a binary classifier has one output z."""
    return torch.cat([-logits, logits], -1) if logits.shape[-1] == 1 else logits


def probabilities(logits: Tensor) -> Tensor:
    """The probability of each class, (..., classes): softmax; 1 - sigmoid(z) and sigmoid(z) where z is all there is.

    >>> probabilities(torch.zeros(1, 1))
    tensor([[0.5000, 0.5000]])
    """
    return class_scores(logits).sigmoid() if logits.shape[-1] == 1 else logits.softmax(-1)


def predicted(logits: Tensor) -> Tensor:
    """The class of the greatest score, (..., classes) -> (...)."""
    return class_scores(logits).argmax(-1)


def _check_class(greatest: int, logits: Tensor) -> None:
    classes = max(2, logits.shape[1])
    if greatest >= classes:
        raise InputError(f"target holds {greatest}; expected classes from 0 to {classes - 1}.")


def picked(logits: Tensor, target: Tensor) -> Tensor:
    """The explained scores (n,): those of the logits (n, classes) at target (n,).

    Raises:
        InputError: a target beyond the last class.
    """
    _check_class(int(target.max()), logits)
    return class_scores(logits).gather(1, target[:, None]).squeeze(1)


def explained_start(outputs: Tensor, target: Tensor, values: Tensor | None) -> Tensor:
    """What a sweep begins with: zeros of the outputs' shape, and values (n,) at the explained ones, target (n,).

    Both classes of a binary classifier stem from its one output: (n,) and (n, 1) are as good. Without values: the
    slope of the score, 1, or -1 for class 0 of such a one.
    """
    n, flat = len(target), outputs[:1].reshape(1, -1)
    column = target.clamp(max=flat.shape[1] - 1)
    if values is None:
        values = 2 * target - 1 if flat.shape[1] == 1 else torch.ones_like(target)
    start = flat.new_zeros(n, flat.shape[1]).scatter(1, column[:, None], values[:, None].to(flat))
    return start.reshape(n, *outputs.shape[1:])


def checked_values(values: Tensor, inputs: Tensor) -> Tensor:
    """Attribution values, if they are finite and fit the inputs: (n, c or 1, *spatial)."""
    n, channels, *spatial = inputs.shape
    if tuple(values.shape) not in {(n, channels, *spatial), (n, 1, *spatial)}:
        raise UnsupportedModelError(f"values of shape {tuple(values.shape)} for inputs {tuple(inputs.shape)}.")
    if not finite(values):
        raise UnsupportedModelError("the values hold NaN or inf; this model is outside what the method can do.")
    return values


def checked_map(values: Tensor, inputs: Tensor) -> Tensor:
    """The values of an attribution that is to be judged, if they are finite and fit its inputs."""
    n, channels, *spatial = inputs.shape
    if tuple(values.shape) not in {(n, channels, *spatial), (n, 1, *spatial)}:
        raise InputError(
            f"the attribution has shape {tuple(values.shape)} for inputs {tuple(inputs.shape)}; expected "
            f"{(n, channels, *spatial)} or {(n, 1, *spatial)}."
        )
    if not torch.isfinite(values).all():
        raise InputError("the attribution holds NaN or inf; expected finite values.")
    return values


def checked_masks(masks: Tensor | None, inputs: Tensor, *, wanted: bool) -> Tensor | None:
    """Masks (n, positions) bool on the device of the inputs, if they are wanted and fit.

    Raises:
        InputError: they are missing or not wanted, of another shape or type, or one of them is empty.
    """
    shape = (len(inputs), *(inputs.shape[2:] if inputs.ndim == 4 else inputs.shape[1:]))
    if masks is None:
        if wanted:
            raise InputError(f"masks are missing; expected {shape} of bool, True on the object. Give masks=...")
        return None
    if not wanted:
        raise InputError(f"masks of shape {tuple(masks.shape)} are given; expected none: nothing looks at them.")
    found = masks.squeeze(1) if masks.ndim == len(shape) + 1 else masks
    if tuple(found.shape) != shape or found.dtype != torch.bool:
        raise InputError(f"masks are {masks.dtype} of shape {tuple(masks.shape)}; expected bool {shape}.")
    flat = found.flatten(1).to(inputs.device)
    for told, bad in (("empty", ~flat.any(1)), ("full", flat.all(1))):
        if bool(bad.any()):
            raise InputError(
                f"the mask of sample {int(bad.nonzero()[0])} is {told}; expected positions on and off the object. "
                "Leave such samples out."
            )
    return flat


def baseline_like(baseline: float | Tensor, inputs: Tensor) -> Tensor:
    """The baseline as (1, c, h, w) or (1, features), from a number, a value per channel, or one whole sample.

    Raises:
        InputError: a tensor of any other shape, or one that is not finite.
    """
    sample = inputs[:1]
    value = torch.as_tensor(baseline).detach().to(inputs)
    if value.ndim == 1 and inputs.ndim == 4 and len(value) == inputs.shape[1]:
        value = value[:, None, None]
    if value.shape not in {
        sample.shape,
        sample.shape[1:],
        torch.Size([]),
        torch.Size([inputs.shape[1], 1, 1]),
    }:
        raise InputError(
            f"baseline has shape {tuple(value.shape)}; expected a number, ({inputs.shape[1]},) or "
            f"{tuple(inputs.shape[1:])}, one baseline for all samples."
        )
    if not finite(value):
        raise InputError("baseline holds NaN or inf; expected finite values.")
    return value.expand_as(sample)
