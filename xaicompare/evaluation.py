"""Your network, your images, one call: a whole study of a model and of images that are given in Python or by a SPEC."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor, nn

from xaicompare.borrow import borrowed
from xaicompare.boundary import outputs
from xaicompare.core import Method, Metric
from xaicompare.errors import InputError, SettingError
from xaicompare.registry import METHODS, METRICS, Registry, without_masks
from xaicompare.reporting import report, verdict_of
from xaicompare.results import Results, Table
from xaicompare.settings import Settings
from xaicompare.stats import CONTROLS
from xaicompare.study import Study, run
from xaicompare.study.folder import claimed, save
from xaicompare.study.run import Outcome
from xaicompare.study.spec import GIVEN, ModelSpec
from xaicompare.study.subject import looked_at
from xaicompare.study.template import USUAL_METHODS, USUAL_METRICS
from xaicompare.zoo.given import check_labels, given_dataset
from xaicompare.zoo.images import Dataset
from xaicompare.zoo.networks import opened_model, plain_model
from xaicompare.zoo.preprocessing import given_preprocess

Budget = Literal["quick", "normal", "thorough"]
"""How much is asked. "quick": at most 16 images, and a quarter of the samples that methods and metrics draw; "normal":
at most 64 images; "thorough": at most 500. A folder with fewer images is used whole."""

_MOST: Mapping[str, int] = {"quick": 16, "normal": 64, "thorough": 500}
_REFERENCES = (
    16  # images that are kept aside for methods that compare with several, where there are more than asked for
)

Chosen = str | Sequence[str | Mapping[str, Any] | Settings]
"""Methods or metrics: "usual", "all", or a list of names, tables as in a study file, and objects."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found; `print` shows the answer, `report` makes a page of it."""

    outcome: Outcome
    folder: Path

    @property
    def results(self) -> Results:
        """Every value of every metric, as a long table."""
        return self.outcome.results

    @property
    def standings(self) -> Table:
        """A row per metric and method: mean, 95 % interval, rank; see `xaicompare.standings`."""
        return self.outcome.standings

    @property
    def leaderboard(self) -> Table:
        """A row per method, the best order of the features first; see `xaicompare.leaderboard`."""
        return self.outcome.leaderboard

    @property
    def verdict(self) -> list[str]:
        """The answer in sentences, the most important first."""
        return verdict_of(self.folder)

    def report(self, *, short: bool = False) -> Path:
        """Writes report.html into the folder, and says where; it opens in any browser, and can be sent as it is."""
        return report(self.folder, short=short)

    def __repr__(self) -> str:
        study, n = self.outcome.study, len(self.outcome.subject.image)
        methods = len([label for label in study.methods if label not in CONTROLS])
        told = f"{study.model.shown}, {n} images, {methods} methods, {self.folder}"
        return f"Evaluation({told})\n" + "\n".join(f"- {sentence}" for sentence in self.verdict)


def evaluate(
    model: nn.Module | str,
    images: object,
    labels: Sequence[int] | Tensor | None = None,
    folder: str | Path | None = None,
    *,
    methods: Chosen = "usual",
    metrics: Chosen = "usual",
    budget: Budget = "normal",
    preprocess: Callable[[Any], Any] | None = None,
    classes: Sequence[str] | None = None,
    output: str | Callable[[Any], Tensor] | None = None,
    weights: str | Path | None = None,
    weights_key: str | None = None,
    name: str | None = None,
    explain: Literal["predicted", "label"] = "predicted",
    device: str = "cpu",
    seed: int = 0,
    announce: Callable[[str], object] | None = None,
) -> Evaluation:
    """Explains the images by every method, judges the maps by every metric, and says which to believe.

    Args:
        model: any nn.Module that maps images to (n, classes), or to a tuple, dictionary or object with such logits; or
            a SPEC: "resnet18", "timm:NAME", "hf:NAME", "net.py:make", "package.module:make", "net.pt2".
        images: a tensor (n, c, h, w) as the network takes it; an array; a list of PIL images, paths or tensors; a
            folder; a Dataset or DataLoader of (image, label); a split of Hugging Face's datasets.
        labels: (n,) true classes; None: those that come with the images, if any do.
        folder: for tables, figures and the page; the same call goes on where it was. None: a new one among
            the system's temporary files.
        methods, metrics: "usual", "all", or a list.
        budget: how many images and samples, see `Budget`.
        preprocess: from a PIL image to a tensor (c, h, w). None: the model's own, where its library keeps one.
        classes: the classes' names, in the order of the outputs.
        output: where the logits are in what the model returns: a key, or a function. None: found by itself.
        weights, weights_key: for a SPEC, see `xaicompare.zoo.spec.open_model`.
        name: what results call the model. None: its class, or the SPEC.
        explain: the class that is explained, "predicted" or the true one, "label".
        device: "cpu", "cuda" or "auto".
        seed: of the drawn images.
        announce: is told about how long it will take, and other news; such as `print`.

    Raises:
        InputError: images, labels or outputs that don't fit.
        DataError: a file, a package or weights are missing; or the folder holds something else.
        SettingError, UnknownNameError: an unknown method, metric, budget or SPEC.
        XaiCompareError: no method could explain the model.
    """
    if budget not in get_args(Budget):
        raise SettingError(f"budget={budget!r}; expected one of {', '.join(get_args(Budget))}.")
    opened = opened_model(model, weights, weights_key, name)
    how = opened.preprocess if preprocess is None else given_preprocess(preprocess)
    names = opened.classes if classes is None else tuple(classes)
    place = Path(tempfile.mkdtemp(prefix="xaicompare-")) if folder is None else Path(folder)
    dataset = given_dataset(
        images, labels=labels, classes=names, preprocess=how, most=_MOST[budget], extra=_REFERENCES, seed=seed
    )
    network, note = plain_model(opened.model, output)
    network = network.to(device) if device not in ("cpu", "auto") else network
    dataset = _named(network, dataset, names)
    study = _study(opened.name, dataset, methods, metrics, budget, explain, seed)
    claimed(place, quick=study.quick)
    subject = looked_at(study, network, opened.origin, dataset, " ".join(filter(None, (dataset.note, note))), device)
    outcome = run(study, place, device=device, announce=announce, subject=subject)
    save(outcome, place)
    return Evaluation(outcome, place)


