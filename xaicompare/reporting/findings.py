"""What a study's tables say: who is best at what, who is told apart, and what beats no control."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from xaicompare.reporting.material import Line, Material
from xaicompare.stats import ALPHA, CLAIMS, is_control

FAMILIES = ("removal", "subsets", "localisation", "randomisation", "robustness", "complexity", "axioms", "peer")
"""Those that claim faithfulness or localisation first."""


class Measure(NamedTuple):
    """One metric, and the methods in the order of their means."""

    name: str
    family: str
    better: str  # "high" or "low"
    rows: list[Line]  # of standings.csv, the best first
    leading: list[str]  # those than which no other method is significantly better
    images: int  # that most methods were judged on
    pairs: int  # that were tested
    tests: list[Line]  # of tests.csv

    @property
    def best(self) -> Line:
        """The row with the best mean."""
        return self.rows[0]

    @property
    def claims(self) -> bool:
        """Whether the metric claims faithfulness or localisation, so that controls must lose."""
        return self.family in CLAIMS

    @property
    def arrow(self) -> str:
        """Which way is good, as a sign."""
        return "↑" if self.better == "high" else "↓"

    @property
    def direction(self) -> str:
        """Which way is good, in words."""
        return f"{self.better} is good"

    @property
    def undecided(self) -> bool:
        """Whether there are too few images for any test to tell a pair apart, whatever the methods do."""
        least = self.pairs * 2.0 ** (1 - self.images)  # Wilcoxon's least p, times Holm's first factor
        return len(self.leading) == len(self.rows) > 1 and least >= ALPHA

    @property
    def uncontrolled(self) -> bool:
        """Whether a control is among the best of a metric that controls must lose by."""
        return self.claims and not self.undecided and any(is_control(method) for method in self.leading)


@dataclass(frozen=True, eq=False)
class Findings:
    """The measures of a study, and what they say together."""

    measures: list[Measure]
    methods: list[str]  # by mean rank, the best first
    mean_rank: dict[str, float]  # over the judging metrics
    images: int  # that most methods were judged on

    @classmethod
    def of(cls, material: Material) -> "Findings":
        """What the tables of a study say."""
        by_metric: dict[str, list[Line]] = {}
        for line in material.standings:
            by_metric.setdefault(line["metric"], []).append(line)
        tests: dict[str, list[Line]] = {name: [] for name in by_metric}
        for line in material.tests:
            tests.setdefault(line["metric"], []).append(line)
        measures = [_measure(name, rows, tests[name]) for name, rows in by_metric.items()]
        measures.sort(key=lambda measure: _place(measure.family))
        ranks = _mean_ranks(_judging(measures))
        images = int(max(line["images"] for line in material.standings))
        return cls(measures, sorted(ranks, key=ranks.__getitem__), ranks, images)

    @property
    def families(self) -> dict[str, list[Measure]]:
        """The measures of each family."""
        found: dict[str, list[Measure]] = {}
        for measure in self.measures:
            found.setdefault(measure.family, []).append(measure)
        return found

    @property
    def claiming(self) -> list[Measure]:
        """The measures by which controls must lose."""
        return [measure for measure in self.measures if measure.claims]

    @property
    def counted(self) -> list[Measure]:
        """The metrics that every count on the page is of: see `_counted`; none where tests can't tell anything."""
        return _counted(self.measures)

    @property
    def judging(self) -> list[Measure]:
        """The counted metrics; where there are none, all that claim, or all."""
        return _judging(self.measures)

    @property
    def first(self) -> Measure | None:
        """The first measure that counts; else the first whose tests can tell; None where there is none."""
        told = self.counted or self.claiming or self.measures
        return next((measure for measure in told if not measure.undecided), None)

    @property
    def controls(self) -> list[str]:
        """The methods that know nothing of the model."""
        return [method for method in self.methods if is_control(method)]

    def leads(self, measures: list[Measure]) -> Counter[str]:
        """How often each method that is no control is among the best, where tests could tell."""
        decided = (measure for measure in measures if not measure.undecided)
        return Counter(method for measure in decided for method in measure.leading if not is_control(method))

    def beaten(self) -> Counter[str]:
        """By how many of the counted metrics each method beats every control; all methods but controls are in."""
        found = Counter({method: 0 for method in self.methods if not is_control(method)})
        for measure in self.counted:
            found.update(row["method"] for row in measure.rows if row["beats"] == "yes")
        return found


def _counted(measures: list[Measure]) -> list[Measure]:
    """Those that claim (or all where none does) whose tests can tell, and by which no control is among the best."""
    claiming = [measure for measure in measures if measure.claims] or measures
    return [measure for measure in claiming if not measure.undecided and not measure.uncontrolled]


def _judging(measures: list[Measure]) -> list[Measure]:
    return _counted(measures) or [measure for measure in measures if measure.claims] or measures


def _measure(name: str, rows: list[Line], tests: list[Line]) -> Measure:
    lost = {test["other"] if test["winner"] == test["method"] else test["method"] for test in tests if test["winner"]}
    leading = [row["method"] for row in rows if row["method"] not in lost]
    images = int(max(row["images"] for row in rows))
    return Measure(name, rows[0]["family"], rows[0]["better"], rows, leading, images, len(tests), tests)


def _place(family: str) -> tuple[int, str]:
    return (FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)), family


def _mean_ranks(measures: list[Measure]) -> dict[str, float]:
    """Each method's mean rank over the measures that judged it."""
    ranks: dict[str, list[float]] = {}
    for measure in measures:
        for row in measure.rows:
            ranks.setdefault(row["method"], []).append(row["rank"])
    return {method: math.fsum(found) / len(found) for method, found in ranks.items()}
