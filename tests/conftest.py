"""What all tests share; its place here also lets them import `nets` and `oracles` beside it."""

import pytest
import torch

import xaicompare._torchvision  # noqa: F401 (before any test imports torchvision beside a CPU-only torch)


@pytest.fixture(autouse=True)
def _same_draws_in_any_order() -> None:
    torch.manual_seed(0)
