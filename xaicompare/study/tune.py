"""Rule tuning: which rule, with which number, for which depth range of a network [only home of optuna]."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from xaicompare.errors import XaiCompareError
from xaicompare.lrp import Composite, network
from xaicompare.lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, Rule, WSquare, ZBox, Zero, ZPlus
from xaicompare.methods import LRP
from xaicompare.metrics import ConfidenceRemoval
from xaicompare.progress import progress
from xaicompare.results import Results, Table
from xaicompare.stats import leaderboard
from xaicompare.study.rows import gathered, judged, who
from xaicompare.study.spec import Study
from xaicompare.study.subject import Subject, fitted, part_of, prepared

try:
    import optuna
except ModuleNotFoundError as error:
    raise XaiCompareError(
        "tuning needs optuna; expected it installed: pip install 'xaicompare-torch[tune]'."
    ) from error

_RANGES = ("lower", "middle", "upper")
_NAMED: tuple[Any, ...] = (
    *("zero", "epsilon", "gamma", "alpha-beta", "epsilon-plus", "epsilon-plus-flat", "epsilon-gamma-box"),
    "epsilon-alpha2-beta1",
)


@dataclass(frozen=True, eq=False)
class Tuned:
    """The best composite found, and what it is worth on images that the search never saw."""

    composite: Composite
    gain: float  # on the images of the search
    trials: int
    leaderboard: Table  # on unseen images: "tuned" and the named composites


def tune(study: Study, *, trials: int = 40) -> Tuned:
    """Searches the rules of the lower, middle and upper third of a study's network, and of the layer at the pixels.

    Half of the study's images serve the search, whose objective is the leaderboard's gain; the other half, never
    looked at by it, judges the best one found against the named composites. Sampler: TPE, seeded by the study.

    Source: the objective is ours (`xaicompare.leaderboard`); tuning LRP by a removal metric: Pahde et al. 2022,
    arXiv:2211.12486.

    Raises:
        UnsupportedModelError: LRP has no way through the study's network.
        DataError: data or weights are absent.
    """
    if study.images < 4 or trials < 1:
        raise XaiCompareError(f"images={study.images}, trials={trials}; expected at least 4 and 1.")
    removals = [label for label, metric in study.metrics.items() if isinstance(metric, ConfidenceRemoval)]
    study = replace(study, metrics={label: study.metrics[label] for label in removals})
    subject = prepared(study)
    half = study.images // 2
    seen, unseen = part_of(subject, slice(None, half)), part_of(subject, slice(half, None))
    names = _layers(subject)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=study.seed))
    for _ in progress(range(trials), "trials", total=trials, unit="trial"):
        trial = search.ask()
        search.tell(trial, _gain(seen, study, _suggested(trial, names)))
    best = _suggested(optuna.trial.FixedTrial(search.best_params), names)
    methods = {"tuned": LRP(composite=best), **{f"lrp-{name}": LRP(composite=name) for name in _NAMED}}
    return Tuned(best, search.best_value, trials, leaderboard(_rows(unseen, study, methods)))


def _layers(subject: Subject) -> list[str]:
    steps = network(subject.model, subject.inputs[:1]).steps
    return [step.name for step in steps if step.role == "affine"]


def _suggested(trial: Any, names: Sequence[str]) -> Composite:
    """A rule for each third of the layers but the first, which reads the pixels; for that one a rule of its own."""
    first, *rest = names
    rules: dict[str, Rule] = {first: _first_rule(trial)}
    third = max(1, -(-len(rest) // len(_RANGES)))
    for place, name in enumerate(_RANGES):
        rules |= dict.fromkeys(rest[place * third : (place + 1) * third], _rule(trial, name))
    return Composite(named=rules, max_pooling=trial.suggest_categorical("max_pooling", ["winner", "average"]))


def _first_rule(trial: Any) -> Rule:
    rules = {"z-box": ZBox(), "flat": Flat(), "w-square": WSquare(), "zero": Zero(), "z-plus": ZPlus()}
    return rules[trial.suggest_categorical("first", list(rules))]


def _rule(trial: Any, name: str) -> Rule:
    kind = trial.suggest_categorical(f"{name} rule", ["zero", "epsilon", "gamma", "alpha-beta"])
    if kind == "epsilon":
        return Epsilon(epsilon=trial.suggest_float(f"{name} epsilon", 1e-3, 1.0, log=True), of="rms")
    if kind == "gamma":
        return Gamma(gamma=trial.suggest_float(f"{name} gamma", 1e-2, 10.0, log=True))
    if kind == "alpha-beta":
        beta = trial.suggest_float(f"{name} beta", 0.0, 2.0)
        return AlphaBeta(alpha=1 + beta, beta=beta)
    return Zero()


def _gain(subject: Subject, study: Study, composite: Composite) -> float:
    table = leaderboard(_rows(subject, study, {"tuned": LRP(composite=composite)}))
    return float(table["gain"].iloc[0])


def _rows(subject: Subject, study: Study, methods: dict[str, LRP]) -> Results:
    parts = []
    for label, method in methods.items():
        ready = fitted(method, subject.dataset.scale)
        explained = ready.attribute(subject.model, subject.inputs, subject.target, strict=False)
        made = who(study, subject, label, explained)
        rows = (
            judged(made, part_of(subject, slice(n)), explained.part(slice(n)), name, metric)
            for name, metric in study.metrics.items()
            for n in [min(study.metric_images.get(name, len(explained)), len(explained))]
        )
        parts.append(gathered(Results.joined(rows)))
    return Results.joined(parts)
