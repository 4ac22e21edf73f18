"""Layer-wise feedback propagation as an arm."""

from typing import Any, final

from torch import nn

from xaicompare.lrp import FeedbackPropagation
from xaicompare.lrp.feedback import RewardName
from xaicompare.settings import Positive, frozen
from xaicompare.training.arms import Arm, arm
from xaicompare.training.course import Course
from xaicompare.training.lesson import Lesson


@final
@arm
@frozen
class LFP(Arm):
    """Layer-wise feedback propagation; see `FeedbackPropagation`, whose settings these are."""

    name = "lfp"

    rule: str | dict[str, Any] = "epsilon"
    reward: RewardName = "loss"
    gain: Positive = 1.0

    def train(self, course: Course) -> nn.Module:
        """One stage, with the model wrapped."""
        model = course.network()
        feedback = FeedbackPropagation(model, self.rule, self.reward, gain=self.gain)
        course.fit(model, Lesson(lambda inputs, _: feedback(inputs)))
        return model
