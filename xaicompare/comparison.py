"""The verbs: attribute, compare, score."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import xaicompare.methods  # registers the methods
import xaicompare.metrics  # noqa: F401 (registers the metrics)
from xaicompare.borrow import borrowed
from xaicompare.boundary import Target, checked_inputs, outputs, resolved_target
from xaicompare.core import Attribution, Curve, CurveMetric, Method, Metric
from xaicompare.errors import InputError, XaiCompareError
from xaicompare.registry import METHODS, METRICS
from xaicompare.scripted import callable_network

Images = Tensor | str | Path | Sequence[str | Path]
"""Inputs as the network takes them; or an image file, a folder of them, or several."""


def attribute(
    model: nn.Module | str,
    inputs: Images,
    first: str | Method | Target = None,
    second: str | Method | Target = None,
    /,
    *,
    method: str | Method | None = None,
    target: Target = None,
    strict: bool = True,
    **settings: Any,
) -> Attribution:
    """Explains the model's output by one method, given by name with its settings or as an object.

    Without their names, method and target come third and fourth in either order: a name or a Method is the method.

    >>> import torch
    >>> model = torch.nn.Linear(4, 3)
    >>> attribute(model, torch.ones(2, 4), target=0, method="integrated_gradients", n_steps=8).values.shape
    torch.Size([2, 4])

    Args:
        model: maps inputs to (n, classes); run in evaluation mode, given back untouched. Or a SPEC, such as "resnet18",
            "timm:NAME", "hf:NAME" or "net.py:make", see `evaluate`.
        inputs: (n, c, h, w) or (n, features), floating point. Or image files, which the network's own preprocessing
            makes inputs of.
        first, second: method and target, told apart by what they are.
        method: a name (`xaicompare methods` lists them) or a Method; saliency where there is none.
        target: None (the predicted class), a class, or (n,) classes.
        strict: raise where a promised completeness failed; False returns such values, with `status` "failed".
        settings: the method's fields.

    Raises:
        UnknownNameError: no such method, setting or layer; the known ones are listed.
        SettingError: a setting is out of range.
        InputError: inputs, target or baseline don't fit the model.
        UnsupportedModelError: the method has no right answer on this model.
        IncompleteError: the values miss what they must sum to by more than a tenth of it.
        DataError: a file or a package is missing.
    """
    chosen, classes = _told_apart((first, second), method, target)
    network, ready = _opened(model, inputs)
    return METHODS.build(chosen, **settings).attribute(network, ready, classes, strict=strict)


def _opened(model: nn.Module | str, inputs: Images) -> tuple[nn.Module, Tensor]:
    """The network and the inputs themselves, where they are given by name; anything else as it is."""
    if not isinstance(model, str) and not _are_files(inputs):
        return model, inputs  # type: ignore[return-value]
    from xaicompare.zoo.given import given_dataset  # takes a second to import, and is for these two alone
    from xaicompare.zoo.networks import opened_model

    opened = opened_model(model, None, None, None)
    if _are_files(inputs):
        files: Any = [inputs] if isinstance(inputs, (str, Path)) and Path(inputs).is_file() else inputs
        made = given_dataset(
            files, labels=None, classes=None, preprocess=opened.preprocess, most=_MOST_FILES, shuffled=False
        )
        inputs, _ = made.test.batch(range(len(made.test)))
    return opened.model, inputs  # type: ignore[return-value]


_MOST_FILES = 1000  # of a folder: more belong into `evaluate`


def _are_files(inputs: object) -> bool:
    return isinstance(inputs, (str, Path)) or (
        isinstance(inputs, Sequence) and bool(inputs) and all(isinstance(each, (str, Path)) for each in inputs)
    )


def _told_apart(
    given: tuple[str | Method | Target, ...], method: str | Method | None, target: Target
) -> tuple[str | Method, Target]:
    """The method and the target, from what was given by place and by name."""
    methods = [each for each in (*given, method) if _is_method(each)]
    targets: list[Any] = [each for each in (*given, target) if each is not None and not _is_method(each)]
    if len(methods) == 2:  # a name that no method has was meant as the target, which the boundary refuses by name
        targets += [each for each in methods if isinstance(each, str) and each not in METHODS]
        methods = [each for each in methods if not isinstance(each, str) or each in METHODS] or methods[:1]
    for found, what, expected in (
        (methods, "methods", "a name or a Method"),
        (targets, "targets", "None, a class or (n,)"),
    ):
        if len(found) > 1:
            raise InputError(f"two {what}, {found[0]!r} and {found[1]!r}; expected one: {expected}. Leave one out.")
    return methods[0] if methods else "saliency", targets[0] if targets else None  # type: ignore[return-value]


def _is_method(given: object) -> bool:
    return isinstance(given, (str, Method)) or (isinstance(given, type) and issubclass(given, Method))


def compare(
    model: nn.Module | str,
    inputs: Images,
    methods: str | Method | Iterable[str | Method],
    target: Target = None,
    *,
    strict: bool = True,
) -> dict[str, Attribution]:
    """Explains the same outputs by several methods: {label: Attribution}, in the order given.

    The target is resolved once and shared. The label is the method's name; where a name comes twice, its settings too.

    >>> import torch
    >>> many = compare(torch.nn.Linear(4, 3), torch.ones(2, 4), ["saliency", "deeplift", "random"])
    >>> list(many)
    ['saliency', 'deeplift', 'random']

    Args:
        model, inputs: as for `attribute`.
        methods: names or Methods; one alone is enough. "all" stands for every registered method that can explain this
            model; a warning names those that can't.

    Raises:
        XaiCompareError: the first error that one of them raised; with "all", where none of them can explain it.
    """
    network, ready = _opened(model, inputs)
    many = attempted(network, ready, methods, target, strict=strict)
    done = {label: result for label, result in many.items() if isinstance(result, Attribution)}
    failed = {label: result for label, result in many.items() if isinstance(result, XaiCompareError)}
    if failed and (not _is_all(methods) or not done):
        raise next(iter(failed.values()))
    if failed:
        why = "xaicompare.attribute(model, inputs, name) says why"
        warnings.warn(f"left out on this model: {', '.join(failed)}; {why}.", stacklevel=2)
    return done


def _is_all(methods: object) -> bool:
    return isinstance(methods, str) and methods == "all"


def attempted(
    model: nn.Module,
    inputs: Tensor,
    methods: str | Method | Iterable[str | Method],
    target: Target = None,
    *,
    strict: bool = True,
) -> dict[str, Attribution | XaiCompareError]:
    """Like `compare`, but a method that can't explain this model leaves its error in its place."""
    chosen: Iterable[Any] = METHODS.names() if _is_all(methods) else [methods] if _is_method(methods) else methods  # type: ignore[assignment]
    built = [METHODS.build(method) for method in chosen]
    model = callable_network(model)
    checked = checked_inputs(model, inputs)
    with borrowed(model):
        logits = outputs(model, checked, 64) if target is None else None
    classes = resolved_target(target, checked, logits)
    return {
        label: _attempt(method, model, checked, classes, strict)
        for label, method in zip(labels(built), built, strict=True)
    }


