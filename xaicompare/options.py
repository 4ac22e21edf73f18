"""What commands take: arguments and options, each with its help and what Tab offers [home of typer, with cli]."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from xaicompare import completion

_NETWORK = "A network by name: any classifier of torchvision, or one of ours."

Network = Annotated[str, typer.Option(help=_NETWORK, autocompletion=completion.model_names)]
NetworkArgument = Annotated[str, typer.Argument(help=_NETWORK, autocompletion=completion.model_names)]
AnyNetwork = Annotated[
    str | None,
    typer.Option(
        help="A network by name; else small_cnn, or resnet18 for a folder.", autocompletion=completion.model_names
    ),
]
Classes = Annotated[int, typer.Option(min=1, help="How many classes the network knows.")]
WeightsFile = Annotated[str | None, typer.Option(help="A .safetensors or .pt file; else random ones.")]
Side = Annotated[int, typer.Option(min=1, help="The side of the images that it takes, in pixels.")]
Channels = Annotated[int, typer.Option(min=1, help="The channels that it takes.")]
DataSet = Annotated[str, typer.Option(help="A data set by name.", autocompletion=completion.dataset_names)]

_NAMES = "by name, with commas; 'all' for every one"
Methods = Annotated[str, typer.Option(help=f"Methods {_NAMES}.", autocompletion=completion.method_lists)]
SomeMethods = Annotated[
    str | None, typer.Option(help=f"Methods {_NAMES}; else a few quick ones.", autocompletion=completion.method_lists)
]
SomeMetrics = Annotated[
    str | None, typer.Option(help=f"Metrics {_NAMES}; else a few quick ones.", autocompletion=completion.metric_lists)
]

StudyFile = Annotated[
    Path,
    typer.Argument(
        help="A study file (TOML), which `xaicompare new-study` writes, or a name of `xaicompare suites`.",
        autocompletion=completion.study_files,
    ),
]
ExperimentFile = Annotated[
    Path,
    typer.Argument(
        help="An experiment file (TOML), or a name of `xaicompare suites`.", autocompletion=completion.study_files
    ),
]
OutFolder = Annotated[
    Path,
    typer.Option(
        help="The folder for tables and figures; what is finished in it is not done again.",
        autocompletion=completion.folders,
    ),
]
LogFile = Annotated[Path | None, typer.Option(help="A file to add a line of JSON to for each finished cell.")]
Quick = Annotated[
    bool,
    typer.Option(
        "--quick", help="A first look: at most 16 images, a quarter of the samples; into the folder OUT-quick."
    ),
]
ResultsFolder = Annotated[
    Path,
    typer.Argument(
        help="A folder that `xaicompare run` or `xaicompare train` wrote.", autocompletion=completion.folders
    ),
]


def listed(names: str | None) -> list[str]:
    """Names with commas; none for none."""
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def examples(*commands: str) -> str:
    """What stands below a command's help."""
    return "\n\n".join(["**Examples**", *(f"`xaicompare {command}`" for command in commands)])


Fit = Annotated[
    Literal["crop", "pad", "stretch"],
    typer.Option(help="How an image becomes a square: crop cuts off the rim, pad and stretch show all of it."),
]
