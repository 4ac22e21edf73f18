"""An experiment's answers in words and tables, all from its numbers."""

import math
from collections.abc import Sequence
from typing import Any

from xaicompare.results import Table
from xaicompare.runs import Runs
from xaicompare.stats import arm_means, differences, sizes
from xaicompare.study.experiment import Experiment, Published

Line = dict[str, Any]
Rows = tuple[list[str], list[list[str]]]
"""A table in words: its head, and its rows."""

_LEVEL = 0.05  # of the test behind the words


def report(experiment: Experiment, runs: Runs) -> str:
    """The report, in Markdown."""
    means, found = arm_means(runs, experiment.baseline), differences(runs, experiment.baseline)
    parts = [
        f"# {experiment.title}",
        _setting(experiment, runs),
        "## Verdict",
        "\n".join(_verdicts(experiment, means, found, sizes(runs, experiment.baseline))),
    ]
    parts += ["## Accuracy by share of the training images", _table(*_accuracies(experiment, means))]
    parts += [f"## Less {experiment.baseline}", _table(*_differences(found)), _LEGEND]
    head, rows = extents(experiment, runs)
    if rows:
        parts += ["## Size and speed", _table(head, rows), _EXTENT_LEGEND]
    broken = runs.table[runs.table["complaint"] != ""]
    if len(broken):
        told = [f"- {line['arm']}, {100 * line['share']:g} %: {line['complaint']}" for line in _lines(broken)]
        parts += ["## Trainings that broke off", "\n".join(told)]
    if experiment.published is not None:
        parts += ["## Beside the published table", _published(experiment.published, means)]
    return "\n\n".join(parts) + "\n"


_LEGEND = (
    "Difference: percentage points, mean over repeats and its 95 % interval: BCa bootstrap from 20 repeats up, "
    "Student's t below (differences.csv has the bootstrap's, too, which is too narrow for few repeats). It covers "
    "seeds, not other test images. p: Wilcoxon's signed-rank test, in brackets with Holm's correction for all "
    "arms; of n repeats it can't be below 2^(1 - n). Images saved: how many per cent fewer training images reach the "
    "same accuracy, interpolated on the baseline's curve between its ends; time saved: the same with seconds; - where "
    "that can't be told. Time: seconds over the baseline's."
)

_EXTENT_LEGEND = (
    "Parameters: numbers that the trained network holds, median over repeats. Test: seconds of its passes over the "
    "test images over the baseline's, median over repeats; - where seconds do not compare."
)


def answers(experiment: Experiment, runs: Runs) -> list[str]:
    """A few sentences on every arm but the baseline."""
    baseline = experiment.baseline
    return _verdicts(experiment, arm_means(runs, baseline), differences(runs, baseline), sizes(runs, baseline))


def accuracies(experiment: Experiment, runs: Runs) -> Rows:
    """Every arm's accuracy at every share, in percent."""
    return _accuracies(experiment, arm_means(runs, experiment.baseline))


def gaps(experiment: Experiment, runs: Runs) -> Rows:
    """Every arm beside the baseline at every share."""
    return _differences(differences(runs, experiment.baseline))


def extents(experiment: Experiment, runs: Runs) -> Rows:
    """How large and how fast every arm's networks are; no rows where all are of one size."""
    means = {(line["arm"], line["share"]): line for line in _lines(arm_means(runs, experiment.baseline))}
    rows = [
        [
            *(line["arm"], f"{100 * line['share']:g} %", f"{line['parameters']:,.0f}"),
            *(f"{line['parameters_ratio']:.0%}", _ratio(line["test_time"])),
            _accuracy(means[line["arm"], line["share"]]),
        ]
        for line in _lines(sizes(runs, experiment.baseline))
    ]
    return ["arm", "share", "parameters", f"of {experiment.baseline}'s", "test", "accuracy"], rows


def _verdicts(experiment: Experiment, means: Table, gaps: Table, sized: Table) -> list[str]:
    said = {
        arm: _verdict(experiment.baseline, _lines(means, arm), _lines(gaps, arm)) + _extent(_lines(sized, arm))
        for arm in dict.fromkeys(gaps["arm"])
    }
    return [f"- **{arm}**: {words}" for arm, words in said.items()]


def _verdict(baseline: str, means: list[Line], gaps: list[Line]) -> str:
    *cells, overall = gaps
    time = "" if math.isnan(overall["time"]) else f" It took {overall['time']:.2f} times as long."
    where = "over all shares" if len(cells) > 1 else f"at {_shares(cells)}"
    gap = f"{_points(overall)} points {where}"
    said = f"{_judgement(baseline, overall)}: {gap}, p = {_p(overall)}."
    shown = [cell for cell in cells if len(cells) > 1 and cell["p_holm"] <= _LEVEL]
    for word, sign in (("better", 1), ("worse", -1)):
        if found := [cell for cell in shown if sign * cell["difference"] > 0]:
            said += f" It is {word} at {_shares(found)}."
    return f"{said} {_collapses(means)}{_savings(overall)}{time}"


