"""The arms of a training experiment: ways to train, which differ in nothing else."""

from abc import ABC, abstractmethod
from typing import Any, Literal, final

from torch import nn

from xaicompare.errors import SettingError
from xaicompare.lrp import RelevanceGuidance
from xaicompare.lrp.guidance import Factor, Start
from xaicompare.registry import Registry
from xaicompare.settings import Count, Finite, Positive, Settings, frozen
from xaicompare.training.course import Course
from xaicompare.training.lesson import Lesson
from xaicompare.training.losses import steps_between_looks


class Arm(Settings, ABC):
    """A way to train; leaves are frozen settings. `@arm` registers a class for experiment files."""

    @abstractmethod
    def train(self, course: Course) -> nn.Module:
        """A network trained on the course's images, in as many stages as it takes."""


ARMS: Registry[Arm] = Registry("arm")


def arm(cls: type[Arm]) -> type[Arm]:
    """Class decorator: registers an arm under its name."""
    return ARMS.add(cls.name, cls)


@final
@arm
@frozen
class Plain(Arm):
    """Ordinary training."""

    name = "plain"

    def train(self, course: Course) -> nn.Module:
        """One stage."""
        model = course.network()
        course.fit(model)
        return model


@final
@arm
@frozen
class Guided(Arm):
    """Relevance-guided training; see `RelevanceGuidance`, whose settings these are."""

    name = "guided"

    factor: Finite | dict[str, Finite] | Literal["learned"] = 0.1  # {from = 1, to = 0, batches = 500}: a straight line
    rule: str | dict[str, Any] = "epsilon"
    layers: str | tuple[str, ...] = "linear"
    start: Start = "outputs"
    filters: bool = False
    normalise: Literal["max", "mean"] | None = None
    centre: bool = False
    clamp: tuple[Finite, Finite] | None = None
    bound: Positive = 1.0
    factor_lr: Positive = 0.01  # the learning rate of learned factors
    record_every: Count | None = 50

    def train(self, course: Course) -> nn.Module:
        """One stage, with the model wrapped."""
        model = course.network()
        course.fit(model, self.lesson(model))
        return model

    def lesson(self, model: nn.Module) -> Lesson:
        """The model, wrapped."""
        guidance = RelevanceGuidance(
            model,
            _schedule(self.factor) if isinstance(self.factor, dict) else self.factor,
            self.rule,
            self.layers,
            self.start,
            filters=self.filters,
            normalise=self.normalise,
            centre=self.centre,
            clamp=self.clamp,
            bound=self.bound,
            record_every=self.record_every,
            check_every=steps_between_looks(next(model.parameters()).device),
        )
        learned = [] if guidance.learned is None else list(guidance.learned.parameters())
        more = [{"params": learned, "lr": self.factor_lr}] if learned else []
        return Lesson(guidance, more=more, multipliers=guidance.recorded, look=guidance.look)


_LINE = {"from", "to", "batches"}


def _schedule(factor: dict[str, float]) -> Factor:
    """A straight line over the batches, if that is what the table says; else it is a factor by layer."""
    if set(factor) != _LINE:
        if _LINE & set(factor):
            raise SettingError(f"factor={factor}; expected from, to and batches, or a number for each layer.")
        return factor
    begin, end, batches = factor["from"], factor["to"], factor["batches"]
    if batches < 1:
        raise SettingError(f"factor={factor}; expected at least one batch.")
    return lambda batch: begin + (end - begin) * min(1.0, batch / batches)