def _named(model: nn.Module, dataset: Dataset, names: tuple[str, ...] | None) -> Dataset:
    """The data set with a name for each of the network's classes; asks the network how many there are."""
    inputs, _ = dataset.test.batch([0])
    parameter = next(model.parameters(), None)
    with borrowed(model):
        count = outputs(model, inputs if parameter is None else inputs.to(parameter.device), 1).reshape(1, -1).shape[1]
    count = 2 if count == 1 else count
    known = names or dataset.classes
    if known and len(known) != count:
        if names is not None:
            raise InputError(f"{len(known)} names of classes for a network with {count}; expected as many.")
        known = ()
    check_labels(dataset.test.labels, count)
    return replace(dataset, classes=tuple(known) or tuple(map(str, range(count))))


def _study(
    name: str, dataset: Dataset, methods: Chosen, metrics: Chosen, budget: str, explain: str, seed: int
) -> Study:
    """The study of that, by the tables of a study file, so that its folder says what was asked."""
    content: dict[str, Any] = {
        "images": len(dataset.test),
        "explain": explain,
        "seed": seed,
        "methods": _entries(methods, METHODS, USUAL_METHODS, "methods"),
        "metrics": _entries(metrics, METRICS, USUAL_METRICS, "metrics"),
        "data": {"name": GIVEN},
        "model": {"name": GIVEN, "title": name},
    }
    if budget == "quick":
        content = {"quick": True, **content}
    study = Study.from_dict(content)
    assert isinstance(study.model, ModelSpec)
    told = "# What xaicompare.evaluate was asked; the model and the images were given to it.\n"
    return replace(study, text=told + "".join(f"{key} = {_toml(value)}\n" for key, value in content.items()))


_ORDERS = ("most", "least", "random")


def _entries(given: Chosen, known: Registry[Any], usual: Sequence[str], what: str) -> list[Any]:
    """The entries of a study file."""
    if isinstance(given, str) and given not in ("usual", "all"):
        given = [given]
    if given == "usual":
        given = list(usual)
    elif given == "all":
        given = without_masks() if known is METRICS else [name for name in known.names() if name not in CONTROLS]
    if not isinstance(given, Sequence) or not given:
        raise SettingError(f"{what}={given!r}; expected 'usual', 'all', or a list of names.")
    made: list[Any] = []
    for entry in given:
        if entry == "confidence_removal":
            made += [{"name": entry, "order": order} for order in _ORDERS]
        else:
            made.append(_table(entry) if isinstance(entry, (Method, Metric)) else entry)
    return made


def _table(given: Method | Metric) -> dict[str, Any]:
    """An object as a table with its name and what was changed."""
    changed = {
        each.name: getattr(given, each.name)
        for each in fields(given)  # type: ignore[arg-type]
        if not _same(getattr(given, each.name), each.default)
    }
    for key, value in changed.items():
        if not isinstance(value, (str, int, float, bool, tuple, list)):
            raise SettingError(
                f"{given.name} with {key} of type {type(value).__name__}; expected settings that a study file can hold."
            )
    return {"name": given.name, **changed}


def _same(one: object, other: object) -> bool:
    return type(one) is type(other) and not isinstance(one, Tensor) and one == other


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value) if isinstance(value, (str, bool)) else repr(value)
