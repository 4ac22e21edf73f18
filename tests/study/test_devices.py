"""Which device a process takes: each its own while there are enough, on a machine that need not have any."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from xaicompare.errors import StudyError
from xaicompare.study import devices as module
from xaicompare.study.devices import devices, own


def test_each_takes_a_device_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module, "_place", module._place.__wrapped__)  # each call as if by another process
    two = ["cuda:0", "cuda:1"]
    before = len(module._held)
    assert [own(two), own(two)] == two
    assert own(two) == "cuda:0", "three share two"
    module._held.pop(before + 1).close()  # as the system does when a process ends
    assert own(two) == "cuda:1"
    for file in module._held[before:]:
        file.close()
    del module._held[before:]


def test_a_process_keeps_its_device(tmp_path: Path) -> None:
    assert module._place(tmp_path) == module._place(tmp_path) == 0
    module._held.pop().close()


def test_devices_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_cuda(count: int) -> Callable[[], int]:
        return lambda: count

    monkeypatch.setattr(torch.cuda, "device_count", with_cuda(2))
    assert devices("auto") == devices("cuda") == ("cuda:0", "cuda:1")
    assert devices("cpu") == ("cpu",)
    monkeypatch.setattr(torch.cuda, "device_count", with_cuda(0))
    assert devices("auto") == ("cpu",)
    with pytest.raises(StudyError, match="has no such device"):
        devices("cuda")
