"""The same explanations on several networks: how alike their maps are, and which network a metric prefers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from xaicompare.borrow import borrowed
from xaicompare.boundary import outputs, predicted
from xaicompare.comparison import attempted, score
from xaicompare.core import Attribution
from xaicompare.errors import InputError, SettingError, XaiCompareError
from xaicompare.figures import grid
from xaicompare.metrics import alike
from xaicompare.registry import without_masks
from xaicompare.results import Table, table_of_rows
from xaicompare.stats import few_sample_interval
from xaicompare.titles import titled
from xaicompare.zoo.given import given_dataset
from xaicompare.zoo.images import Dataset
from xaicompare.zoo.networks import opened_model, plain_model
from xaicompare.zoo.preprocessing import given_preprocess

USUAL = ("saliency", "integrated_gradients", "gradcam", "deeplift", "lrp")
USUAL_METRICS = ("deletion", "insertion")


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """What several networks have in common, and in what they differ, over the same images."""

    maps: Mapping[str, Mapping[str, Attribution]]
    """By network, then by method."""
    agreement: Table
    """A row per method and pair of networks: the mean rank correlation of their maps over images, with its interval."""
    differences: Table
    """A row per metric, method and pair: the mean of first - second over the same images, with its 95 % interval."""
    accuracy: Mapping[str, float]
    """The share of images that each network classifies right; empty without labels."""
    left_out: Mapping[str, str]
    """Methods, and with "all" metrics, that have no right answer on one of the networks, and the reason."""
    classes: tuple[str, ...]

    def plot(self, images: int = 3, **options: Any) -> Any:  # a Figure of matplotlib, whose home is figures
        """The maps of the first images, a column per method and network, those of a method side by side.

        Raises:
            InputError: the networks take images of different sizes.
        """
        first = next(iter(self.maps.values()))
        columns = {}
        for method, made in first.items():
            for name, of in self.maps.items():
                shown = of[method].part(slice(images))
                if shown.inputs.shape != made.part(slice(images)).inputs.shape:
                    raise InputError(f"{name} takes images {tuple(shown.inputs.shape[1:])}; expected one size to draw.")
                title = f"{titled(method, shown.method.name)}, {name}"
                columns[title] = replace(shown, inputs=made.part(slice(images)).inputs)
        return grid(columns, **({"classes": self.classes} if self.classes else {}) | options)

    def __repr__(self) -> str:
        images = len(next(iter(next(iter(self.maps.values())).values())))
        told = [
            f"- {row.method}: maps of {row.first} and {row.second} agree by {row.mean:.2f}, "
            f"{row.low:.2f} to {row.high:.2f}"
            for row in self.agreement.itertuples()
        ]
        return "\n".join([f"ModelComparison({', '.join(self.maps)}; {images} images)", *told])


def compare_models(
    models: Mapping[str, nn.Module | str],
    images: object,
    labels: Sequence[int] | Tensor | None = None,
    *,
    methods: Sequence[Any] | str = USUAL,
    metrics: Sequence[Any] | str = USUAL_METRICS,
    target: Sequence[int] | Tensor | None = None,
    most: int = 64,
    weights: Mapping[str, str | Path] | None = None,
    preprocess: Callable[[Any], Any] | None = None,
    classes: Sequence[str] | None = None,
    seed: int = 0,
) -> ModelComparison:
    """Explains the same images on several networks by the same methods, and compares maps and metrics image by image.

    Args:
        models: two or more, by the names that tables call them: any nn.Module that `evaluate` takes, or a SPEC.
        images, labels, preprocess, classes: as for `evaluate`. Without `preprocess`, each network's own.
        methods, metrics: names or objects, or "all": what is defined on all networks, and no metric that needs masks.
        target: (n,) the explained classes. None: the true ones where the images have labels, else those that the first
            network predicts; the same for all networks, so that their maps answer one question.
        most: at most so many images, drawn by the seed.
        weights: files for networks that are given by a SPEC, by the networks' names.

    Raises:
        InputError: fewer than two networks, or networks with different numbers of classes.
        XaiCompareError: no method could explain all of them.
    """
    if len(models) < 2:
        raise InputError(f"{len(models)} network; expected two or more, as {{'a': one, 'b': other}}.")
    networks, batches, known, names = {}, {}, None, tuple(classes or ())
    for name, given in models.items():
        opened = opened_model(given, (weights or {}).get(name), None, name)
        how = opened.preprocess if preprocess is None else given_preprocess(preprocess)
        dataset = given_dataset(
            images, labels=labels, classes=classes or opened.classes, preprocess=how, most=most, seed=seed
        )
        networks[name], _ = plain_model(opened.model, None)
        batches[name] = dataset.test.batch(range(len(dataset.test)))[0]
        known = _labels(dataset) if known is None else known
        names = names or tuple(opened.classes or ())
    logits = {name: _outputs(networks[name], batches[name]) for name in networks}
    _same_classes(logits)
    first = next(iter(logits))
    asked = target if target is not None else known if known is not None else predicted(logits[first])
    everything = {name: attempted(networks[name], batches[name], methods, asked) for name in networks}
    left_out = {
        method: str(made)
        for of in everything.values()
        for method, made in of.items()
        if not isinstance(made, Attribution)
    }
    maps = {name: _without(of, left_out) for name, of in everything.items()}
    if not maps[first]:
        raise XaiCompareError(next(iter(left_out.values()), "no method; expected at least one."))
    right = {} if known is None else {n: float((predicted(logits[n]) == known).float().mean()) for n in logits}
    differences = _differences(networks, maps, metrics, left_out)
    return ModelComparison(maps, _agreement(maps), differences, right, left_out, names)


def distinct(names: Sequence[str]) -> list[str]:
    """Names for networks, those that come again with a number.

    >>> distinct(["resnet18", "vgg16", "resnet18"])
    ['resnet18', 'vgg16', 'resnet18 (2)']
    """
    return [
        name if name not in names[:place] else f"{name} ({list(names[:place]).count(name) + 1})"
        for place, name in enumerate(names)
    ]


def _labels(dataset: Dataset) -> Tensor | None:
    """The true classes, where all are known."""
    given = dataset.test.labels
    return None if given is None or bool((given < 0).any()) else given


def _without(of: Mapping[str, Attribution | XaiCompareError], left_out: Mapping[str, str]) -> dict[str, Attribution]:
    return {method: made for method, made in of.items() if isinstance(made, Attribution) and method not in left_out}


def _outputs(network: nn.Module, inputs: Tensor) -> Tensor:
    with borrowed(network):
        return outputs(network, inputs, 64)


def _same_classes(logits: Mapping[str, Tensor]) -> None:
    counts = {name: made.shape[1] for name, made in logits.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"classes: {told}; expected networks with the same classes.")


def _agreement(maps: Mapping[str, Mapping[str, Attribution]]) -> Table:
    rows = []
    for first, second in combinations(maps, 2):
        for method, made in maps[first].items():
            a, b = _one_size(made, maps[second][method])
            found = alike(a, b, "spearman", "signed").numpy()
            mean, low, high = few_sample_interval(found)
            rows.append({"method": method, "first": first, "second": second, "mean": mean, "low": low, "high": high})
    return table_of_rows(rows)


def _one_size(a: Attribution, b: Attribution) -> tuple[Attribution, Attribution]:
    if a.map.shape != b.map.shape:
        raise InputError(
            f"maps {tuple(a.map.shape[1:])} and {tuple(b.map.shape[1:])}; expected networks that take images of one "
            "size. Give a preprocess that all of them share."
        )
    return a, b


def _differences(
    networks: Mapping[str, nn.Module],
    maps: Mapping[str, Mapping[str, Attribution]],
    metrics: Sequence[Any] | str,
    left_out: dict[str, str],
) -> Table:
    """A row per metric, method and pair; with "all", a metric that fails on one of them is left out, and noted."""
    everything = isinstance(metrics, str)
    if everything and metrics != "all":
        raise SettingError(f"metrics={metrics!r}; expected 'all', or a list of names.")
    rows = []
    for metric in without_masks() if everything else metrics:
        try:
            values = {
                name: {method: score(networks[name], made, metric).numpy() for method, made in of.items()}
                for name, of in maps.items()
            }
        except XaiCompareError as error:
            if not everything:
                raise
            left_out[metric] = str(error)
            continue
        for first, second in combinations(maps, 2):
            for method in maps[first]:
                mean, low, high = few_sample_interval(values[first][method] - values[second][method])
                told = metric if isinstance(metric, str) else metric.label()
                rows.append({"metric": told, "method": method, "first": first, "second": second})
                rows[-1] |= {"mean": mean, "low": low, "high": high}
    return table_of_rows(rows)
