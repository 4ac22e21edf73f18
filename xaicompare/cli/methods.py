"""`xaicompare methods`: what there is, and what of it is defined on a network."""

from typing import Annotated

import typer

from xaicompare.console import OUT, methods_table, say
from xaicompare.options import Channels, Classes, Side, WeightsFile, examples

METHODS_EXAMPLES = examples("methods", "methods --model vit_b_16", "methods --model net.py:make --size 64")

_NEEDS = {
    "attention": "an attention module, see xaicompare.attend",
    "transformer": "a transformer",
    "pooling": "global average pooling before the last layer",
}


def methods(
    model: Annotated[
        str | None, typer.Option(help="A SPEC as for `evaluate`: which methods are defined on it.")
    ] = None,
    weights: WeightsFile = None,
    classes: Classes = 1000,
    size: Side = 224,
    channels: Channels = 3,
) -> None:
    """List the attribution methods: how each works, what it needs, what it costs.

    With --model it explains one random image by each, and says which are defined on that network.
    """
    from xaicompare.registry import METHODS

    if model is not None:
        _defined(model, weights, classes, (1, channels, size, size))
        return
    OUT.print(methods_table())
    say(
        "agnostic: needs the model's outputs only. baseline: compares with a reference input. neuron relevance: every "
        "neuron gets a relevance that is not a gradient. conserves: the values sum to the output, or to its difference "
        "from the baseline. forward + backward: images passed for each one explained, measured at the default settings."
    )
    for needs, what in _NEEDS.items():
        names = [name for name in METHODS.names() if METHODS.build(name).traits.needs == needs]
        say(f"{', '.join(names)}: {'need' if len(names) > 1 else 'needs'} {what}.")


def _defined(model: str, weights: str | None, classes: int, shape: tuple[int, ...]) -> None:
    """Says which methods explain a network; those that need nothing but its outputs explain every one."""
    import torch

    from xaicompare.cli.grid import opened_by_name
    from xaicompare.comparison import attempted
    from xaicompare.core import Attribution
    from xaicompare.draws import generator
    from xaicompare.progress import progress
    from xaicompare.registry import METHODS

    network = opened_by_name(model, classes, shape[1], weights).model
    example = torch.randn(shape, generator=generator(0))
    every = {name: METHODS.build(name).traits for name in METHODS.names()}
    tried = [name for name, traits in every.items() if not traits.agnostic]
    made = {name: attempted(network, example, name, 0, strict=False)[name] for name in progress(tried, "methods")}
    right = [name for name in every if name not in made or isinstance(made[name], Attribution)]
    say(f"{', '.join(right)}.", first=f"defined on {model}:")
    for name, found in made.items():
        if not isinstance(found, Attribution):
            say(str(found).removeprefix(f"{name}: "), first=f"{name}:")