def _extent(sized: list[Line]) -> str:
    ratios = [line["parameters_ratio"] for line in sized]
    if not ratios or set(ratios) == {1.0}:
        return ""
    low, high = f"{min(ratios):.0%}", f"{max(ratios):.0%}"
    return f" It has {low if low == high else f'{low} to {high}'} of the parameters."


def _judgement(baseline: str, overall: Line) -> str:
    """A gain or a loss needs both the interval and the test; few repeats can't pass the test, whatever they say."""
    sign = 1 if overall["difference_low"] > 0 else -1 if overall["difference_high"] < 0 else 0
    word = {1: f"a gain over {baseline}", -1: f"a loss against {baseline}"}.get(sign)
    if word is None:
        return f"no gain over {baseline} that these {overall['repeats']} repeats could show"
    if overall["p_holm"] <= _LEVEL:
        return word
    return f"{word} by its interval, which the test of {overall['repeats']} repeats does not bear out"


def _p(line: Line) -> str:
    corrected = "" if line["p_holm"] == line["p"] else f" ({line['p_holm']:.2g} with Holm's correction)"
    return f"{line['p']:.2g}{corrected}"


def _collapses(means: list[Line]) -> str:
    fallen = [line for line in means if line["collapsed"] > 0]
    if not fallen:
        return "No run collapsed."
    count = sum(round(line["collapsed"] * line["repeats"]) for line in fallen)
    return f"{count} of {sum(line['repeats'] for line in means)} runs collapsed, at {_shares(fallen)}."


def _savings(overall: Line) -> str:
    if math.isnan(overall["saved"]):
        return ""
    images, time = (_percent(overall, name) for name in ("saved", "saved_time"))
    and_time = "" if time == "-" else f" and {time} of the time"
    return f" At equal accuracy it saves {images} of the images{and_time} (negative: it needs more)."


def _setting(experiment: Experiment, runs: Runs) -> str:
    stopping = "no early stopping" if experiment.stopping is None else repr(experiment.stopping)
    others = "".join(f" {arm}: {_told(*model)}." for arm, model in experiment.models.items())
    return (
        f"{experiment.model} on {experiment.data}, {len(runs)} trainings, seeds from {experiment.seed}; "
        f"`{experiment.recipe!r}`; {stopping}.{others}"
    )


def _told(model: str, settings: dict[str, Any]) -> str:
    """A model with its settings: `cnn(width=16)`."""
    return f"{model}({', '.join(f'{key}={value}' for key, value in settings.items())})"


def _accuracies(experiment: Experiment, means: Table) -> Rows:
    by_cell = {(line["share"], line["arm"]): line for line in _lines(means)}
    rows = []
    for share in sorted(experiment.shares):
        cells = [_accuracy(by_cell.get((share, arm))) for arm in experiment.arms]
        rows.append([f"{100 * share:g} %", *cells])
    return ["share", *experiment.arms], rows


def _accuracy(line: Line | None) -> str:
    """A cell of the table; what has not been trained yet is a dash."""
    if line is None:
        return "-"
    mean, low, high = (100 * line[name] for name in ("accuracy", "accuracy_low", "accuracy_high"))
    fallen = f", {line['collapsed']:.0%} collapsed" if line["collapsed"] else ""
    interval = "" if math.isnan(low) else f" ({low:.2f} to {high:.2f})"
    return f"{mean:.2f}{interval}{fallen}"


def _differences(gaps: Table) -> Rows:
    rows = []
    for line in _lines(gaps):
        share = "mean" if math.isnan(line["share"]) else f"{100 * line['share']:g} %"
        saved = [_percent(line, name) for name in ("saved", "saved_time")]
        rows.append([line["arm"], share, _points(line), _p(line), *saved, _ratio(line["time"])])
    return ["arm", "share", "difference", "p", "images saved", "time saved", "time"], rows


def _published(published: Published, means: Table) -> str:
    ours = {(line["arm"], round(100 * line["share"], 6)): f"{100 * line['accuracy']:.2f}" for line in _lines(means)}
    head = ["share", *(f"{arm}, published" for arm in published.arms), *(f"{arm}, ours" for arm in published.arms)]
    rows = [
        [
            f"{share} %",
            *(f"{value:.2f}" for value in values),
            *(ours.get((arm, float(share)), "-") for arm in published.arms),
        ]
        for share, values in published.accuracy.items()
    ]
    return f"Published: {published.source}.\n\n" + _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _lines(table: Table, arm: str | None = None) -> list[Line]:
    chosen = table if arm is None else table[table["arm"] == arm]
    return [{str(name): value for name, value in line.items()} for line in chosen.to_dict("records")]


def _points(line: Line) -> str:
    mean, low, high = (100 * line[name] for name in ("difference", "difference_low", "difference_high"))
    return f"{mean:+.2f}" + ("" if math.isnan(low) else f" ({low:+.2f} to {high:+.2f})")


def _ratio(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _percent(line: Line, name: str) -> str:
    mean, low, high = (line[key] for key in (name, f"{name}_low", f"{name}_high"))
    if math.isnan(mean):
        return "-"
    return f"{mean:.0%}" + ("" if math.isnan(low) else f" ({low:.0%} to {high:.0%})")


def _shares(lines: list[Line]) -> str:
    return ", ".join(f"{100 * line['share']:g} %" for line in lines)
