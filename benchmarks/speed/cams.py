"""Score-CAM and Ablation-CAM beside pytorch-grad-cam at equal work: the same layer, images and channels.

    python benchmarks/speed/cams.py [--side 64] [--rounds 3]

ResNet-18 with random weights, one image; the two in turn in one process, medians of seconds. Needs the package
grad-cam.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

import xaicompare as xc

# isort: split
import torchvision
from pytorch_grad_cam import AblationCAM, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

PEERS = {"scorecam": ScoreCAM, "ablationcam": AblationCAM}


def seconds(call: Callable[[], object]) -> float:
    """How long it took."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def main() -> None:
    """Prints a line per method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10).eval()
    inputs = torch.randn(1, 3, asked.side, asked.side)
    for name, peer in PEERS.items():
        ours, theirs = [], []
        for _ in range(asked.rounds):
            ours.append(seconds(partial(xc.attribute, model, inputs, 1, name, layer="layer4")))
            made = peer(model=model, target_layers=[model.layer4])
            made.batch_size = 64
            theirs.append(seconds(partial(made, inputs, [ClassifierOutputTarget(1)])))
        one, other = statistics.median(ours), statistics.median(theirs)
        print(f"{name}: ours {one:.2f} s, pytorch-grad-cam {other:.2f} s, ratio {other / one:.1f}")


if __name__ == "__main__":
    main()