def _attempt(
    method: Method, model: nn.Module, inputs: Tensor, target: Tensor, strict: bool
) -> Attribution | XaiCompareError:
    try:
        return method.attribute(model, inputs, target, strict=strict)
    except XaiCompareError as error:
        return error


def labels(methods: list[Method]) -> list[str]:
    """A short label for each method: its name, with the settings that were changed where the name alone is not unique.

    Raises:
        XaiCompareError: two methods are the same in every setting.
    """
    names = [method.name for method in methods]
    found = [method.label() if names.count(method.name) > 1 else method.name for method in methods]
    twice = {label for label in found if found.count(label) > 1}
    if twice:
        raise XaiCompareError(f"{', '.join(sorted(twice))} is given twice; expected each method once.")
    return found


def score(
    model: nn.Module, attribution: Attribution, metric: str | Metric, masks: Tensor | None = None, **settings: Any
) -> Tensor:
    """Judges an attribution by one metric, given by name with its settings or as an object; one value per sample, (n,).

    Args:
        masks: (n, *spatial) bool, True on the object; for metrics of localisation, and no others.

    >>> import torch
    >>> model = torch.nn.Linear(4, 3)
    >>> explained = attribute(model, torch.ones(2, 4), method="saliency")
    >>> score(model, explained, metric="confidence_removal", order="most", share=0.5).shape
    torch.Size([2])

    Raises:
        UnknownNameError: no such metric or setting; the known ones are listed.
        SettingError: a setting is out of range.
        InputError: masks are missing, not asked for, or don't fit.
    """
    return METRICS.build(metric, **settings)(model, attribution, masks)


def curve(model: nn.Module, attribution: Attribution, metric: str | Metric, **settings: Any) -> Curve:
    """What a metric saw on its way to its value: a quantity at each share removed, for metrics that are areas.

    >>> import torch
    >>> model = torch.nn.Linear(4, 3)
    >>> explained = attribute(model, torch.ones(2, 4), method="saliency")
    >>> curve(model, explained, metric="deletion", fill=0.5).values.shape
    torch.Size([2, 21])

    Raises:
        UnknownNameError: no such metric or setting; the known ones are listed.
        SettingError: a setting is out of range.
        XaiCompareError: a metric that is no area under a curve.
    """
    built = METRICS.build(metric, **settings)
    if not isinstance(built, CurveMetric):
        known = [name for name in METRICS.names() if issubclass(METRICS[name], CurveMetric)]  # type: ignore[arg-type]
        raise XaiCompareError(f"{built.name} is no metric with a curve; expected one of {', '.join(known)}.")
    return built.curve(model, attribution)
