"""What all tests share; its place here also lets them import `nets` and `oracles` beside it."""

import os

import pytest
import torch

import xaicompare._torchvision  # noqa: F401 (before any test imports torchvision beside a CPU-only torch)

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: one thread each
    torch.set_num_threads(1)


# Minutes together: processes that are killed, browsers, trainings, every method on every architecture.
LONG = ("study/test_survival", "study/test_cluster", "study/test_faults", "study/test_lock", "explore/", "reporting/")
LONG += ("training/", "test_full", "test_train", "test_zoo_contract", "test_docs", "metrics/test_direction", "test_cli")
LONG += (
    "study/test_cells",
    "study/test_kept_maps",
    "study/test_telling",
    "study/test_quick",
    "lrp/test_guidance",
    "zoo/test_datasets",
    "test_evaluation",
    "test_torchvision",
    "metrics/test_peer",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="one case of each test, without those that take long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--quick"):
        return
    kept: dict[tuple[str, str], pytest.Item] = {}
    for item in items:
        long = item.get_closest_marker("slow") or any(part in item.nodeid for part in LONG)
        if not long:
            kept.setdefault((str(item.path), getattr(item, "originalname", None) or item.name), item)
    chosen = list(kept.values())
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen


@pytest.fixture(autouse=True)
def _same_draws_in_any_order() -> None:
    torch.manual_seed(0)
