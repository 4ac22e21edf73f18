"""What the page says: its answer, what its counts are of, and the texts of methods and metrics."""

import html
import re
from pathlib import Path

import pytest
from small_study import STUDY, data, studied

import xaicompare as xc
from xaicompare.reporting.findings import Findings
from xaicompare.reporting.material import Material
from xaicompare.reporting.pictures import coloured
from xaicompare.reporting.verdict import number


@pytest.fixture(scope="module")
def written(folder: Path) -> str:
    return xc.report(folder).read_text(encoding="utf-8")


def test_counts_are_of_the_same_metrics_everywhere(written: str) -> None:
    tests = data(written)["tests"]
    counted = sum(metric["counts"] for metric in tests["metrics"])
    markup = html.unescape(re.sub(r"<script.*?</script>", "", written, flags=re.S))
    told = re.findall(r"(?:of|over) the\s+(\d+) metrics that count|of (\d+) metrics that count", markup)
    assert len(told) >= 3
    assert {int(one or other) for one, other in told} == {counted}


def test_every_metric_named_has_a_definition(written: str) -> None:
    markup = re.sub(r"<script.*?</script>", "", written, flags=re.S)
    defined = dict(re.findall(r'<div popover class="about" id="([^"]+)"><h3>(.*?)</h3>', markup))
    assert {html.unescape(name) for name in defined.values()} == {m["name"] for m in data(written)["tests"]["metrics"]}
    told = re.findall(r'<div popover class="about".*?</div>', markup, re.S)
    assert all(len(re.findall("<p", one)) == 2 for one in told)  # what it computes, and which way is good
    named = re.findall(r'class="term" popovertarget="([^"]+)">(.*?)</button>', markup)
    assert len(named) >= 6
    assert all(defined[place] == name for place, name in named)


def test_the_answer_is_the_method_that_leads_most_of_what_counts(written: str, folder: Path) -> None:
    said = re.sub("<[^>]+>", "", re.search(r'<p class="said">(.*?)</p>', written, re.S)[1])
    best = html.unescape(re.match("Believe (.*) first: ", said)[1])
    material = Material.of(folder)
    found = Findings.of(material)
    leads = found.leads(found.counted)
    assert leads[best] == max(leads.values()) > 0
    shown = re.findall(r'<span class="stack">.*?</span>', written, re.S)
    assert len(shown) == 3
    assert (
        all(coloured(material.examples.maps[best][place]) in "".join(shown) for place in range(3))
        or len({told.target for told in material.examples.told[:3]}) < 3
    )
    costs = re.search(r'<dl class="told-facts">.*?</dl>', written, re.S)[0]
    assert f"{number(material.costs[best]['passes'])} passes for each image" in costs


def test_without_a_best_the_answer_says_so(tmp_path: Path) -> None:
    page = xc.report(studied(tmp_path, STUDY.replace("images = 12", "images = 4"))).read_text(encoding="utf-8")
    said = re.search(r'<p class="said">(.*?)</p>', page, re.S)[1]
    assert "Believe" not in said
    assert '<dl class="told-facts">' not in page
    assert '<div class="best-maps' not in page


def test_a_method_s_text_is_there_once_and_its_marks_are_rendered(written: str) -> None:
    markup = re.sub(r"<script.*?</script>", "", written, flags=re.S)
    cards = re.findall(r'<details class="card method">.*?</details>', markup, re.S)
    assert len(cards) == len(set(cards)) == 8  # four controls, and four methods that gave rows
    summary = xc.reporting.words.method_definition("saliency").summary
    assert html.unescape(markup).count(summary) == 1
    assert "`" not in "".join(re.sub(r"<code>.*?</code>", "", card) for card in cards)


def test_variants_of_a_method_share_its_card(tmp_path: Path) -> None:
    methods = """methods = [
      { name = "lrp", composite = "epsilon" }, { name = "lrp", composite = "flat", label = "lrp-flat" },
    ]\n"""
    text = STUDY.replace(STUDY[STUDY.index("methods = [") : STUDY.index("metrics = [")], methods)
    page = xc.report(studied(tmp_path, text)).read_text(encoding="utf-8")
    (card,) = (card for card in re.findall(r'<details class="card method">.*?</details>', page, re.S) if "LRP" in card)
    assert "<b>LRP</b>" in card
    assert "2 variants" in card
    assert "<b>LRP epsilon</b>" in card
    assert "<b>LRP flat</b>" in card
    assert "<li><code>composite</code>: the name of a rule" in card  # the docstring's list is a list
    assert "lrp-flat" in card  # as the tables call it
