"""The folder of a study's results: tables, figures, the study file, and what it ran on."""

import json
from pathlib import Path

from xaicompare.borrow import borrowed
from xaicompare.core import Attribution
from xaicompare.figures import (
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
from xaicompare.study.examples import Examples
from xaicompare.study.run import Outcome
from xaicompare.study.spec import removes_confidence
from xaicompare.study.subject import first_samples, fitted
from xaicompare.study.summary import summary
from xaicompare.study.surroundings import surroundings


def save(outcome: Outcome, folder: str | Path, source: str | Path) -> list[Path]:
    """Writes everything that a study leaves behind, and says which files.

    Args:
        source: the study file, copied as it is.
    """
    folder = Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    outcome.results.save(folder)
    tables = _tables(outcome)
    for name, table in tables.items():
        with replacing(folder / name) as path:
            table.to_csv(path, index=False)
    with replacing(folder / "README.md") as path:
        path.write_text(summary(outcome), encoding="utf-8")
    with replacing(folder / "study.toml") as path:
        path.write_bytes(Path(source).read_bytes())
    with replacing(folder / "environment.json") as path:
        path.write_text(json.dumps(environment(outcome), indent=2) + "\n", encoding="utf-8")
    examples = Examples.of(outcome).save(folder)
    _draw(outcome, folder / "figures")
    names = ("results.parquet", "results.csv", *tables, "README.md", "study.toml", "environment.json")
    return [folder / name for name in names] + examples + sorted((folder / "figures").iterdir())


def _tables(outcome: Outcome) -> dict[str, Table]:
    """What is told of methods and metrics, by the file's name; the leaderboard only where confidence was recorded."""
    tables = {
        "standings.csv": outcome.standings,
        "tests.csv": paired_tests(outcome.results),
        "agreement.csv": agreement(outcome.results).reset_index(names="metric"),
        "costs.csv": outcome.costs,
    }
    return ({"leaderboard.csv": outcome.leaderboard} if removes_confidence(outcome.study) else {}) | tables


def _draw(outcome: Outcome, folder: Path) -> None:
    subject, study = outcome.subject, outcome.study
    scale = subject.dataset.scale
    made = [found for found in outcome.examples.values() if isinstance(found, Attribution)]
    shown = min(len(found) for found in made)  # dear methods may have explained fewer images than the grid shows
    examples = {
        label: first_samples(found, shown) if isinstance(found, Attribution) else found
        for label, found in outcome.examples.items()
    }
    picture = grid(
        examples,
        classes=subject.dataset.classes,
        labels=subject.label[:shown],
        predicted=subject.predicted[:shown],
        mean=scale.mean,
        std=scale.std,
    )
    picture.savefig(folder / "grid.png", dpi=150)
    metric = outcome.standings["metric"].iloc[0]
    scoreboard(outcome.results).savefig(folder / "scoreboard.png", dpi=150)
    metric_agreement(outcome.results).savefig(folder / "agreement.png", dpi=150)
    critical_difference(outcome.results, metric).savefig(folder / "ranks.png", dpi=150)
    cost_quality(outcome.results, outcome.costs, metric).savefig(folder / "cost.png", dpi=150)
    if removes_confidence(study):
        removal_curves(outcome.results).savefig(folder / "removal.png", dpi=150)
        _draw_mistakes(outcome, folder)


def _draw_mistakes(outcome: Outcome, folder: Path, rows: int = 4, classes: int = 4) -> None:
    """Misclassified images by the best LRP: the true class, the predicted one, and the next two, side by side."""
    subject, study = outcome.subject, outcome.study
    ranked = (study.methods[label] for label in outcome.leaderboard["method"])
    best = next((method for method in ranked if isinstance(method, LRP) and method.engine == "native"), None)
    wrong = (subject.predicted != subject.label).nonzero().flatten()[:rows]
    if best is None or not len(wrong):
        return
    ready = fitted(best, subject.dataset.scale)
    assert isinstance(ready, LRP)
    shown = subject.logits[wrong].scatter(1, subject.label[wrong, None], float("inf"))  # the true class first
    target = shown.topk(min(classes, shown.shape[1])).indices
    with borrowed(subject.model):
        made = relevance(subject.model, subject.inputs[wrong], target, ready.rules, layers=())
    picture = class_relevance(made, subject.inputs[wrong], classes=subject.dataset.classes)
    picture.savefig(folder / "mistakes.png", dpi=150)


def environment(outcome: Outcome) -> dict[str, object]:
    """What the results depend on beside the study file: data, weights, seed, versions, commit, machine."""
    subject = outcome.subject
    correct = float((subject.predicted == subject.label).double().mean())
    return {
        "dataset": subject.dataset.name,
        "model": f"{outcome.study.model.name}, {subject.origin}",
        "accuracy_on_these_images": correct,
        "seed": outcome.study.seed,
        "left_out": dict(outcome.failed),
        **surroundings(),
    }
