"""The verbs: attribute, compare, score."""

import warnings
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

import xaicompare.methods  # registers the methods
import xaicompare.metrics  # noqa: F401 (registers the metrics)
from xaicompare.borrow import borrowed
from xaicompare.boundary import Target, checked_inputs, outputs, resolved_target
from xaicompare.core import Attribution, Curve, CurveMetric, Method, Metric
from xaicompare.errors import XaiCompareError
from xaicompare.registry import METHODS, METRICS


def attribute(
    model: nn.Module,
    inputs: Tensor,
    method: str | Method | Target = "saliency",
    target: Target | str | Method = None,
    *,
    strict: bool = True,
    **settings: Any,
) -> Attribution:
    """Explains the model's output by one method, given by name with its settings or as an object.

    Method and target may come in either order: a name or a Method is the method, all else is the target.

    >>> import torch
    >>> model = torch.nn.Linear(4, 3)
    >>> attribute(model, torch.ones(2, 4), target=0, method="integrated_gradients", n_steps=8).values.shape
    torch.Size([2, 4])

    Args:
        model: maps inputs to (n, classes); run in evaluation mode, given back untouched.
        inputs: (n, c, h, w) or (n, features), floating point.
        method: a name (`xaicompare methods` lists them) or a Method.
        target: None (the predicted class), a class, or (n,) classes.
        strict: raise where a promised completeness failed; False returns such values, with `status` "failed".
        settings: the method's fields.

    Raises:
        UnknownNameError: no such method, setting or layer; the known ones are listed.
        SettingError: a setting is out of range.
        InputError: inputs, target or baseline don't fit the model.
        UnsupportedModelError: the method has no right answer on this model.
        IncompleteError: the values miss what they must sum to by more than a tenth of it.
    """
    chosen, classes = _told_apart(method, target)
    return METHODS.build(chosen, **settings).attribute(model, inputs, classes, strict=strict)


def _told_apart(method: str | Method | Target, target: Target | str | Method) -> tuple[str | Method, Target]:
    """The method and the target, in whichever order they were given; without a method it is saliency."""
    given = [each for each in (method, target) if _is_method(each)]
    if len(given) == 2:  # one of them is a slip, which the boundary tells
        return (target, method) if method not in METHODS and target in METHODS else (method, target)  # type: ignore[return-value]
    if given:
        return (method, target) if _is_method(method) else (target, method)  # type: ignore[return-value]
    if target is not None and method is not None:
        raise XaiCompareError(f"method is {method!r}; expected a name or a Method beside the target.")
    return "saliency", target if method is None else method  # type: ignore[return-value]


def _is_method(given: object) -> bool:
    return isinstance(given, (str, Method)) or (isinstance(given, type) and issubclass(given, Method))


def compare(
    model: nn.Module,
    inputs: Tensor,
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
        methods: names or Methods; one alone is enough. "all" stands for every registered method that can explain this
            model; a warning names those that can't.

    Raises:
        XaiCompareError: the first error that one of them raised; with "all", where none of them can explain it.
    """
    many = attempted(model, inputs, methods, target, strict=strict)
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
