"""`xaicompare doctor`: what would make a method wrong on a network."""

from xaicompare.console import say
from xaicompare.options import Channels, Classes, NetworkArgument, Side, WeightsFile, examples

DOCTOR_EXAMPLES = examples(
    "doctor resnet18 --weights resnet18.safetensors", "doctor small_cnn --classes 10 --size 32 --channels 1"
)


def doctor(
    model: NetworkArgument,
    weights: WeightsFile = None,
    classes: Classes = 1000,
    size: Side = 224,
    channels: Channels = 3,
) -> None:
    """Examine a network: what would make which method wrong, where it is, and what helps."""
    import torch

    from xaicompare import diagnosis
    from xaicompare.cli.grid import opened_by_name
    from xaicompare.draws import generator

    network = opened_by_name(model, classes, channels, weights).model
    example = torch.randn(2, channels, size, size, generator=generator(0))
    say(str(diagnosis.doctor(network, example)))
