"""The page without a browser: it says what the tables say, escapes what users wrote, and asks for nothing."""

import base64
import csv
import hashlib
import html
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import vl_convert
from PIL import Image
from small_study import HOSTILE, SHOWN, STUDY, data, studied

import xaicompare as xc
from xaicompare.colours import STOPS
from xaicompare.errors import DataError
from xaicompare.methods import Random, Saliency
from xaicompare.reporting.charts import COLOURS, CONTROLS, OTHERS, _once
from xaicompare.reporting.findings import Findings, Measure
from xaicompare.reporting.pictures import coloured
from xaicompare.reporting.verdict import _best, sentence
from xaicompare.study import Study, run
from xaicompare.study.examples import Examples, _small


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return xc.report(folder).read_text(encoding="utf-8")


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    """A table's rows, the methods called as the page calls them."""
    with (folder / name).open(encoding="utf-8", newline="") as file:
        known = list(csv.DictReader(file))
    who = ("method", "other", "winner")
    return [{key: SHOWN.get(text, text) if key in who else text for key, text in row.items()} for row in known]


def test_the_leaderboard_shows_the_means_of_standings(page: str, folder: Path) -> None:
    board = re.search(r'<table id="board".*?</table>', page, re.S)[0]
    metrics = [html.unescape(name) for name in re.findall(r'data-column="\d+".*?data-name="([^"]+)"', board)]
    shown = {}
    for line in re.findall(r"<tr.*?</tr>", board.partition("<tbody>")[2], re.S):
        method = html.unescape(re.search(r'<th scope="row" data-value="([^"]*)"', line)[1])
        for column, value in re.findall(r'data-column="(\d+)" data-value="([^"]*)"', line):
            if value:
                shown[metrics[int(column)], method] = float(value)
    known = {(row["metric"], row["method"]): float(row["mean"]) for row in rows(folder, "standings.csv")}
    assert len(known) > 20
    assert shown == known


def test_tests_of_the_page_are_those_of_the_table(page: str, folder: Path) -> None:
    tests = data(page)["tests"]
    shown = {
        (metric["name"], tests["methods"][i], tests["methods"][j]): (
            gap,
            p,
            tests["methods"][winner] if winner >= 0 else "",
        )
        for metric in tests["metrics"]
        for i, j, gap, _, _, p, winner, _ in metric["pairs"]
    }
    known = rows(folder, "tests.csv")
    assert len(shown) == len(known)
    for row in known:
        gap, p, winner = shown[row["metric"], row["method"], row["other"]]
        assert gap == pytest.approx(float(row["difference"]), rel=1e-3)
        assert p == pytest.approx(float(row["p_holm"]), rel=1e-3)
        assert winner == row["winner"]


def measure(winners: dict[tuple[str, str], str], images: int = 30) -> Measure:
    """Three methods and a control, whose tests have these winners."""
    return findings(winners, images).measures[0]


def findings(winners: dict[tuple[str, str], str], images: int = 30) -> Findings:
    """What one metric says of them."""
    methods = ["a", "b", "c", "random"]
    known = {"metric": "road", "family": "removal", "better": "high", "low": 0.0, "high": 1.0, "images": images}
    standings = [
        known
        | {"method": method, "mean": 1.0 - place / 4, "rank": float(place), "beats": "yes" if method == "a" else "no"}
        for place, method in enumerate(methods)
    ]
    pairs = [(one, other) for place, one in enumerate(methods) for other in methods[place + 1 :]]
    tests = [{"metric": "road", "method": a, "other": b, "winner": winners.get((a, b), "")} for a, b in pairs]

    class Tables:
        pass

    tables = Tables()
    tables.standings, tables.tests = standings, tests
    return Findings.of(tables)


def test_the_best_are_those_that_nobody_beats() -> None:
    found = measure({("a", "c"): "a", ("b", "c"): "b", ("a", "random"): "a", ("c", "random"): "c"})
    assert found.leading == ["a", "b"]  # b is not told apart from a; c loses, though it beats random
    assert not found.undecided
    assert not found.uncontrolled
    assert sentence(found) == (
        "a has the best mean, 1.00 (0 to 1.00), on 30 images. Among the best, too: b. "
        "2 of 4 methods are significantly worse than at least one other."
    )
    assert measure({("a", "b"): "b"}).leading == ["b", "c", "random"]  # on common images, whatever the means say
    assert measure({("a", "b"): "a"}).uncontrolled


