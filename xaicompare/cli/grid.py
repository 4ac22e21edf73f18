"""What `xaicompare grid` does: image files to a picture of maps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from xaicompare import comparison, figures, zoo
from xaicompare.attended import attend, attention_modules
from xaicompare.boundary import outputs, picked, predicted, probabilities
from xaicompare.console import plain, say
from xaicompare.core import Attribution
from xaicompare.errors import InputError, XaiCompareError
from xaicompare.registry import METHODS, MODELS
from xaicompare.study.subject import fitted
from xaicompare.zoo.given import given_dataset
from xaicompare.zoo.preprocessing import Preprocess
from xaicompare.zoo.spec import RANDOM, RANDOM_WEIGHTS, Opened, open_model

_PICTURES = (".png", ".pdf", ".svg")
Explained = Mapping[str, Attribution | XaiCompareError]


class Explainee(NamedTuple):
    """The network, as the options name it."""

    model: str
    classes: int
    weights: str | None
    after: str | None  # the layer that an attention module stands behind
    attended: bool  # its three pictures are wanted

    def built(self, channels: int) -> tuple[nn.Module, Preprocess | None]:
        """The network with its weights, and its own preprocessing, if a library keeps one; random weights are told."""
        opened = opened_by_name(self.model, self.classes, channels, None if self.after else self.weights)
        network = opened.model if self.after is None else attend(opened.model, self.after)
        if self.attended:
            attention_modules(network)  # says what lacks
        if self.after is not None and self.weights is not None:
            zoo.load_weights(network, self.weights, name=self.model)
        elif opened.origin == RANDOM_WEIGHTS:
            say("its explanations mean nothing. Give --weights.", first=f"{plain(self.model)} has random weights:")
        return network, opened.preprocess


def opened_by_name(model: str, classes: int, channels: int, weights: str | None) -> Opened:
    """The network of a SPEC; one by its name alone takes the classes and channels of the options."""
    if model not in MODELS:
        return open_model(model, weights=weights)
    network = zoo.build_model(model, classes, channels)
    if weights is None or weights == RANDOM:
        return Opened(network, model, RANDOM_WEIGHTS)
    zoo.load_weights(network, weights, name=model)
    return Opened(network, model, f"weights {weights}")


def preprocessed(images: Sequence[Path], process: Preprocess) -> tuple[Tensor, zoo.Scale]:
    """Image files as the network's own preprocessing makes them, and their scale."""
    given = given_dataset(list(images), labels=None, classes=None, preprocess=process, most=len(images), shuffled=False)
    return given.test.batch(range(len(images)))[0], given.scale


class Look(NamedTuple):
    """How the picture is drawn."""

    overlay: bool
    columns: int | None
    dpi: int


def check_name(out: Path) -> None:
    """The picture's ending must be one that can be drawn.

    Raises:
        InputError: it is not.
    """
    if out.suffix.lower() not in _PICTURES:
        raise InputError(f"--out {out}; expected a name that ends in {', '.join(_PICTURES)}. Choose one of them.")


def explained_by(
    network: nn.Module, inputs: Tensor, methods: Sequence[str], scale: zoo.Scale, target: int | None
) -> Explained:
    """Each method's maps, or the error that it ended in."""
    chosen = [fitted(METHODS.build(name), scale) for name in methods]
    return comparison.attempted(network, inputs, chosen, target)


def told(explained: Explained, *, everything: bool) -> Explained:
    """Says who is left out and why; where all methods were asked for, in one line, and without their columns."""
    undefined = [label for label, made in explained.items() if isinstance(made, XaiCompareError)]
    if everything and 0 < len(undefined) < len(explained):
        say(f"{', '.join(undefined)}: no right answer on this network.", first="left out")
        explained = {label: made for label, made in explained.items() if label not in undefined}
    for label, made in explained.items():
        if isinstance(made, XaiCompareError):
            say(f"{label}: {made}", first="left out")
        elif made.method.name == "attention_refined_lrp":
            sums = ", ".join(f"{float(total):.3g}" for total in made.total)
            say(f"sums of the refined maps, image by image: {sums}")
    return explained


def draw(network: nn.Module, inputs: Tensor, explained: Explained, scale: zoo.Scale, out: Path, look: Look) -> None:
    """Writes the picture."""
    logits = outputs(network, inputs, 16)
    shown = next((made for made in explained.values() if isinstance(made, Attribution)), None)
    picture = figures.grid(
        explained,
        classes=zoo.imagenet_classes() if logits.shape[1] == 1000 else None,
        predicted=predicted(logits),
        probabilities=None if shown is None else picked(probabilities(logits), shown.target),
        mean=scale.mean,
        std=scale.std,
        overlay=look.overlay,
        wrap=look.columns,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(out, dpi=look.dpi)
    say(f"Picture: {out}")
