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
from xaicompare.registry import METHODS
from xaicompare.study.subject import fitted

_PICTURES = (".png", ".pdf", ".svg")
Explained = Mapping[str, Attribution | XaiCompareError]


class Explainee(NamedTuple):
    """The network, as the options name it."""

    model: str
    classes: int
    weights: str | None
    after: str | None  # the layer that an attention module stands behind
    attended: bool  # its three pictures are wanted

    def built(self, channels: int) -> nn.Module:
        """The network with its weights; says so where they are random."""
        network = zoo.build_model(self.model, self.classes, channels)
        network = network if self.after is None else attend(network, self.after)
        if self.attended:
            attention_modules(network)  # says what lacks
        if self.weights is None:
            say("its explanations mean nothing. Give --weights.", first=f"{plain(self.model)} has random weights:")
        else:
            zoo.load_weights(network, self.weights, name=self.model)
        return network


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
