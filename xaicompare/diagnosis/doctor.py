"""The examination itself, and what each method runs on."""

import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from xaicompare.borrow import borrowed
from xaicompare.boundary import checked_inputs, checked_outputs, finite, fitting, two_classes
from xaicompare.diagnosis import kinds
from xaicompare.diagnosis.findings import Diagnosis, Finding
from xaicompare.diagnosis.repair import Concat, Sum, repaired
from xaicompare.diagnosis.watch import Operation, Record, is_torchs, watched_pass
from xaicompare.errors import UnsupportedModelError

_traced: "weakref.WeakKeyDictionary[nn.Module, tuple[object, fx.GraphModule]]" = weakref.WeakKeyDictionary()
_known: "weakref.WeakKeyDictionary[nn.Module, tuple[object, Diagnosis]]" = weakref.WeakKeyDictionary()


def doctor(model: nn.Module, example: Tensor) -> Diagnosis:
    """Finds what in a model would make methods silently wrong, and builds a copy on which rule-based ones are right.

    The copy computes what the model computes, to 1e-5 of the largest output; the model is not changed. It is a
    snapshot where BatchNorm was merged, and else follows the model's parameters.

    >>> doctor(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.ones(2, 4))
    Diagnosis of Sequential: healthy

    Args:
        example: (n, c, h, w) or (n, features); with two samples or more it is seen, too, whether samples touch.

    Raises:
        InputError: the example doesn't fit the model.
    """
    inputs = checked_inputs(model, example)
    states = [*_in_training(model), *_in_place(model)]
    with borrowed(model), fitting(model, inputs):
        found, outputs = _examined(model, inputs)
        return _treated(model, inputs[:1], [*found, *states], outputs, merge=True)


def suited(model: nn.Module, inputs: Tensor, method: str) -> nn.Module:
    """What a rule-based method runs on: the model, or its repaired copy where the model would make it wrong.

    A diagnosis is kept for each model, until its structure changes.

    Raises:
        UnsupportedModelError: the method has no right answer; the message names the place.
    """
    diagnosis = _remembered(model, inputs)
    if not diagnosis.against(method):
        return model
    left = diagnosis.against(method, repaired=diagnosis.repaired is not None)
    if left or diagnosis.repaired is None:
        first = left[0]
        reason = "" if first.mended or diagnosis.reason is None else f" No repair: {diagnosis.reason}."
        raise UnsupportedModelError(f"there is no rule for {first.what} (at {first.where}). {first.fix}{reason}")
    return diagnosis.repaired


def _remembered(model: nn.Module, inputs: Tensor) -> Diagnosis:
    state = structure_of(model)
    known = _known.get(model)
    if known is None or known[0] != state:
        with borrowed(model):
            found, outputs = _examined(model, inputs[:1])
            known = _known[model] = state, _treated(model, inputs[:1], found, outputs, merge=False)
        if known[1].repaired is not None:  # what methods run on: the score of a class, also where there is one output
            known[1].repaired.register_forward_hook(two_classes)
    return known[1]


def steps_of(model: nn.Module, inputs: Tensor) -> tuple[object, fx.GraphModule]:
    """The model with every step a module of its own, and a token that stays the same while its structure does.

    It holds the model's own parameters. Kept for each model, like a diagnosis.

    Raises:
        UnsupportedModelError: the graph can't be traced.
    """
    state = structure_of(model)
    known = _traced.get(model)
    if known is None or known[0] != state:
        with borrowed(model):
            known = _traced[model] = state, repaired(model, inputs[:1].detach(), merge=False)
    return known


def structure_of(model: nn.Module) -> object:
    """What changes when the model is taken apart or moved, and not when it is trained."""
    modules = tuple((id(module), type(module)) for module in model.modules())
    tensors = tuple((id(tensor), tensor.dtype, tensor.device) for tensor in (*model.parameters(), *model.buffers()))
    return modules, tensors


def _treated(
    model: nn.Module, inputs: Tensor, found: list[Finding], outputs: Tensor | None, *, merge: bool
) -> Diagnosis:
    """The diagnosis, with a repaired copy where a finding calls for one."""
    name = type(model).__name__
    if not any(finding.mended for finding in found):
        return Diagnosis(name, tuple(found), None, "there is nothing that a copy would mend")
    try:
        return Diagnosis(name, tuple(found), repaired(model, inputs, merge=merge, expected=outputs), None)
    except UnsupportedModelError as error:
        unmended = tuple(replace(finding, mended=False) for finding in found)
        return Diagnosis(name, unmended, None, str(error))


def _examined(model: nn.Module, inputs: Tensor) -> tuple[list[Finding], Tensor | None]:
    """The findings, and the outputs of the first sample (1, classes)."""
    broken = list(_parameters(model))
    if broken:
        return broken, None  # its outputs say nothing
    record = watched_pass(model, inputs[:1])
    outputs = checked_outputs(record.outputs, 1).detach()
    touching = _touching(model, inputs, outputs)
    return [*_functions(record), *_modules(model, record), *_ends(outputs), *touching], outputs


def _functions(record: Record) -> Iterator[Finding]:
    """What runs outside modules; the same line is told once."""
    for operation in dict.fromkeys(record.operations):
        known = _judged(operation)
        if known is not None:
            yield known


