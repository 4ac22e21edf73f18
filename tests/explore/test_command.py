"""The command, and the picture of removals."""

import re
import signal
import subprocess
import sys
import urllib.request

import pytest
import torch
from torch import nn

import xaicompare as xc
from xaicompare import figures
from xaicompare.errors import SettingError, XaiCompareError


def curves() -> dict[str, object]:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    made = xc.attribute(model, torch.rand(1, 1, 4, 4), "saliency")
    shares = [0.0, 0.25, 0.5, 1.0]
    return {
        order: xc.curve(model, made, "confidence_removal", order=order, shares=shares) for order in ("most", "least")
    }


def test_the_picture_of_removals_shows_every_curve_and_image() -> None:
    given = curves()
    images = {title: torch.rand(1, 4, 4) for title in given}
    figure = figures.removed(given, images, 2, classes=["a", "$b$", "c"])
    panel, *cells = figure.axes
    lines = {line.get_label(): line.get_ydata() for line in panel.lines if line.get_label() in given}
    for title, curve in given.items():
        assert lines[title].tolist() == pytest.approx(curve.values[0].tolist())
    assert len(cells) == 2
    assert f"{float(given['most'].values[0, 2]):.3f}" in cells[0].get_title()
    figure.canvas.draw()
    for wrong in ({}, {"two": two()}):
        with pytest.raises(xc.InputError, match="one sample each"):
            figures.removed(wrong, {}, 0)
    with pytest.raises(xc.InputError, match="shares"):
        figures.removed(given, images, 9)


def two() -> object:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    return xc.curve(model, xc.attribute(model, torch.rand(2, 1, 4, 4), "saliency"), "confidence_removal")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"images": "photos"}, "Name one"),
        ({"data": "digits", "images": "photos"}, "expected one"),
        ({"data": "digits", "weights": "a.pt"}, "expected one"),
        ({"model": "resnet81"}, "resnet18"),
        ({"data": "digit"}, "digits"),
    ],
)
def test_what_does_not_go_together_is_told(options: dict, words: str) -> None:
    from xaicompare.cli.explore import explore

    with pytest.raises(XaiCompareError, match=words):
        explore(**options, port=0, browser=False, classes=10, size=32, fit="crop", grey=False)
    assert issubclass(SettingError, XaiCompareError)


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import xaicompare.explore

    def lacks(name: str) -> object:
        raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")

    monkeypatch.setattr("importlib.import_module", lacks)
    with pytest.raises(XaiCompareError, match=r"xaicompare-torch\[explore\]"):
        xaicompare.explore.__getattr__("Explorer")


def test_the_command_serves_a_page_until_it_is_stopped(digits: object) -> None:
    command = [sys.executable, "-m", "xaicompare", "explore", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        try:
            said = running.stdout.readline()
            url = re.search(r"http://127\.0\.0\.1:\d+/", said)[0]
            with urllib.request.urlopen(url, timeout=60) as answer:
                assert b"xaicompare" in answer.read()
        finally:
            running.send_signal(signal.SIGINT)
            rest = running.communicate(timeout=60)[0]
    assert "Traceback" not in rest
