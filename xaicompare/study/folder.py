"""The folder of a study's results: tables, figures, the study file, and what it ran on."""

import json
from pathlib import Path

from xaicompare.borrow import borrowed
from xaicompare.boundary import class_scores
from xaicompare.core import Attribution
from xaicompare.errors import DataError
from xaicompare.figures import (
    Figure,
    class_relevance,
    cost_quality,
    critical_difference,
    grid,
    metric_agreement,
    removal_curves,
    scoreboard,
)
from xaicompare.files import replacing
from xaicompare.lrp import relevance
from xaicompare.methods import LRP
from xaicompare.results import Table
from xaicompare.stats import agreement, paired_tests
from xaicompare.study._common import read
from xaicompare.study.examples import Examples
from xaicompare.study.run import Outcome
from xaicompare.study.spec import removes_confidence
from xaicompare.study.subject import fitted, part_of
from xaicompare.study.summary import summary
from xaicompare.study.surroundings import surroundings

_PICTURES = ("agreement", "cost", "grid", "mistakes", "ranks", "removal", "scoreboard")
_OURS = ("cells", "results.parquet")  # what the folder of a study has, sooner or later


def claimed(folder: Path, *, quick: bool = False) -> None:
    """Makes sure that a folder is a study's, or free to become one.

    Args:
        quick: whether the results will be of a quick look, which don't go where others are, nor others where they are.

    Raises:
        DataError: it holds something else, which results might replace.
    """
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / name).exists() for name in _OURS):
        held = sorted(path.name for path in folder.iterdir())[:3]
        raise DataError(
            f"{folder} holds {', '.join(held)}, and no study; expected a new or empty folder, or that of a study. "
            "Choose another with --out."
        )
    there = folder / "study.toml"
    if there.exists() and (was_quick := read(there)[0].get("quick") is True) != quick:
        kinds = ("a quick look", "a full study") if was_quick else ("a full study", "a quick look")
        raise DataError(
            f"{folder} holds the results of {kinds[0]}; expected another folder for {kinds[1]}, lest the one replaces "
            "the other. Choose one with --out."
        )


def save(outcome: Outcome, folder: str | Path) -> list[Path]:
    """Writes everything that a study leaves behind, and says which files."""
    folder = Path(folder)
    written = outcome.results.save(folder)
    tables = _tables(outcome)
    for name, table in tables.items():
        with replacing(folder / name) as path:
            table.to_csv(path, index=False)
    with replacing(folder / "README.md") as path:
        path.write_text(summary(outcome), encoding="utf-8")
    with replacing(folder / "study.toml") as path:  # as it was read, whatever the file says by now
        path.write_text(outcome.study.text, encoding="utf-8")
    with replacing(folder / "environment.json") as path:
        path.write_text(json.dumps(environment(outcome), indent=2) + "\n", encoding="utf-8")
    examples = Examples.of(outcome).save(folder)
    figures = _figures(outcome)
    for name, figure in figures.items():
        with replacing(folder / "figures" / name) as path:
            figure.savefig(path, dpi=150)
    names = [*tables, "README.md", "study.toml", "environment.json"]
    written += [folder / name for name in [*names, *(f"figures/{name}" for name in sorted(figures))]]
    written += examples
    for old in {folder / "leaderboard.csv", *(folder / "figures" / f"{name}.png" for name in _PICTURES)} - set(written):
        old.unlink(missing_ok=True)  # of another study, that this one does not make
    return written


def _tables(outcome: Outcome) -> dict[str, Table]:
    """What is told of methods and metrics, by the file's name; the leaderboard only where confidence was recorded."""
    tables = {
        "standings.csv": outcome.standings,
        "tests.csv": paired_tests(outcome.results),
        "agreement.csv": agreement(outcome.results).reset_index(names="metric"),
        "costs.csv": outcome.costs,
    }
    return ({"leaderboard.csv": outcome.leaderboard} if removes_confidence(outcome.study) else {}) | tables


def _figures(outcome: Outcome) -> dict[str, Figure]:
    """The pictures of a study, by the file's name."""
    subject, study = outcome.subject, outcome.study
    scale, results = subject.dataset.scale, outcome.results
    shown = min((len(made) for made in outcome.examples.values() if isinstance(made, Attribution)), default=0)
    metric = outcome.standings["metric"].iloc[0]
    drawn = {
        "scoreboard.png": scoreboard(results),
        "agreement.png": metric_agreement(results),
        "ranks.png": critical_difference(results, metric),
        "cost.png": cost_quality(results, outcome.costs, metric),
    }
    if shown:  # else every cell with maps to show failed, which the outcome tells
        drawn["grid.png"] = grid(
            {
                label: made.part(slice(shown)) if isinstance(made, Attribution) else made
                for label, made in outcome.examples.items()
            },
            classes=subject.dataset.classes,
            labels=None if subject.accuracy is None else subject.label[:shown],
            predicted=subject.predicted[:shown],
            mean=scale.mean,
            std=scale.std,
        )
    if removes_confidence(study):
        drawn["removal.png"] = removal_curves(results)
        drawn |= _mistakes(outcome)
    return drawn


def _mistakes(outcome: Outcome, rows: int = 4, classes: int = 4) -> dict[str, Figure]:
    """Misclassified images by the best LRP: the true class, the predicted one, and the next two, side by side.

    Nothing where there are none.
    """
    subject, study = outcome.subject, outcome.study
    ranked = (study.methods[label] for label in outcome.leaderboard["method"])
    best = next((method for method in ranked if isinstance(method, LRP) and method.engine == "native"), None)
    wrong = (subject.predicted != subject.label).nonzero().flatten()[:rows]
    if best is None or subject.accuracy is None or not len(wrong):
        return {}
    ready = fitted(best, subject.dataset.scale)
    assert isinstance(ready, LRP)
    scores = class_scores(subject.logits[wrong])
    shown = scores.scatter(1, subject.label[wrong, None], float("inf"))  # the true class first
    target = shown.topk(min(classes, shown.shape[1])).indices
    inputs = part_of(subject, wrong).inputs
    with borrowed(subject.model):
        made = relevance(subject.model, inputs, target, ready.rules, layers=())
    return {"mistakes.png": class_relevance(made, inputs, classes=subject.dataset.classes)}


def environment(outcome: Outcome) -> dict[str, object]:
    """What the results depend on beside the study file: data, weights, seed, versions, commit, machine."""
    subject = outcome.subject
    return {
        "dataset": subject.dataset.name,
        "model": f"{outcome.study.model.shown}, {subject.origin}",
        **({} if subject.accuracy is None else {"accuracy_on_these_images": subject.accuracy}),
        **({"note": subject.note} if subject.note else {}),
        **({"images": subject.dataset.note} if subject.dataset.note else {}),
        "seed": outcome.study.seed,
        **({"quick": True} if outcome.study.quick else {}),
        "left_out": dict(outcome.failed),
        "failed": dict(outcome.broken),
        **surroundings(),
    }
