"""Right for the right reasons: a loss that counts what explanations find outside a mask, too."""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from xaicompare.errors import DataError, SettingError, unknown
from xaicompare.lrp import NAMED, relevance
from xaicompare.settings import NonNegative, frozen
from xaicompare.training.arms import Arm, arm
from xaicompare.training.course import Course
from xaicompare.training.lesson import Batch, Lesson, mean_cross_entropy

Masks = Callable[[Tensor], Tensor]
"""Of places (n,), where what decides the class lies, (n, h, w) bool."""


def outside(explanation: Tensor, mask: Tensor) -> Tensor:
    """The mean over samples of the squared explanation (n, c, h, w), summed where the mask (n, h, w) is False."""
    return explanation.square().sum(1).masked_fill(mask, 0).sum() / len(explanation)


def log_probability_gradient(logits: Tensor, inputs: Tensor) -> Tensor:
    """The gradient, of the inputs' shape, of the sum of all classes' log-probabilities; it can be differentiated."""
    return torch.autograd.grad(logits.log_softmax(1).sum(), inputs, create_graph=True)[0]


@final
@arm
@frozen
class RightReasons(Arm):
    """Cross-entropy plus `weight` times the squared explanation outside the masks of the training images.

    Source: Ross, Hughes, Doshi-Velez 2017, Right for the right reasons, arXiv:1703.03717, equation 1; the term that
    shrinks all weights is left out.
    Differs: mean over samples, as in cross-entropy, not their sum; relevance of the label's output as an alternative.
    """

    name = "right_reasons"

    weight: NonNegative = 1.0  # 0 trains plainly, bit by bit
    explanation: str = "gradient"  # of the log-probabilities; or an LRP composite by name, such as "epsilon"

    def __post_init__(self) -> None:
        if self.explanation != "gradient" and self.explanation not in NAMED:
            raise SettingError(str(unknown("explanation", self.explanation, ["gradient", *NAMED])))

    def train(self, course: Course) -> nn.Module:
        """One stage, with another loss.

        Raises:
            DataError: nobody knows what decides the class of the training images.
            SettingError: the recipe flips images, or leaves some out, so that masks don't fit.
        """
        model, images = course.network(), course.dataset.train
        if course.recipe.flip or course.recipe.limit is not None:
            raise SettingError(f"{course.recipe!r}; expected neither flip nor limit: masks have to fit the images.")
        if images.masks(torch.arange(1)) is None:
            raise DataError(
                f"data set {course.dataset.name} has no masks; expected them for its images. Use planted or mosaic."
            )
        course.fit(model, self.lesson(model, images.masks))  # type: ignore[arg-type] # there are masks
        return model

    def lesson(self, model: nn.Module, masks: Masks) -> Lesson:
        """The model, with that loss."""
        if self.weight == 0:
            return Lesson.plain(model)
        return Lesson(self._logits(model), self._loss(model, masks))

    def _logits(self, model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
        if self.explanation == "gradient":
            return lambda inputs, _: model(inputs.requires_grad_())
        return lambda inputs, _: model(inputs)

    def _loss(self, model: nn.Module, masks: Masks) -> Callable[[Tensor, Batch], Tensor]:
        def loss(logits: Tensor, batch: Batch) -> Tensor:
            if self.explanation == "gradient":
                found = log_probability_gradient(logits, batch.inputs)
            else:
                found = relevance(
                    model, batch.inputs, batch.labels, self.explanation, layers=(), create_graph=True
                ).values
            mask = masks(batch.places).to(found.device)
            return mean_cross_entropy(logits, batch) + self.weight * outside(found, mask)

        return loss
