"""Several trainings of one network at once, step by step: their parameters stacked, one set of operations for all."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from xaicompare.draws import generator
from xaicompare.lrp import RelevanceGuidance
from xaicompare.lrp.rules import Epsilon
from xaicompare.training.arms import Arm, Guided, Plain
from xaicompare.training.captured import Captured, recorder_for
from xaicompare.training.course import Course
from xaicompare.training.fit import Fit, accuracy, descent
from xaicompare.training.losses import diverged, steps_between_looks
from xaicompare.training.stacked import STARTS, Guide, Leaf, gradients, leaves_of
from xaicompare.training.stopping import Watch
from xaicompare.zoo.images import ImageArray, Images


@dataclass(eq=False)
class Member:
    """One of the trainings; what comes of it is noted here and in its course."""

    arm: Plain | Guided
    course: Course
    complaint: str = ""  # why it broke off
    losses: list[float] = field(default_factory=list)  # of the epochs that are over
    batches: int = 0
    sums: tuple[float, int] = (0.0, 0)  # of losses, and of images, of this epoch
    done: bool = False


def can_join(arm: Arm, model: nn.Module) -> bool:
    """Whether an arm trains a model in steps that others can share.

    Plain training does, and guidance by LRP-epsilon with fixed factors and without stabilisers; of networks, those that
    are a sequence of linear layers, convolutions, ReLUs, max-poolings and flattenings.
    """
    if leaves_of(model) is None:
        return False
    if isinstance(arm, Guided):
        fixed = not isinstance(arm.factor, str) and "batches" not in (
            arm.factor if isinstance(arm.factor, dict) else ()
        )
        plain = not arm.filters and arm.normalise is None and not arm.centre and arm.clamp is None
        rule = _guidance(arm, model).rule if fixed and plain else None
        return isinstance(rule, Epsilon) and rule.of is None and rule.epsilon > 0
    return isinstance(arm, Plain)


def _guidance(arm: Guided, model: nn.Module) -> RelevanceGuidance:
    guidance = arm.lesson(model).logits
    assert isinstance(guidance, RelevanceGuidance)
    return guidance


def lockstep(members: Sequence[Member], *, graphs: bool = False) -> None:
    """Trains the networks of all members, which have one recipe but for its seed, as many images, and one shape.

    Each learns what it would alone, up to the order of sums: images, initial weights and order of batches are those of
    its seed. Nothing is recorded of multipliers. A loss that is not finite ends a training, but its weights go on with
    the others', and may not be finite. Seconds are those of all together.

    Args:
        graphs: record a step once, for each size of a batch, and play it back as a CUDA graph; on a CPU it saves
            nothing and changes no weight.
    """
    group = _Group(members, graphs=graphs)
    started = time.perf_counter()
    group.train()
    seconds = time.perf_counter() - started
    for member, model in zip(members, group.models, strict=True):
        model.eval()
        member.course.trained.append(model)
        if not member.complaint:
            member.course.stages.append(Fit(tuple(member.losses), seconds, member.batches))


class _Group:
    """The trainings of `lockstep`, and what they share."""

    def __init__(self, members: Sequence[Member], *, graphs: bool) -> None:
        self.members, self.graphs = members, graphs
        courses = [member.course for member in members]
        self.recipe = courses[0].recipe
        self.count = len(courses[0].dataset.train)
        assert all(replace(each.recipe, seed=self.recipe.seed) == self.recipe for each in courses)
        assert all(len(each.dataset.train) == self.count for each in courses)
        assert not self.recipe.bf16
        self.models = [course.network() for course in courses]
        self.images = _joined([course.dataset.train for course in courses])
        self.names = [name for name, _ in self.models[0].named_parameters()]
        self.stacked = {name: nn.Parameter(self._together(name)) for name in self.names}
        leaves = leaves_of(self.models[0])
        assert leaves is not None
        self.leaves: list[Leaf] = leaves
        self.guide = _guide(members, self.models)
        self.watches = [_watch(course) for course in courses]
        self.draws = [generator(course.recipe.seed) for course in courses]
        self.every = steps_between_looks(self.images.labels.device)
        self.waiting: list[tuple[Tensor, int, int]] = []  # losses (k,), of how many images each, and of which batch

    def _together(self, name: str) -> Tensor:
        return torch.stack([model.get_parameter(name).detach() for model in self.models])

    def train(self) -> None:
        """All epochs, or until every training has stopped."""
        self._train()
        for place, member in enumerate(self.members):
            self._end(place, member)

    def _train(self) -> None:
        batches = math.ceil(self.count / self.recipe.batch_size)
        groups: list[dict[str, Any]] = [{"params": list(self.stacked.values())}]
        optimizer, schedule = descent(groups, self.recipe, steps=self.recipe.epochs * batches)
        step = self._step()
        for epoch in range(1, self.recipe.epochs + 1):
            for batch, (inputs, labels) in enumerate(self._batches()):
                with torch.no_grad():
                    found, losses = step(inputs, labels)
                for name, parameter in self.stacked.items():
                    parameter.grad = found[name]
                optimizer.step()
                schedule.step()
                self.waiting.append((losses.clone() if self.graphs else losses, labels.shape[1], batch))
                for member in self.members:
                    member.batches += not member.done
                if len(self.waiting) >= self.every:
                    self._look(epoch)
                self._watch_over(epoch)
                if all(member.done for member in self.members):
                    return
            self._look(epoch)
            for member in self.members:
                self._close(member)

    def _step(self) -> Callable[[Tensor, Tensor], Any]:
        """Gradients by parameter (k, ...) and losses (k,) of inputs (k, n, c, h, w) and labels (k, n)."""
        mapped = torch.func.vmap(lambda *given: gradients(self.leaves, *given))
        values = {name: each.detach() for name, each in self.stacked.items()}  # the optimizer writes to the same memory

        def step(inputs: Tensor, labels: Tensor) -> Any:
            return mapped(values, self.guide, inputs, labels)

        return Captured(step, recorder_for(self.images.labels.device)) if self.graphs else step

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs (k, n, c, h, w) and labels (k, n): all images once, each training in an order of its own."""
        orders = torch.stack([torch.randperm(self.count, generator=draws) for draws in self.draws])  # (k, images)
        starts = self.count * torch.arange(len(orders))[:, None]
        for places in orders.split(self.recipe.batch_size, dim=1):
            inputs, labels = self.images.batch((places + starts).flatten())
            inputs, labels = inputs.unflatten(0, places.shape), labels.unflatten(0, places.shape)
            if self.recipe.flip:
                chosen = torch.stack([torch.rand(places.shape[1], generator=draws).lt(0.5) for draws in self.draws])
                inputs = torch.where(chosen.to(inputs.device)[..., None, None, None], inputs.flip(-1), inputs)
            yield inputs, labels

    def _look(self, epoch: int) -> None:
        """Reads the losses that nobody looked at yet; a training whose loss is not finite has ended."""
        if not self.waiting:
            return
        table = torch.stack([losses for losses, *_ in self.waiting]).tolist()
        for values, (_, n, batch) in zip(table, self.waiting, strict=True):
            for member, value in zip(self.members, values, strict=True):
                if member.done:
                    continue
                if not math.isfinite(value):
                    member.complaint = str(diverged(value, epoch, batch, repr(member.course.recipe)))
                    member.done = True
                member.sums = member.sums[0] + value * n, member.sums[1] + n
        self.waiting = []

    def _watch_over(self, epoch: int) -> None:
        """Trainings that are to stop early do, with their best weights."""
        if not [watch for watch in self.watches if watch is not None and watch.is_due()]:
            return
        self._look(epoch)
        for place, (member, watch) in enumerate(zip(self.members, self.watches, strict=True)):
            if watch is None or member.done:
                continue
            assert member.course.held is not None
            self._write(place)
            if watch.stops(self.models[place], accuracy(self.models[place], member.course.held)):
                self._close(member)
                self._end(place, member)

    def _close(self, member: Member) -> None:
        """An epoch of a training is over."""
        if not member.done:
            member.losses.append(member.sums[0] / member.sums[1])
            member.sums = 0.0, 0

    def _end(self, place: int, member: Member) -> None:
        """A training is over: its network has the weights that it shall keep."""
        watch = self.watches[place]
        if not member.done or member.complaint:
            self._write(place)
        if not member.done and watch is not None:
            watch.restore(self.models[place])
        member.done = True

    def _write(self, place: int) -> None:
        with torch.no_grad():
            for name, parameter in self.models[place].named_parameters():
                parameter.copy_(self.stacked[name][place])


