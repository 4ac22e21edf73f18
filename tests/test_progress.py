"""How far long work is, where there is no terminal."""

import pytest

from xaicompare import progress as shown
from xaicompare.progress import board, hushed, progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test turns."""
    now = [100.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: now[0])
    return now


def test_a_pipe_gets_plain_lines_now_and_then(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in progress(range(200), "judging", unit="cells"):
        clock[0] += 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "judging: 10 of 200 cells, 5 %, about 3 min left".replace("5 %", "5%")
    assert len(told) == 7  # at 10 s, and every 30 s from there on
    assert "\x1b" not in "".join(told)


def test_short_work_is_silent(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in board(range(5), "judging", total=5, unit="cells", lines=list):
        clock[0] += 1
    assert capsys.readouterr().err == ""


def test_steps_that_weigh_and_work_without_a_total(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in progress([30, 70], "training", total=100, unit="images", weight=lambda step: step):
        clock[0] += 60
    for _ in progress(iter("abc"), "looking"):
        clock[0] += 8
    assert capsys.readouterr().err.splitlines() == [
        "training: 30 of 100 images, 30%, about 2 min left",
        "looking: 2 it, 16 s so far",
    ]


def test_parts_say_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with hushed():
        for _ in progress(range(3), "part"):
            clock[0] += 60
    assert capsys.readouterr().err == ""
