"""Carries a training experiment out: every cell once, rows kept as they finish, and taken up again where it stopped."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import joblib
from torch import nn

from xaicompare.errors import DivergedError, StudyError, UnsupportedModelError
from xaicompare.progress import progress
from xaicompare.runs import Multipliers, Run, Runs
from xaicompare.study.experiment import Cell, Experiment
from xaicompare.training.course import Course
from xaicompare.training.fit import accuracy
from xaicompare.training.lockstep import Member, can_join
from xaicompare.training.lockstep import lockstep as in_lockstep
from xaicompare.training.stopping import Watch, split
from xaicompare.zoo import Dataset, ImageArray, build_model, load_dataset


def train(
    experiment: Experiment,
    folder: str | Path,
    *,
    jobs: int = 1,
    device: str = "cpu",
    lockstep: int = 1,
    graphs: bool = False,
) -> Runs:
    """All trainings of the experiment; those that the folder holds already are not done again.

    The folder keeps trainings of other shares, repeats and arms; they are not returned.

    Args:
        jobs: how many trainings at once, each in a process of its own; seconds are comparable with 1 only.
        lockstep: how many trainings of one share at once in this process, their steps taken together, where that is
            possible (see `xaicompare.training.lockstep.can_join`): on a GPU many small steps take the time of one. Rows
            count them as jobs, and multipliers are not recorded.
        graphs: play the steps of such trainings, also of one alone, back as CUDA graphs.

    Raises:
        StudyError: the folder holds trainings with other settings; or jobs stand beside lockstep or graphs.
        DataError: the data are absent.
    """
    if jobs > 1 and (lockstep > 1 or graphs):
        raise StudyError(f"jobs={jobs} beside lockstep={lockstep}, graphs={graphs}; expected one or the other.")
    folder = Path(folder)
    known = Runs.load(folder)
    open_cells = _missing(experiment, known, folder)
    images = len(_dataset(experiment).train)  # says at once what is absent
    total = sum(_share(images, cell.share) for cell in open_cells)
    if lockstep > 1 or graphs:
        made = _together(experiment, open_cells, lockstep, device, graphs=graphs)
    else:
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


def _together(
    experiment: Experiment, cells: list[Cell], lockstep: int, device: str, *, graphs: bool
) -> Iterator[tuple[Run, list[Multipliers]]]:
    """Trainings of one share and network, so many at once; those that can't be are done one by one."""
    groups: dict[object, list[Cell]] = {}
    joins = {arm: _joins(experiment, cell) for arm, cell in {cell.arm: cell for cell in cells}.items()}
    for cell in cells:
        alone = None if joins[cell.arm] else cell
        groups.setdefault((cell.share, repr(experiment.model_of(cell)), alone), []).append(cell)
    for group in groups.values():
        for some in (group[start : start + lockstep] for start in range(0, len(group), lockstep)):
            if not joins[some[0].arm] or (len(some) == 1 and not graphs):
                yield trained_cell(experiment, some[0], device)
                continue
            members = [Member(experiment.arms[cell.arm], _course(experiment, cell, device)) for cell in some]  # type: ignore[arg-type]
            started = time.perf_counter()
            in_lockstep(members, graphs=graphs)
            seconds = time.perf_counter() - started
            for cell, member in zip(some, members, strict=True):
                run = _row(experiment, cell, member.course, member.complaint, device)
                yield run._replace(jobs=len(some), seconds=seconds), []


def _joins(experiment: Experiment, cell: Cell) -> bool:
    dataset, (name, settings) = _dataset(experiment), experiment.model_of(cell)
    if experiment.recipe.bf16 or not isinstance(dataset.train, ImageArray):
        return False
    model = build_model(name, len(dataset.classes), dataset.channels, **settings)
    return can_join(experiment.arms[cell.arm], model)


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
    course = _course(experiment, cell, device)
    model, complaint, started = None, "", time.perf_counter()
    try:
        model = experiment.arms[cell.arm].train(course)
    except DivergedError as error:
        complaint = str(error)
    seconds = time.perf_counter() - started
    run = _row(experiment, cell, course, complaint, device, model)._replace(seconds=seconds)
    where = cell.arm, cell.share, cell.repeat
    return run, [Multipliers(*where, *told) for told in course.multipliers]  # type: ignore[arg-type] # mypy can't count


def _row(
    experiment: Experiment, cell: Cell, course: Course, complaint: str, device: str, model: nn.Module | None = None
) -> Run:
    """What a training left, judged on the test images; model None: the network of its last stage."""
    model = course.trained[-1] if model is None else model
    images = len(course.dataset.train) + (0 if course.held is None else len(course.held))
    score, test_seconds = _judged(model, course.dataset)
    watched = [value for watch in course.watches for _, value in watch.accuracies]
    return Run(
        key=experiment.key(cell),
        arm=cell.arm,
        share=cell.share,
        repeat=cell.repeat,
        seed=course.recipe.seed,
        images=images,
        accuracy=score,
        validation=max(watched, default=float("nan")),
        batches=sum(stage.batches for stage in course.stages),
        seconds=sum(stage.seconds for stage in course.stages),
        loss=course.stages[-1].losses[-1] if course.stages and not complaint else float("nan"),
        chance=1 / len(course.dataset.classes),
        complaint=complaint,
        device=device,
        jobs=1,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        test_seconds=test_seconds,
    )


def _course(experiment: Experiment, cell: Cell, device: str) -> Course:
    """What all arms of a cell begin with."""
    dataset, recipe, stopping = _dataset(experiment), experiment.recipe_of(cell), experiment.stopping
    kept, held = dataset.train.drawn(_share(len(dataset.train), cell.share), recipe.seed).to(device), None
    if stopping is not None:
        kept, held = split(kept, stopping.validation)

    name, settings = experiment.model_of(cell)

    def network() -> nn.Module:
        made = build_model(name, len(dataset.classes), dataset.channels, seed=recipe.seed, **settings)
        return made.to(device).train()

    def watch(images: int) -> Watch:
        assert stopping is not None
        return stopping.begin(images, recipe.batch_size, cell.share)

    return Course(replace(dataset, train=kept), recipe, network, held, watch if stopping is not None else None)


def _judged(model: nn.Module, dataset: Dataset) -> tuple[float, float]:
    """The share of the test images that a network gets right, and the seconds that took."""
    score, started = 1 / len(dataset.classes), time.perf_counter()
    with contextlib.suppress(UnsupportedModelError):  # weights that are not finite guess
        score = accuracy(model, dataset.test)
    return score, time.perf_counter() - started


def _share(images: int, share: float) -> int:
    return max(2, round(share * images))  # one can be held for validation
