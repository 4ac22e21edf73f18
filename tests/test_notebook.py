"""What notebooks show: valid, small, escaped, and the numbers that are there."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

import xaicompare as xc
from xaicompare.colours import STOPS
from xaicompare.notebook import relevance_picture, table
from xaicompare.results import Row
from xaicompare.runs import Run, Runs

EVIL = "<script>alert('&')</script>"
VOID = {"img"}


class Reader(HTMLParser):
    """Reads HTML strictly: what is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.words, self.images, self.tags = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        assert set(self.tags) <= {"div", "b", "small", "table", "thead", "tbody", "tr", "th", "td", "img"}

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def pixels(uri: str) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    image.load()  # checks its sums
    return np.asarray(image.convert("RGB")).astype(int)


def network(shape: tuple[int, ...]) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(int(np.prod(shape)), 3))


@pytest.mark.parametrize("shape", [(3, 224, 224), (1, 32, 32), (7,), (300,), (1, 1, 1)])
def test_an_attribution_shows_scores_completeness_and_maps(shape: tuple[int, ...]) -> None:
    inputs = torch.randn(9, *shape, generator=torch.Generator().manual_seed(0))
    made = xc.attribute(network(shape), inputs, method="integrated_gradients", n_steps=8)
    text = made._repr_html_()
    read = Reader(text)
    told = " ".join(read.words)
    assert len(text) < 100_000
    assert len(read.images) == 8  # of nine
    assert "the first 8 shown" in told
    assert "IntegratedGradients(n_steps=8" in told
    assert f"{float(made.score[0]):.4g}" in told
    assert "completeness: ok" in told
    assert all(image["alt"] for image in read.images)
    assert max(pixels(read.images[0]["src"]).shape[:2]) <= 64


def test_a_method_that_promises_nothing_says_so() -> None:
    made = xc.attribute(network((2,)), torch.ones(1, 2), method="saliency")
    assert "not promised" in " ".join(Reader(made._repr_html_()).words)
    assert "completeness: " not in made._repr_html_()


def test_a_picture_has_the_stated_colours() -> None:
    values = torch.tensor([[0.0, 1.0, -1.0, 1 / 3]])
    picture = relevance_picture(values, "words")
    assert picture is not None
    expected = [[int(STOPS[k][i : i + 2], 16) for i in (1, 3, 5)] for k in (3, 6, 0, 4)]
    assert np.abs(pixels(picture.uri)[0] - np.array(expected)).max() <= 2
    assert (pixels(relevance_picture(torch.zeros(5, 4), "").uri) == 255).all()
    assert relevance_picture(torch.zeros(2, 3, 4), "") is None
    large = torch.rand(128, 128)
    half = large.reshape(64, 2, 64, 2).mean((1, 3))
    assert relevance_picture(large, "").uri == relevance_picture(half, "").uri  # means of the pixels that fall together


def test_words_of_users_are_escaped_and_cut() -> None:
    read = Reader(table(EVIL, [EVIL, "x" * 9999], [EVIL], [[EVIL], [relevance_picture(torch.ones(2, 2), '"' + EVIL)]]))
    assert read.words.count(EVIL) == 4
    assert read.images[0]["alt"] == '"' + EVIL
    assert max(map(len, read.words)) < 500


def test_results_show_their_first_rows() -> None:
    row = Row("mlp", "digits", EVIL, 0, 3, None, 3, "deletion", "value", None, None, 0.123456, 0.1, "removal", "low")
    results = xc.Results.from_rows([row._replace(image=i) for i in range(5000)])
    text = results._repr_html_()
    read = Reader(text)
    assert read.words[0] == repr(results)
    assert EVIL in read.words
    assert {"0.1235", "–"} <= set(read.words)
    assert read.tags.count("tr") == 9
    assert len(text) < 10_000
    Reader(xc.Results.joined([])._repr_html_())


def test_runs_show_their_first_rows() -> None:
    run = Run("k", EVIL, 0.1, 0, 1, 50, 0.91, float("nan"), 9, 1.5, 0.3, 0.1, "", "cpu", 1, 100, 0.1)
    read = Reader(Runs.of([run, run._replace(repeat=1)])._repr_html_())
    assert EVIL in read.words
    assert re.fullmatch(r"Runs\(2 trainings.*", read.words[0])
    Reader(Runs.of()._repr_html_())
