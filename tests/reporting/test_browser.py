"""The page in a real browser: sorting, filters, enlarging, keyboard, phone, and not a word to any network."""

import csv
from pathlib import Path

import pytest
from small_study import HOSTILE, SHOWN, column

import xaicompare as xc

pytest.importorskip("playwright.sync_api", reason="needs playwright, which `pip install '.[dev]'` brings")


def test_sorting_starts_with_the_best_and_says_so(page: object) -> None:
    head = page.locator("#board th", has=page.locator("button[data-name='sparseness']"))
    head.locator("button[data-name]").click()
    values = [float(value) for value in column(page, "sparseness")]
    assert values == sorted(values, reverse=True)  # high is good
    assert head.get_attribute("aria-sort") == "descending"
    assert page.locator("#sorted").inner_text() == "Sorted by sparseness, the best first."
    head.locator("button[data-name]").press("Enter")
    assert [float(value) for value in column(page, "sparseness")] == values[::-1]
    assert page.locator("#sorted").inner_text() == "Sorted by sparseness, the worst first."
    page.locator("button[data-name='passes']").click()
    passes = [float(value) for value in column(page, "passes")]
    assert passes == sorted(passes)
    assert page.locator("#board th[aria-sort='none']").count() == page.locator("#board th[aria-sort]").count() - 1


def test_columns_follow_family_and_choice(page: object) -> None:
    def shown() -> list[str]:
        heads = page.locator("#board th.metric:visible button[data-name]")
        return [button.get_attribute("data-name") for button in heads.all()]

    assert shown() == ["confidence_gain", "sparseness"]
    page.select_option("#family", "complexity")
    assert shown() == ["sparseness", "complexity"]
    page.select_option("#family", "all")
    assert shown() == ["confidence_gain", "deletion", "sparseness", "complexity"]
    page.locator(".chooser summary").click()
    page.get_by_label("deletion", exact=True).uncheck()
    assert shown() == ["confidence_gain", "sparseness", "complexity"]
    assert page.locator("#board tr.control:visible").count() == 4
    page.locator("#show-controls").uncheck()
    assert page.locator("#board tr.control:visible").count() == 0
    assert page.locator("#board tbody tr:visible").count() == 4


def thick(page: object) -> int:
    """How many curves are drawn as singled out."""
    return page.locator("[data-chart^=removal] path[stroke-width='3.5']").count()


def test_a_method_is_singled_out_by_pointer_and_key(page: object) -> None:
    chip = page.locator(".chips button[data-method='Saliency']")
    assert thick(page) == 0
    chip.hover()
    page.wait_for_function("document.querySelectorAll(\"[data-chart^=removal] path[stroke-width='3.5']\").length === 2")
    page.mouse.move(5, 5)
    page.wait_for_function("document.querySelectorAll(\"[data-chart^=removal] path[stroke-width='3.5']\").length === 0")
    chip.focus()
    page.keyboard.press("Space")
    assert chip.get_attribute("aria-pressed") == "true"
    page.locator("#which").focus()
    page.wait_for_timeout(100)
    assert thick(page) == 2  # kept, one in each panel
    chip.click()
    assert chip.get_attribute("aria-pressed") == "false"


# A point of the screen where a curve, widened for the pointer, is the topmost; and that curve's path.
CURVE = """(order) => {
  for (const path of document.querySelectorAll(`[data-chart=removal-${order}] path[stroke-width='12']`)) {
    const place = path.getScreenCTM();
    for (let share = 0.95; share > 0; share -= 0.05) {
      const { x, y } = path.getPointAtLength(share * path.getTotalLength()).matrixTransform(place);
      if (document.elementFromPoint(x, y) === path) return { x, y, d: path.getAttribute("d") };
    }
  }
}"""
SINGLED = """([order, d]) => {
  const thick = [...document.querySelectorAll(`[data-chart=removal-${order}] path[stroke-width='3.5']`)];
  return d === null ? thick.length === 0 : thick.length === 1 && thick[0].getAttribute("d") === d;
}"""


