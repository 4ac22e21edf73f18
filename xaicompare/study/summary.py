"""A study's findings in Markdown: every metric's means with intervals and marks, and what each method costs."""

from math import isnan
from typing import TYPE_CHECKING, Any

from xaicompare.results import Table
from xaicompare.stats import CLAIMS, leads, ranks, too_small
from xaicompare.study.quick import TOLD

if TYPE_CHECKING:
    from xaicompare.study.run import Outcome

_LEGEND = (
    "Means over images with their 95 % BCa bootstrap interval; (n) where fewer images were judged than most. ↑: high "
    "is good, ↓: low is good. **†**: its mean does not beat every control's (paired sign-flip tests, level 0.05, "
    "Holm's correction for all pairs of a method and a control); **?**: so few images that nothing could show it. "
    "Marks stand only where a metric measures faithfulness or localisation; elsewhere a control may score best. "
    "standings.csv has ranks and their stability, tests.csv all pairs of methods with Wilcoxon's tests."
)

_EXPLAINED = {"predicted": "predicted class", "label": "true class"}
_FIRSTS = (("first", False), ("rank", True))

Line = dict[str, Any]


def summary(outcome: "Outcome") -> str:
    """The findings of a study, as a page."""
    table, subject = outcome.standings, outcome.subject
    methods = table["method"].unique()
    right = "" if subject.accuracy is None else f", {subject.accuracy:.1%} of them classified right"
    parts = [
        f"# {outcome.study.model.shown} on {subject.dataset.name}",
        f"{len(subject.image)} images{right}; {subject.origin}; "
        f"seed {outcome.study.seed}. Explained: the {_EXPLAINED[outcome.study.explain]}.",
        *([TOLD] if outcome.study.quick else []),
        *(note for note in (subject.note, subject.dataset.note, too_small(len(subject.image), len(methods))) if note),
        _LEGEND,
    ]
    families = sorted(dict.fromkeys(table["family"]), key=_claimed)
    for family in families:
        parts += [f"## {family.capitalize()}", _grid(table[table["family"] == family])]
    parts += _leading(outcome)
    parts += ["## Is it chance?", _orders(outcome, table), "## Cost", _costs(outcome.costs)]
    told = (
        ("Left out", outcome.failed),
        ("Incomplete", outcome.incomplete),
        ("Failed, to be run again", outcome.broken),
    )
    for title, reasons in told:
        if reasons:
            parts += [f"## {title}", "\n".join(f"- {name}: {reason}" for name, reason in reasons.items())]
    return "\n\n".join(parts) + "\n"


def _leading(outcome: "Outcome") -> list[str]:
    """Who leads by the metrics whose tests don't tell the best mean from the next one; nothing where all do."""
    lines = [
        [
            row["metric"],
            row["method"],
            row["other"],
            f"{row['difference']:.3g} ({row['low']:.3g} to {row['high']:.3g})",
            str(row["images"]),
            "-" if isnan(row["images_needed"]) else f"{row['images_needed']:.0f}",
        ]
        for row in _records(leads(outcome.results))
        if not row["sure"]
    ]
    if not lines:
        return []
    head = ["metric", "best mean", "next", "difference (95 %)", "images", "images that would tell"]
    told = (
        "Here the tests don't tell the best mean from the next one, controls left aside. The last column guesses how "
        "many images would, four times out of five, if the differences of these two stay what they are; -: more than a "
        "million, or nobody can say."
    )
    return ["## Who leads so far", markdown(head, lines) + "\n\n" + told]


def _claimed(family: str) -> tuple[int, str]:
    return (CLAIMS.index(family) if family in CLAIMS else len(CLAIMS)), family


def _grid(table: Table) -> str:
    """Methods by metrics, the best by mean rank first."""
    metrics = list(dict.fromkeys(table["metric"]))
    methods = table.groupby("method", sort=False)["rank"].mean().sort_values(kind="stable").index
    cells = {(row["method"], row["metric"]): _cell(row, int(table["images"].max())) for row in _records(table)}
    arrows = {row["metric"]: "↑" if row["better"] == "high" else "↓" for row in _records(table)}
    lines = [[method, *(cells.get((method, metric), "") for metric in metrics)] for method in methods]
    return markdown(["method", *(f"{metric} {arrows[metric]}" for metric in metrics)], lines)


def _cell(row: Line, most: int) -> str:
    told = f"{row['mean']:.3g} ({row['low']:.3g} to {row['high']:.3g})"
    few = f" ({row['images']})" if row["images"] < most else ""
    return told + few + {"no": " **†**", "few": " **?**"}.get(row["beats"], "")


def _orders(outcome: "Outcome", table: Table) -> str:
    lines = []
    for metric in dict.fromkeys(table["metric"]):
        found = ranks(outcome.results, metric)
        known = found.table.reset_index(names="method")
        best, first = (_records(known.sort_values(by, ascending=up, kind="stable"))[0] for by, up in _FIRSTS)
        lines.append(
            [
                metric,
                str(found.images),
                f"{found.p:.2g}",
                f"{found.critical:.2f}",
                f"{found.tau:.2f}",
                f"{best['method']} ({best['first']:.0%})",
                f"{first['method']} ({first['rank']:.1f})",
            ]
        )
    head = [
        "metric",
        "images",
        "Friedman p",
        "critical difference",
        "tau",
        "best mean (share of resamples)",
        "best rank",
    ]
    told = (
        "On the images that all methods have. Critical difference of mean ranks: Nemenyi, level 0.05. tau: Kendall's, "
        "between the order of the means and that of resampled images; agreement.csv has it between metrics."
    )
    return markdown(head, lines) + "\n\n" + told


def _costs(costs: Table) -> str:
    lines = [
        [row["method"], f"{row['passes']:.3g}", f"{row['seconds']:.2g}", f"{row['mebibytes']:.3g}"]
        for row in _records(costs.sort_values("passes", kind="stable"))
    ]
    told = (
        "Passes: arithmetic for each image in units of one forward pass, the pass for the explained output included. "
        "Seconds for each image. MiB: of tensors held at once, for two images (one, if there is but one)."
    )
    return markdown(["method", "passes", "seconds", "MiB"], lines) + "\n\n" + told


def markdown(head: list[str], lines: list[list[str]]) -> str:
    """A table."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in [head, ["---"] * len(head), *lines]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _records(table: Table) -> list[Line]:
    return [dict(zip(table.columns, line, strict=True)) for line in table.itertuples(index=False)]