def _judged(operation: Operation) -> Finding | None:
    name, where = operation.name, operation.where
    if name in kinds.LINEAR | kinds.SHAPES or (
        operation.moving < 2 and name in kinds.SUMS | kinds.CATS | kinds.PRODUCTS
    ):
        return None
    if name in kinds.ACTIVATIONS:
        if kinds.unruled(kinds.ACTIVATIONS[name]()):  # methods that know its module don't see the function
            return _no_rule(where, f"the function {name}()", kinds.RULES)
        what, fix = f"{name}() outside a module", f"Write it as nn.{kinds.ACTIVATIONS[name].__name__}."
        return Finding("functional activation", where, what, kinds.RULES, fix, mended=True)
    if name in kinds.POOLS:
        fix = f"Write it as nn.{kinds.POOLS[name].__name__}."
        return Finding("functional pooling", where, f"{name}() outside a module", (*kinds.DEEPLIFT, "lrp"), fix, True)
    if name in kinds.MEANS:
        fix = f"Write it as nn.{kinds.MEANS[name].__name__}."
        return Finding("functional pooling", where, f"{name}() outside a module", ("lrp",), fix, mended=True)
    if name in kinds.SUMS:
        return Finding(
            "sum of branches",
            where,
            "two branches that are summed",
            ("lrp",),
            "LRP needs a module here that shares relevance among the branches.",
            True,
        )
    if name in kinds.CATS:
        return Finding(
            "concatenation",
            where,
            "branches side by side",
            ("lrp",),
            "LRP needs a module here that shares relevance among the branches.",
            mended=True,
        )
    if name in kinds.PRODUCTS:
        affected = (*kinds.DEEPLIFT, "lrp", *kinds.BACKPROP) if name != "mul" else (*kinds.DEEPLIFT, "lrp")
        return Finding("product of branches", where, "one branch that multiplies another", affected, _OTHERS, False)
    return _no_rule(where, f"the function {name}()", kinds.RULES)


_OTHERS = "Use a method that needs gradients or outputs only, such as integrated_gradients or kernelshap."


def _no_rule(where: str, what: str, methods: tuple[str, ...]) -> Finding:
    return Finding("layer without a rule", where, what, methods, _OTHERS, mended=False)


def _modules(model: nn.Module, record: Record) -> Iterator[Finding]:
    """What the modules themselves are, of those that ran."""
    for name, module in model.named_modules():
        count, kind = record.calls[module], type(module).__name__
        if not count or not is_torchs(module):
            continue
        without = () if isinstance(module, (Sum, Concat)) else kinds.unruled(module)
        if without:
            yield _no_rule(name or "the model", kind, without)
        if (
            count > 1
            and not list(module.parameters())
            and not isinstance(module, (nn.Flatten, nn.Identity, nn.Dropout))
        ):
            what, fix = f"one {kind} that runs {count} times", "Give each place a module of its own."
            yield Finding("reused module", name, what, kinds.RULES, fix, mended=True)
        if kinds.is_batch_norm(module):
            yield Finding("BatchNorm", name, f"{kind} that is not merged", ("lrp",), "Merge it.", mended=True)


def _in_training(model: nn.Module) -> Iterator[Finding]:
    for name, module in model.named_modules():
        if module.training and (kinds.is_batch_norm(module) or isinstance(module, nn.modules.dropout._DropoutNd)):
            what, fix = f"{type(module).__name__} in training mode", "Explanations are made in evaluation mode."
            yield Finding("training mode", name, what, (), fix, mended=True)


def _in_place(model: nn.Module) -> Iterator[Finding]:
    for name, module in model.named_modules():
        if getattr(module, "inplace", False) is True:
            what, fix = f"{type(module).__name__} that overwrites its input", "Explanations are made with it lifted."
            yield Finding("in-place operation", name, what, (), fix, mended=True)


def _parameters(model: nn.Module) -> Iterator[Finding]:
    named: list[tuple[str, Any]] = [*model.named_parameters(), *model.named_buffers()]
    for name, tensor in named:
        if tensor.is_floating_point() and not finite(tensor):
            fix = "Load the weights again, or train with a smaller step."
            yield Finding("not finite", name, "NaN or inf among its values", kinds.RULES, fix, mended=False)


def _ends(outputs: Tensor) -> Iterator[Finding]:
    if kinds.bounded(outputs):
        what = "a softmax at the end: its gradients vanish where the model is sure, and classes share one sum"
        yield Finding(
            "softmax inside", "the outputs", what, (), "Explain the outputs before the softmax.", mended=False
        )


def _touching(model: nn.Module, inputs: Tensor, alone: Tensor) -> Iterator[Finding]:
    """Whether the outputs of the first sample, which are known alone, depend on a second one."""
    for name, module in model.named_modules():
        if kinds.is_batch_norm(module) and module.running_mean is None:
            yield _depends(name, "BatchNorm without running statistics")
            return
    if len(inputs) > 1:
        with torch.no_grad():
            beside = checked_outputs(model(inputs[:2]), 2)[:1]
        if not torch.allclose(alone, beside, rtol=1e-3, atol=1e-3 * float(beside.abs().max())):
            yield _depends("the outputs", "a dependence on the other samples of the batch")


def _depends(where: str, what: str) -> Finding:
    fix = "Explain samples one by one, or use running statistics."
    return Finding("batch-dependent", where, what, kinds.RULES, fix, mended=False)
