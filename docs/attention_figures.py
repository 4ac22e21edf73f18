"""Measures what the pages of methods that need attention say of the networks in their pictures; about two minutes.

python docs/attention_figures.py
"""

import pictures
import torch
from torch import Tensor, nn

import xaicompare as xc
from xaicompare.attended import attention_modules
from xaicompare.cost import measured
from xaicompare.training.fit import accuracy, trained
from xaicompare.zoo import Dataset

IMAGES = 100
INK = 0.25  # of white


def main() -> None:
    """Prints a table for each network."""
    torch.set_num_threads(1)
    data = xc.load_dataset("digits")
    inputs, _ = data.test.batch(range(IMAGES))
    ink = data.scale.pictures(inputs) > INK
    print(f"{IMAGES} digits, of whose area {ink.float().mean():.2f} is ink.\n")

    attended, found = trained("attended_cnn", data, pictures.ATTENDED_RECIPE, width=16)
    print(f"attended_cnn: accuracy {found.accuracy:.3f}, with equal weights {_without(attended, data):.3f}")
    table(attended, inputs, ink, ["attention", "extended_lrp", "attention_refined_lrp"])
    gammas(attended, inputs)
    costs(attended, inputs[:4])

    vit, found = trained("tiny_vit", data, pictures.TRANSFORMER_RECIPE)
    print(f"tiny_vit: accuracy {found.accuracy:.3f}")
    table(vit, inputs, ink, ["attention_rollout", "gradient_rollout"])


def _without(model: nn.Module, data: Dataset) -> float:
    """Accuracy with equal weights in place of those of attention."""
    (module,) = attention_modules(model).values()
    handle = module.gate.register_forward_hook(lambda _module, _inputs, gate: torch.ones_like(gate))
    try:
        return accuracy(model, data.test)
    finally:
        handle.remove()


def table(model: nn.Module, inputs: Tensor, ink: Tensor, methods: list[str]) -> None:
    """Where maps lie, and with what they correlate; means over images."""
    with torch.no_grad():
        predicted = model(inputs).argmax(1)
    occluded = xc.attribute(model, inputs, predicted, method="occlusion", window=8, stride=4).values
    first = xc.attribute(model, inputs, predicted, method=methods[1]).values
    print(f"\n| method | on ink | with occlusion | with the next class | with {methods[1]} |\n|---|---|---|---|---|")
    for method in methods:
        values = xc.attribute(model, inputs, predicted, method=method).values
        other = xc.attribute(model, inputs, (predicted + 1) % 10, method=method).values
        told = (_share(values.clamp(min=0), ink), *(_correlation(values, each) for each in (occluded, other, first)))
        print(f"| {method} | {' | '.join(f'{each:.2f}' for each in told)} |")
    print()


def gammas(model: nn.Module, inputs: Tensor) -> None:
    """What each gamma of `extended_lrp` does."""
    mean = xc.attribute(model, inputs, method="extended_lrp").values
    print("| gamma | of relevance's size below 0 | with the mean |\n|---|---|---|")
    for gamma in xc.ExtendedLRP().gammas:
        values = xc.attribute(model, inputs, method="extended_lrp", gammas=(gamma,)).values
        print(f"| {gamma:g} | {_share(values.abs(), values < 0):.2f} | {_correlation(values, mean):.2f} |")
    print()


def costs(model: nn.Module, inputs: Tensor) -> None:
    """Arithmetic in forward passes."""
    target = torch.zeros(len(inputs), dtype=torch.int64)
    many = xc.LRP(composite="gamma"), xc.ExtendedLRP(), xc.ExtendedLRP(classes=3), xc.AttentionRefinedLRP()
    print("| method | forward passes |\n|---|---|")
    for method in many:
        print(f"| {method} | {measured(method, model, inputs, target).passes:.1f} |")
    print()


def _share(values: Tensor, where: Tensor) -> float:
    """Of the sum of values of at least 0; they are not all 0 in these networks' maps."""
    return float(((values * where).flatten(1).sum(1) / values.flatten(1).sum(1)).mean())


def _correlation(these: Tensor, those: Tensor) -> float:
    """Pearson's."""
    a, b = (each.flatten(1) - each.flatten(1).mean(1, keepdim=True) for each in (these, those))
    return float(torch.cosine_similarity(a, b).mean())


if __name__ == "__main__":
    main()