@pytest.mark.parametrize("order", ["most", "least"])
def test_pointing_at_a_curve_singles_it_out(page: object, order: str) -> None:
    page.locator(f"[data-chart=removal-{order}]").scroll_into_view_if_needed()
    page.wait_for_timeout(600)  # scrolling is smooth
    point = page.evaluate(CURVE, order)
    page.mouse.move(point["x"], point["y"] + 1)
    page.wait_for_function(SINGLED, arg=[order, point["d"]], timeout=10_000)
    for _ in range(5):  # drawn anew below a pointer at rest, it stays singled out
        page.wait_for_timeout(50)
        assert page.evaluate(SINGLED, [order, point["d"]])
    assert thick(page) == 2
    page.mouse.move(3, 3)
    page.wait_for_function(SINGLED, arg=[order, None], timeout=10_000)


def tabbed_to(page: object, selector: str) -> None:
    """Presses Tab until what the selector names has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"  # it can be seen
            return
    raise AssertionError(f"no Tab leads to {selector}")


def test_the_keyboard_alone_filters_sorts_and_enlarges(page: object) -> None:
    tabbed_to(page, "#family")
    page.keyboard.press("ArrowDown")
    family = page.locator("#family").input_value()
    assert family != "overview"
    shown = page.locator("#board th.metric:visible button[data-name]").all()
    assert [button.get_attribute("data-name") for button in shown] == ["confidence_gain", "deletion"]
    tabbed_to(page, "#show-controls")
    page.keyboard.press("Space")
    assert page.locator("#board tr.control:visible").count() == 0
    tabbed_to(page, "#board button[data-name=deletion]")
    page.keyboard.press("Enter")
    assert page.locator("#sorted").inner_text() == "Sorted by deletion, the best first."
    tabbed_to(page, "#which")
    tabbed_to(page, "button.map")
    page.keyboard.press("Enter")
    assert page.locator("dialog#enlarged").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog#enlarged").is_visible()
    assert page.evaluate("document.activeElement.matches('button.map')")


@pytest.mark.parametrize("page", ["desktop", "desktop dark"], indirect=True)
def test_paper_is_white_with_a_legend_and_without_what_is_pressed(page: object) -> None:
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 690, "height": 970})  # A4 at 96 dots per inch, within its margins
    for gone in ("nav", ".controls", ".skip", ".press"):
        assert page.locator(gone).first.is_visible() is False
    assert page.locator(".chips button").first.is_visible()  # which colour is which curve
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    colours = page.evaluate(
        "[...document.querySelectorAll('.chart svg text')].map((text) => getComputedStyle(text).fill)"
    )
    assert set(colours) == {"rgb(51, 51, 51)"}
    assert page.evaluate("document.documentElement.scrollWidth") <= 690
    paper = page.pdf(format="A4")
    assert paper.startswith(b"%PDF")
    assert 2 <= paper.count(b"/Type /Page\n") <= 30


def test_the_charts_follow_their_metric(page: object) -> None:
    ranks = page.locator("[data-chart=ranks]")
    before = ranks.inner_html()
    page.locator("#ranks select").select_option("deletion")
    page.wait_for_function("(before) => document.querySelector('[data-chart=ranks]').innerHTML !== before", arg=before)
    assert "has the best mean" in page.locator("#ranks-answer").inner_text()
    page.locator("#cost select").first.select_option("sparseness")
    assert "sparseness" in page.locator("#cost-caption").inner_text()


def test_maps_are_enlarged_stepped_through_and_left_by_keyboard(page: object) -> None:
    first, second = page.locator("button.map").nth(0), page.locator("button.map").nth(1)
    first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog#enlarged")
    assert dialog.is_visible()
    assert dialog.locator("[data-field=settings]").inner_text() == first.get_attribute("data-settings")
    assert dialog.locator("#enlarged-map").get_attribute("src") == first.locator("img").get_attribute("src")
    page.keyboard.press("ArrowRight")
    assert dialog.locator("[data-field=settings]").inner_text() == second.get_attribute("data-settings")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")  # nothing before the first
    assert dialog.locator("[data-field=settings]").inner_text() == first.get_attribute("data-settings")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert first.evaluate("(button) => button === document.activeElement")
    first.click()
    dialog.get_by_label("Close").click()
    assert not dialog.is_visible()


def test_maps_lie_over_the_photograph_or_alone(page: object) -> None:
    def below() -> tuple[str, str]:
        return tuple(
            page.locator(".map .layers").first.evaluate(
                "(place) => { const drawn = getComputedStyle(place, '::before'); "
                "return [drawn.backgroundImage.slice(0, 10), drawn.opacity] }"
            )
        )

    picture = page.locator(".map .layers img").first
    assert below() == ('url("data:', "0.6")
    assert picture.evaluate("(image) => getComputedStyle(image).opacity") == "0.85"
    strength = page.locator("#gallery .strength input")
    strength.focus()
    strength.press("Home")
    assert picture.evaluate("(image) => getComputedStyle(image).opacity") == "0.1"
    page.locator("#gallery .ground").select_option("alone")
    assert below()[1] == "0"
    assert picture.evaluate("(image) => getComputedStyle(image).opacity") == "1"
    page.locator("button.map").first.click()
    assert page.locator("dialog .ground").input_value() == "alone"
    page.locator("dialog .ground").select_option("over")
    assert below()[1] == "0.6"


def test_the_gallery_shows_the_misclassified_alone(page: object, folder: Path) -> None:
    wrong = sum(told.predicted != told.label for told in xc.study.examples.Examples.load(folder).told)
    page.select_option("#which", "wrong")
    assert page.locator(".example:visible").count() == wrong
    page.select_option("#which", "right")
    assert page.locator(".example:visible").count() == 4 - wrong
    assert 0 < wrong < 4  # else this test shows nothing


def test_two_methods_are_compared_as_tested(page: object, folder: Path) -> None:
    with (folder / "tests.csv").open(newline="") as file:
        known = {(row["metric"], row["method"], row["other"]): row for row in csv.DictReader(file)}
    page.select_option("#one", HOSTILE)
    page.select_option("#two", "random")
    page.locator("#compare summary").click()
    lines = {
        line.locator("th").inner_text().split()[0]: line.locator("td").all_inner_texts()
        for line in page.locator("#pair tbody tr:not(.family)").all()
    }
    assert set(lines) == {metric for metric, *_ in known}
    for metric, cells in lines.items():
        row, sign = known.get((metric, HOSTILE, "random")), 1
        if row is None:
            row, sign = known[metric, "random", HOSTILE], -1
        shown = float(cells[2].split()[0].replace("−", "-"))
        assert shown == pytest.approx(sign * float(row["difference"]), rel=0.01, abs=1e-6)
        assert cells[-1] == (SHOWN.get(row["winner"], row["winner"]) or "not told apart")
    assert page.locator("#pair-maps figure").count() == 4
    counted = page.locator("#pair-counted tr:not(.family)").count()
    others = page.locator("#pair-other tr:not(.family)").all_inner_texts()
    assert {line.split()[0] for line in others} >= {"sparseness", "complexity"}  # which no explanation has to have
    assert f"of the {counted} metrics that count" in page.locator("#pair-answer").inner_text()
    assert HOSTILE in page.locator("#pair-answer").inner_text()


@pytest.mark.parametrize("page", ["desktop", "phone"], indirect=True)
def test_a_metric_s_name_opens_its_definition_by_touch_and_key(page: object) -> None:
    name = page.locator(".answers th .term").first
    about = page.locator(f"#{name.get_attribute('popovertarget')}")
    assert not about.is_visible()
    name.click()
    assert about.is_visible()
    assert name.inner_text() in about.inner_text()
    box = about.bounding_box()
    assert 0 <= box["x"] < box["x"] + box["width"] <= page.viewport_size["width"]
    page.keyboard.press("Escape")
    assert not about.is_visible()
    name.focus()
    page.keyboard.press("Enter")
    assert about.is_visible()


def test_the_first_key_skips_to_the_findings(page: object) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the findings"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_link_to_a_method_opens_its_card(page: object) -> None:
    link = page.locator("#board tbody th a").first
    card = page.locator(link.get_attribute("href"))
    assert not card.is_visible()
    link.click()
    page.wait_for_function("(id) => document.querySelector(id).closest('details').open", arg=link.get_attribute("href"))


def test_colours_follow_the_theme(page: object) -> None:
    def axis() -> str:
        return page.locator("[data-chart=cost] .role-axis-label text").first.get_attribute("fill")

    light = axis()
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "(fill) => document.querySelector('[data-chart=cost] .role-axis-label text')?.getAttribute('fill') !== fill",
        arg=light,
    )
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
