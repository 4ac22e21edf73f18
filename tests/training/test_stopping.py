"""Early stopping by batches: windows, patience, best weights."""

import pytest
import torch
from torch import nn

from xaicompare.training.stopping import Stopping, split
from xaicompare.zoo import ImageArray, Scale


def test_more_data_wider_windows_and_more_patience() -> None:
    watches = [Stopping().begin(round(60000 * share), 64, share) for share in (0.01, 0.1, 0.5, 1.0)]
    assert [watch.window for watch in watches] == [5, 9, 47, 94]
    assert [watch.patience for watch in watches] == [4, 5, 8, 10]


def test_it_stops_after_the_patience_and_takes_the_best_weights() -> None:
    watch = Stopping(patience_least=2, patience_most=2).begin(64, 64, 1.0)
    model, stops = nn.Linear(1, 1), []
    for step, accuracy in enumerate([0.2, 0.5, 0.5, 0.4, 0.9]):
        nn.init.constant_(model.weight, step)
        while not watch.is_due():
            pass
        stops.append(watch.stops(model, accuracy))
        if stops[-1]:
            break
    assert stops == [False, False, False, True]  # two windows without better than 0.5
    assert watch.accuracies == [(5, 0.2), (10, 0.5), (15, 0.5), (20, 0.4)]
    watch.restore(model)
    assert model.weight.item() == 1.0


@pytest.mark.parametrize(("n", "held"), [(100, 10), (2, 1)])
def test_validation_images_are_not_trained_on(n: int, held: int) -> None:
    images = ImageArray(torch.arange(n).view(n, 1, 1, 1).to(torch.uint8), torch.zeros(n).long(), Scale((0.0,), (1.0,)))
    kept, out = split(images, 0.1)
    assert (len(kept), len(out)) == (n - held, held)
    assert set(kept.pixels.flatten().tolist()).isdisjoint(out.pixels.flatten().tolist())
