"""`xaicompare evaluate`: a network by its SPEC and a folder of images, to a page of results."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from xaicompare.console import OUT, happened, leaderboard, say, standings
from xaicompare.options import OutFolder, SomeMethods, SomeMetrics, examples, listed

EVALUATE_EXAMPLES = examples(
    "evaluate --model resnet18 --weights DEFAULT --images photos --out runs/mine",
    "evaluate --model timm:vit_tiny_patch16_224 --images photos --out runs/vit --budget quick",
    "evaluate --model net.py:make --weights net.pt --weights-key model --images photos --out runs/mine",
)


def evaluate(
    model: Annotated[
        str,
        typer.Option(
            help="resnet18, timm:NAME, hf:NAME or a folder, path/to/net.py:make, package.module:make, net.pt2."
        ),
    ],
    images: Annotated[
        Path, typer.Option(help="A folder of images: one folder per class, or index.csv, or images without labels.")
    ],
    out: OutFolder,
    weights: Annotated[
        str | None, typer.Option(help="A .safetensors, .pt or .pth file, a name of torchvision's, or random.")
    ] = None,
    weights_key: Annotated[str | None, typer.Option(help="Where in the file they are, such as model.")] = None,
    classes: Annotated[
        Path | None, typer.Option(help="A text file with the names of the network's classes, one a line.")
    ] = None,
    methods: SomeMethods = None,
    metrics: SomeMetrics = None,
    budget: Annotated[
        Literal["quick", "normal", "thorough"], typer.Option(help="At most 16, 64 or 500 images.")
    ] = "normal",
    explain: Annotated[Literal["predicted", "label"], typer.Option(help="The class that is explained.")] = "predicted",
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "cpu",
    seed: Annotated[int, typer.Option(min=0, help="Of the drawn images.")] = 0,
) -> None:
    """Compare methods on your own network and images, and make a page of it: report.html.

    A run that was stopped goes on where it was by the same command.
    """
    from xaicompare.evaluation import evaluate as evaluated
    from xaicompare.study.spec import removes_confidence

    try:
        found = evaluated(
            model,
            images,
            folder=out,
            methods=_chosen(methods),
            metrics=_chosen(metrics),
            budget=budget,
            classes=None if classes is None else _lines(classes),
            weights=weights,
            weights_key=weights_key,
            explain=explain,
            device=device,
            seed=seed,
            announce=say,
        )
    except KeyboardInterrupt:
        say(f"finished cells are kept in {out}; the same command goes on.", first="stopped:")
        raise typer.Exit(130) from None
    happened(found.outcome)
    if removes_confidence(found.outcome.study):
        OUT.print(leaderboard(found.leaderboard))
    OUT.print(standings(found.standings))
    for sentence in found.verdict:
        say(sentence)
    say(f"Page: {found.report()}")


def _chosen(names: str | None) -> str | list[str]:
    """A list, or a word that `evaluate` knows."""
    return names.strip() if names and names.strip() in ("all", "usual") else listed(names) or "usual"


def _lines(path: Path) -> list[str]:
    from xaicompare.errors import DataError

    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read ({error}); expected a text file, one class a line.") from error
