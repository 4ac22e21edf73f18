"""Carries a training experiment out: every cell once, rows kept as they finish, and taken up again where it stopped."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import joblib

from xaicompare.errors import DivergedError, StudyError, UnsupportedModelError
from xaicompare.progress import progress
from xaicompare.runs import Multipliers, Run, Runs
from xaicompare.study.experiment import Cell, Experiment
from xaicompare.training.fit import Fit, accuracy, fit
from xaicompare.training.stopping import split
from xaicompare.zoo import Dataset, build_model, load_dataset


def train(experiment: Experiment, folder: str | Path, *, jobs: int = 1, device: str = "cpu") -> Runs:
    """All trainings of the experiment; those that the folder holds already are not done again.

    The folder keeps trainings of other shares, repeats and arms; they are not returned.

    Args:
        jobs: how many trainings at once, each in a process of its own; seconds are comparable with 1 only.

    Raises:
        StudyError: the folder holds trainings with other settings.
        DataError: the data are absent.
    """
    folder = Path(folder)
    known = Runs.load(folder)
    open_cells = _missing(experiment, known, folder)
    images = len(_dataset(experiment).train)  # says at once what is absent
    total = sum(_share(images, cell.share) for cell in open_cells)
    made = _made(experiment, open_cells, jobs, device)
    for run, multipliers in progress(
        made, "trainings", total=total, unit=" images", weight=lambda done: done[0].images
    ):
        # Read anew: another process may have added to the folder.
        known = Runs.load(folder).joined(Runs.of([run], multipliers))
        known.save(folder)
    return known.of_cells(experiment.cells())


def _missing(experiment: Experiment, known: Runs, folder: Path) -> list[Cell]:
    table = known.table
    there = dict(zip(map(Cell, table["share"], table["repeat"], table["arm"]), table["key"], strict=True))
    for cell in experiment.cells():
        if there.get(cell, experiment.key(cell)) != experiment.key(cell):
            raise StudyError(
                f"{folder} holds a training of arm {cell.arm!r}, share {cell.share:g}, with other settings; expected a "
                "folder for each experiment. Choose another with --out, or remove it."
            )
    return [cell for cell in experiment.cells() if cell not in there]


def _made(experiment: Experiment, cells: list[Cell], jobs: int, device: str) -> Iterator[tuple[Run, list[Multipliers]]]:
    if jobs == 1:
        made = (trained_cell(experiment, cell, device) for cell in cells)
    else:
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
        made = parallel(joblib.delayed(trained_cell)(experiment, cell, device) for cell in cells)
    for run, multipliers in made:
        yield run._replace(jobs=jobs), multipliers


@cache
def _loaded(name: str, settings: tuple[tuple[str, object], ...]) -> Dataset:
    return load_dataset(name, **dict(settings))


def _dataset(experiment: Experiment) -> Dataset:
    settings = {
        key: tuple(value) if isinstance(value, list) else value for key, value in experiment.data_settings.items()
    }
    return _loaded(experiment.data, tuple(sorted(settings.items())))


def trained_cell(experiment: Experiment, cell: Cell, device: str = "cpu") -> tuple[Run, list[Multipliers]]:
    """One training, judged on the test images, and what its gradients were multiplied by.

    A training that breaks off is a result: its accuracy is that of the weights it left.
    """
    dataset, recipe = _dataset(experiment), experiment.recipe_of(cell)
    images = dataset.train.drawn(_share(len(dataset.train), cell.share), recipe.seed).to(device)
    name, settings = experiment.model_of(cell)
    model = build_model(name, len(dataset.classes), dataset.channels, seed=recipe.seed, **settings).to(device)
    lesson = experiment.arms[cell.arm].begin(model.train())
    stopping, watch, held, kept = experiment.stopping, None, None, images
    if stopping is not None:
        kept, held = split(images, stopping.validation)
        watch = stopping.begin(len(kept), recipe.batch_size, cell.share)
    complaint, started = "", time.perf_counter()
    try:
        went = fit(model, replace(dataset, train=kept), recipe, lesson, watch=watch, validation=held)
    except DivergedError as error:
        went, complaint = Fit((), time.perf_counter() - started, 0), str(error)
    chance = 1 / len(dataset.classes)
    score = chance
    with contextlib.suppress(UnsupportedModelError):  # weights that are not finite guess
        score = accuracy(model, dataset.test)
    run = Run(
        key=experiment.key(cell),
        arm=cell.arm,
        share=cell.share,
        repeat=cell.repeat,
        seed=recipe.seed,
        images=len(images),
        accuracy=score,
        validation=max((value for _, value in watch.accuracies), default=float("nan")) if watch else float("nan"),
        batches=went.batches,
        seconds=went.seconds,
        loss=went.losses[-1] if went.losses else float("nan"),
        chance=chance,
        complaint=complaint,
        device=device,
        jobs=1,
    )
    where = cell.arm, cell.share, cell.repeat
    return run, [Multipliers(*where, *told) for told in lesson.multipliers]  # type: ignore[arg-type] # mypy can't count


def _share(images: int, share: float) -> int:
    return max(2, round(share * images))  # one can be held for validation
