"""One training as an arm sees it: the images it may use, a network to begin with, and the stages it goes through."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import nn

from xaicompare.lrp.guidance import Quantiles
from xaicompare.training.fit import Fit, Recipe, fit
from xaicompare.training.lesson import Lesson
from xaicompare.training.stopping import Watch
from xaicompare.zoo.images import Dataset, Images


@dataclass(frozen=True, eq=False)
class Course:
    """What is the same for every arm of one cell of an experiment, and a record of what the arm made of it."""

    dataset: Dataset  # `train`: what is to be learnt from; `test` is for the judge alone
    recipe: Recipe
    network: Callable[[], nn.Module]  # another copy of the untrained network, in training mode
    held: Images | None = None  # images to validate by; None: no early stopping
    watch: Callable[[int], Watch] | None = None  # stops a stage of so many images early
    trained: list[nn.Module] = field(default_factory=list)  # the network of each stage, also of one that broke off
    stages: list[Fit] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)
    multipliers: list[Quantiles] = field(default_factory=list)

    def fit(
        self,
        model: nn.Module,
        lesson: Lesson | None = None,
        *,
        images: Images | None = None,
        epochs: int | None = None,
        steps: int | None = None,
    ) -> Fit:
        """One stage: trains the model in place, by default on all images and for as long as the recipe says.

        Args:
            steps: so many instead of whole epochs.

        Raises:
            DivergedError: the loss is no longer a finite number.
        """
        self.trained.append(model)
        images = self.dataset.train if images is None else images
        recipe = self.recipe if epochs is None else replace(self.recipe, epochs=epochs)
        watch = None if self.watch is None else self.watch(len(images))
        if watch is not None:
            self.watches.append(watch)
        try:
            dataset = replace(self.dataset, train=images)
            self.stages.append(fit(model, dataset, recipe, lesson, steps=steps, watch=watch, validation=self.held))
        finally:
            self.multipliers.extend(() if lesson is None else lesson.multipliers)
        return self.stages[-1]
