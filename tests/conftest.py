"""What all tests share; its place here also lets them import `nets` and `oracles` beside it."""

import os

import pytest
import torch

import xaicompare._torchvision  # noqa: F401 (before any test imports torchvision beside a CPU-only torch)

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: one thread each
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_draws_in_any_order() -> None:
    torch.manual_seed(0)
