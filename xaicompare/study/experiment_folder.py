"""The folder of an experiment: runs, answers, figures, the report, and what it ran on."""

import json
from pathlib import Path

from xaicompare.figures import multiplier_courses, size_accuracy, training_curves
from xaicompare.files import replacing
from xaicompare.runs import Runs
from xaicompare.stats import arm_means, differences, sizes
from xaicompare.study.experiment import Experiment
from xaicompare.study.surroundings import surroundings
from xaicompare.study.verdict import report


def save_experiment(experiment: Experiment, runs: Runs, folder: str | Path) -> list[Path]:
    """Writes everything that an experiment leaves behind beside its runs, and says which files there are."""
    folder = Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    with replacing(folder / "experiment.toml") as path:  # as it was read, whatever the file says by now
        path.write_text(experiment.text, encoding="utf-8")
    with replacing(folder / "means.csv") as path:
        arm_means(runs, experiment.baseline).to_csv(path, index=False)
    if len(experiment.arms) > 1:
        with replacing(folder / "differences.csv") as path:
            differences(runs, experiment.baseline).to_csv(path, index=False)
    with replacing(folder / "environment.json") as path:
        path.write_text(json.dumps({"seed": experiment.seed, **surroundings()}, indent=2) + "\n", encoding="utf-8")
    with replacing(folder / "report.md") as path:
        path.write_text(report(experiment, runs), encoding="utf-8")
    training_curves(runs, experiment.baseline).savefig(
        folder / "figures" / "training.png", dpi=150, bbox_inches="tight"
    )
    if len(sizes(runs, experiment.baseline)):
        with replacing(folder / "sizes.csv") as path:
            sizes(runs, experiment.baseline).to_csv(path, index=False)
        size_accuracy(runs, experiment.baseline).savefig(folder / "figures" / "size.png", dpi=150)
    if len(runs.multipliers):
        multiplier_courses(runs).savefig(folder / "figures" / "multipliers.png", dpi=150)
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]
