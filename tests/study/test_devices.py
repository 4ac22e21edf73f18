"""Which device a process takes: each its own while there are enough, on a machine that need not have any."""

from collections.abc import Callable
from pathlib import Path

import joblib
import pytest
import torch

from xaicompare.errors import StudyError
from xaicompare.study import devices as module
from xaicompare.study.crew import Crew
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


def test_threads_of_a_crew_stay_below_those_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblib, "cpu_count", lambda: 16)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert [Crew(jobs=jobs).threads for jobs in (1, 4, 8, 32)] == [3, 3, 2, 1]


def test_the_kind_of_device_of_a_crew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Crew().kind == "cpu"
    assert Crew(device="auto").kind == Crew(device="cuda").kind == "cuda"
    assert Crew(backend="ray", device="cuda").kind == "cuda"