@pytest.mark.parametrize(("images", "undecided"), [(7, True), (8, False)])
def test_too_few_images_are_told(images: int, undecided: bool) -> None:
    """Six pairs: Wilcoxon's least p of n images is 2^(1 - n), and Holm's first factor 6; 6 / 128 is below 0.05."""
    found = measure({}, images)
    assert found.undecided is undecided
    assert ("too few" in sentence(found)) is undecided


def test_marks_say_who_beats_no_control_and_who_was_judged_on_too_few(folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "copy")
    text = (place / "standings.csv").read_text(encoding="utf-8")
    (place / "standings.csv").write_text(text.replace(",yes", ",few").replace(",no", ",few"), encoding="utf-8")
    page = xc.report(place).read_text(encoding="utf-8")
    assert re.findall('<b class="dagger"[^>]*>(.)</b>', page)[0] == "?"
    assert 'title="does not beat every control"' not in page


def test_what_failed_or_is_not_finished_is_told_first(folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "copy")
    known = json.loads((place / "environment.json").read_text())
    (place / "environment.json").write_text(json.dumps(known | {"failed": {"saliency": "<b>no</b> memory"}}))
    study = replace(Study.load(place / "study.toml"), images=4, methods={"saliency": Saliency(), "random": Random()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAICOMPARE_CACHE", str(tmp_path / "cache"))
        run(study, place)
    assert "not finished" not in (finished := xc.report(place).read_text(encoding="utf-8"))
    assert "failed, so that rows are missing: &lt;b&gt;no&lt;/b&gt; memory" in finished
    cells = sorted((place / "cells").glob("*.parquet"))
    for cell in cells:
        cell.unlink()
    assert "cells of the last run are not finished" in xc.report(place).read_text(encoding="utf-8")
    for name in ("results.parquet", "standings.csv"):
        (place / name).unlink()
    with pytest.raises(DataError, match=r"cells are not finished; expected a finished one\. Run it again"):
        xc.report(place)


def test_metrics_that_a_control_wins_are_not_counted() -> None:
    found = findings({("a", "b"): "a"})
    assert "Nothing to rely on: a control" in _best(found)
    assert "a and b are" in _best(findings({("a", "c"): "a", ("a", "random"): "a", ("b", "random"): "b"}))


def test_enough_images_but_no_difference_says_who_leads_so_far() -> None:
    found = findings({})
    tests = [test | {"difference": -0.1, "low": -0.3, "high": 0.1, "images_needed": 90} for test in found.first.tests]
    found.measures[0] = found.measures[0]._replace(tests=tests)
    assert _best(found) == (
        "Nothing is sure yet: 4 methods on 30 images. So far a, b and c lead by road: a differs from b by −0.100 "
        "(−0.300 to 0.100); about 90 images would tell these two apart."
    )


def test_labels_and_class_names_are_text(folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "copy")
    content = json.loads((place / "examples.json").read_text())
    content["classes"] = [f'"><img src=x onerror=alert({n})>' for n in range(10)]
    (place / "examples.json").write_text(json.dumps(content))
    told = json.loads((place / "environment.json").read_text())
    (place / "environment.json").write_text(json.dumps(told | {"command": "</code></script><script>alert(2)</script>"}))
    page = xc.report(place).read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert html.escape(HOSTILE) in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert HOSTILE in data(page)["tests"]["methods"]
    assert len(re.findall(r"<script\b", page)) == 3 == len(re.findall(r"</script>", page))


def test_nothing_is_asked_for_and_only_our_scripts_run(page: str) -> None:
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    known = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert re.findall(r"'sha256-([^']+)'", policy) == known
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert set(re.findall(r'\b(?:src|href)="(#|data:|[^"]*:|/)', markup)) <= {"#", "data:"}
    assert not re.search(r"<[a-z][^>]*\son[a-z]+=", markup)  # no handlers in attributes
    assert not re.search(r"<(link|iframe|object|base)\b|@import|url\(", markup)


def test_a_page_is_small(folder: Path) -> None:
    assert xc.report(folder).stat().st_size < 3_000_000


def test_the_verdict_s_picture_shows_the_first_metric_that_can_tell(page: str, folder: Path) -> None:
    shown = data(page)["charts"]["leading"]["data"]["values"]
    known = [row for row in rows(folder, "standings.csv") if row["metric"] == "confidence_gain"]
    assert [row["method"] for row in shown][: len(shown) - 1] == [row["method"] for row in known][: len(shown) - 1]
    assert any(row["kind"] == "control" for row in shown)
    for row in shown:
        (line,) = (line for line in known if line["method"] == row["method"])
        assert row["low"] == pytest.approx(float(line["low"]), rel=1e-4)
        assert row["high"] == pytest.approx(float(line["high"]), rel=1e-4)


def test_curves_that_are_all_the_same_are_one() -> None:
    def lines(means: dict[str, list[float]]) -> list[dict]:
        return [
            {"method": method, "quantity": "confidence", "share": share, "mean": mean}
            for method, curve in means.items()
            for share, mean in zip((0.1, 0.5), curve, strict=True)
        ]

    same, other = lines({"a": [0.9, 0.5], "b": [0.9, 0.5]}), lines({"a": [0.9, 0.5], "b": [0.9, 0.4]})
    assert [(line["method"], line["mean"]) for line in _once(same)] == [("any method", 0.9), ("any method", 0.5)]
    assert _once(other) == other
    assert _once(same[:2]) == same[:2]


def test_charts_are_valid(page: str) -> None:
    charts = data(page)["charts"]
    assert set(charts) == {"leading", "cost", "ranks", "removal-most", "removal-least"}
    for spec in charts.values():
        known = vl_convert.vegalite_to_vega(json.dumps(spec | {"width": 300}))
        assert {signal["name"] for signal in known.get("signals", [])} >= {param["name"] for param in spec["params"]}


def test_what_went_wrong_is_told(page: str) -> None:
    told = html.unescape(re.search(r'<div class="warnings">.*?</div>', page, re.S)[0])
    assert "<b>CAM</b>: left out: cam" in told
    assert "<b>hasty</b>: misses the completeness that it promises" in told
    assert "Occlusion (3)" in re.search(r'<ul class="headlines">.*?</ul>', page, re.S)[0]
    assert "This image was not explained by it." in page  # occlusion explained three of four
    assert html.escape("IntegratedGradients(n_steps=1") in page


def test_the_verdict_says_what_it_holds_for(page: str) -> None:
    verdict = re.search(r'<ul class="headlines">.*?</ul>', page, re.S)[0]
    assert "for this network as it was trained" in verdict


def test_a_study_that_is_too_small_says_who_leads_and_how_many_images_would_do(tmp_path: Path) -> None:
    small = STUDY.replace("images = 12", "images = 4")
    text = html.unescape(xc.report(studied(tmp_path, small)).read_text(encoding="utf-8"))
    said = re.search(r'<ul class="headlines">.*?</ul>', text, re.S)[0]
    said = re.sub("</?button[^>]*>", "", said)  # metrics' names open their definitions
    assert "Nothing is sure yet: " in said
    assert re.search(r"lead by .+?: .+? differs from .+? by .* \(.* to .*\); about [\d,]+ images would tell", said)


def test_tables_have_captions_and_pictures_have_words(page: str) -> None:
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    tables = re.findall(r"<table.*?</table>", markup, re.S)
    assert len(tables) >= 4
    assert all("<caption" in table and 'scope="col"' in table for table in tables)
    assert all(re.search(r'alt="', image) for image in re.findall(r"<img[^>]*>", markup))
    assert set(re.findall(r'aria-labelledby="([^"]+)"', markup)) <= set(re.findall(r'\bid="([^"]+)"', markup))
    assert set(re.findall(r'href="#([^"]+)"', markup)) <= set(re.findall(r'\bid="([^"]+)"', markup))


@pytest.mark.parametrize(
    "changed",
    [
        (STUDY[STUDY.index("metrics = [") : STUDY.index("[data]")], 'metrics = ["sparseness"]\n'),
        (STUDY[STUDY.index("methods = [") : STUDY.index("metrics = [")], 'methods = ["saliency"]\n'),
    ],
    ids=["no removal of confidence", "one method"],
)
def test_smaller_studies_have_a_page(changed: tuple[str, str], tmp_path: Path) -> None:
    page = xc.report(studied(tmp_path, STUDY.replace(*changed))).read_text(encoding="utf-8")
    assert ('id="removal"' in page) is ("confidence_removal" in STUDY.replace(*changed))
    assert "Saliency" in page
    assert 'id="leaderboard"' in page


def test_without_examples_there_is_no_gallery(folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "copy")
    (place / "examples.json").unlink()
    page = xc.report(place).read_text(encoding="utf-8")
    assert 'id="gallery"' not in page
    assert 'id="compare"' in page


@pytest.mark.parametrize("name", ["standings.csv", "tests.csv", "costs.csv", "environment.json", "results.parquet"])
def test_a_missing_file_is_named(name: str, folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "copy")
    (place / name).unlink()
    with pytest.raises(DataError, match=f"copy lacks {re.escape(name)}; expected all"):
        xc.report(place)


@pytest.mark.parametrize(
    ("name", "text"), [("costs.csv", "a,b\n1,2\n"), ("environment.json", "{"), ("examples.json", "{}")]
)
def test_a_broken_file_is_named(name: str, text: str, folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "copy")
    (place / name).write_text(text)
    with pytest.raises(DataError, match=re.escape(name)):
        xc.report(place)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds neither results\.parquet nor experiment\.toml"):
        xc.report(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        xc.report(tmp_path / "none")


def luminance(colour: str) -> float:
    """WCAG 2.2's relative luminance."""
    long = "".join(2 * sign for sign in colour[1:]) if len(colour) == 4 else colour[1:]
    shares = [int(long[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_in_both_themes(theme: str, page: str) -> None:
    """4.5 to 1 for text, 3 to 1 for what is drawn: WCAG 2.2, 1.4.3 and 1.4.11."""
    themes = re.findall(r":root \{(.*?)\}", page, re.S)
    known = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", themes[theme == "dark"]))
    for ink, papers in {
        "ink": ("paper", "raised", "tint"),
        "soft": ("paper", "raised"),
        "flag": ("flag-paper",),
    }.items():
        for paper in papers:
            assert contrast(known[ink], known[paper]) >= 4.5, (ink, paper)
    assert contrast(known["accent"], known["paper"]) >= 4.5
    drawn = {colour: contrast(colour, known["paper"]) for colour in (*COLOURS, OTHERS, CONTROLS)}
    assert min(drawn.values()) >= 3, drawn
    assert contrast("#000", "#fff") == pytest.approx(21)


def test_maps_are_coloured_by_the_stated_scale() -> None:
    """Half a unit and more: against the 99th percentile, here 1, by hand; white for nothing."""
    values = torch.tensor([[0.0, 1.0, -1.0, 1 / 3]]).repeat(40, 1).half()
    png = base64.b64decode(coloured(values).partition(",")[2])
    drawn = Image.open(io.BytesIO(png)).convert("RGBA")
    white = Image.new("RGBA", drawn.size, "white")
    seen = np.asarray(Image.alpha_composite(white, drawn).convert("RGB"))[0].astype(int)
    assert np.asarray(drawn)[0, 0, 3] == 0  # what says nothing shows the photograph below it
    known = [STOPS[3], STOPS[6], STOPS[0], STOPS[4]]
    expected = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in known])
    assert np.abs(seen - expected).max() <= 2


def test_examples_come_back_as_they_were(folder: Path) -> None:
    examples = Examples.load(folder)
    assert examples is not None
    assert examples.pictures.shape == (4, 1, 32, 32)
    assert examples.pictures.dtype == torch.uint8
    assert len(examples.maps["occlusion"]) == 3
    assert "cam" not in examples.maps
    assert "cam" in examples.shown["cam"].error
    for label, maps in examples.maps.items():
        peaks = maps.abs().flatten(1).amax(1)
        assert torch.equal(peaks, torch.tensor(examples.shown[label].peaks).gt(0).half()), label
    residual = examples.shown["hasty"]
    assert residual.status == "failed"
    assert residual.missed is not None
    recorded = xc.Results.load(folder).where(method="hasty", quantity="incompleteness").table["value"]
    assert residual.missed == pytest.approx(recorded[:4].tolist(), rel=1e-4)


def test_the_explained_class_has_its_probability_and_the_image_its_true_class(page: str, folder: Path) -> None:
    examples = Examples.load(folder)
    for told in examples.told:
        assert 0 < told.probability < 1
    article = re.findall(r'<article class="example.*?</article>', page, re.S)[0]
    told = examples.told[0]
    assert f"probability {100 * told.probability:.1f} %" in article
    assert f"true class: {examples.classes[told.label]}" in article


def test_folders_without_probabilities_have_a_gallery(folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "copy")
    content = json.loads((place / "examples.json").read_text())
    for told in content["images"]:
        del told["probability"]
    (place / "examples.json").write_text(json.dumps(content))
    page = xc.report(place).read_text(encoding="utf-8")
    assert "logit" in page
    assert "probability <" not in re.search(r'<section id="gallery".*?</section>', page, re.S)[0]
    assert ", probability" not in page


def test_large_pictures_are_kept_small() -> None:
    """By the mean of the pixels that fall together; smaller ones stay as they are."""
    large = torch.rand(2, 3, 512, 384)
    by_hand = large.reshape(2, 3, 256, 2, 192, 2).mean(dim=(3, 5))
    assert torch.allclose(_small(large), by_hand, atol=1e-6)
    assert _small(by_hand) is by_hand