def _joined(images: Sequence[Images]) -> ImageArray:
    """The images of all trainings, one after the other."""
    arrays = [each for each in images if isinstance(each, ImageArray)]
    assert len(arrays) == len(images)
    pixels, labels = (torch.cat([getattr(each, name) for each in arrays]) for name in ("pixels", "labels"))
    return ImageArray(pixels, labels, arrays[0].scale)


def _guide(members: Sequence[Member], models: Sequence[nn.Module]) -> Guide:
    """How each is guided."""
    device = next(models[0].parameters()).device
    rows: list[tuple[dict[str, float], float, int]] = []
    for member, model in zip(members, models, strict=True):
        if isinstance(member.arm, Plain):
            rows.append(({}, 1.0, 0))
            continue
        guidance = _guidance(member.arm, model)
        assert isinstance(guidance.rule, Epsilon)
        rows.append((guidance.factors(), guidance.rule.epsilon, STARTS.index(guidance.start)))
    layers = dict.fromkeys(name for factors, *_ in rows for name in factors)
    made = {name: torch.tensor([factors.get(name, 0.0) for factors, *_ in rows], device=device) for name in layers}
    epsilon, start = (torch.tensor([row[place] for row in rows], device=device) for place in (1, 2))
    return Guide(made, epsilon, start)


def _watch(course: Course) -> Watch | None:
    if course.watch is None:
        return None
    made = course.watch(len(course.dataset.train))
    course.watches.append(made)
    return made
