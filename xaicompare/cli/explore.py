"""What `xaicompare explore` does: a network and images to pages that are served on this machine."""

import webbrowser
from pathlib import Path
from typing import Annotated, Literal

import typer

from xaicompare import completion
from xaicompare.console import say
from xaicompare.errors import SettingError
from xaicompare.options import Classes

_DATA = "The data set of small images that a network is trained on, once: digits, mnist or cifar10."


def explore(
    model: Annotated[
        str | None,
        typer.Option(
            help="A network by name or SPEC (timm:NAME, net.py:make); else small_cnn on --data.",
            autocompletion=completion.model_names,
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="A .safetensors or .pt file, or a name of torchvision's such as DEFAULT.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="A folder of images to begin with.", autocompletion=completion.folders)
    ] = None,
    data: Annotated[str | None, typer.Option(help=_DATA, autocompletion=completion.dataset_names)] = None,
    beside: Annotated[
        str | None,
        typer.Option(help="A second network to compare with.", autocompletion=completion.model_names),
    ] = None,
    beside_weights: Annotated[str | None, typer.Option(help="Its weights.")] = None,
    classes: Classes = 1000,
    size: Annotated[int, typer.Option(min=8, max=1024, help="The side that images are brought to, in pixels.")] = 224,
    fit: Annotated[
        Literal["crop", "stretch"], typer.Option(help="How an image becomes a square: crop cuts off the rim.")
    ] = "crop",
    grey: Annotated[bool, typer.Option("--grey", help="The network takes one channel, in [0, 1].")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0: any free one.")] = 8617,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Open a page in the browser to explain images by hand: see, remove, draw; on this machine only."""
    from xaicompare.explore import Explorer
    from xaicompare.explore.exhibit import Exhibit, of_dataset, of_photographs

    def opened(name: str | None, file: str | None) -> Exhibit:
        if data is not None or (name is None and images is None):
            if file is not None or images is not None:
                raise SettingError("--data beside --weights or --images; expected one. Data sets train their network.")
            return of_dataset(data or "digits", name or "small_cnn")
        if name is None:
            raise SettingError("--images without --model; expected the network that they are shown to. Name one.")
        return of_photographs(name, images, weights=file, classes=classes, size=size, fit=fit, grey=grey)

    usual = "lenet" if model is None and data is None and images is None else None
    other = beside or usual
    shown = [opened(model, weights)]
    if other is not None:
        data = data or ("digits" if usual else None)
        shown.append(opened(other, beside_weights))
    explorer = Explorer(tuple(shown), port=port)
    say(f"{explorer.url} shows {shown[0].title}; Ctrl-C ends it.", first="Page:")
    if browser:
        webbrowser.open(explorer.url)
    explorer.run()
