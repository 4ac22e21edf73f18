"""What is seen of the page in a real browser: the first screen, and nothing cut or overlapping at any width."""

import pytest
from small_study import column

pytest.importorskip("playwright.sync_api", reason="needs playwright, which `pip install '.[dev]'` brings")


@pytest.mark.parametrize("page", ["desktop", "phone", "desktop dark"], indirect=True)
def test_the_first_screen_asks_answers_and_shows(page: object) -> None:
    size = page.viewport_size
    for first in ("h1.question", ".said", *(f".best-maps figure:nth-child({n}) img:last-child" for n in (1, 2, 3))):
        box = page.locator(first).bounding_box()
        assert 0 <= box["y"] < box["y"] + box["height"] <= size["height"], first
    for first in page.locator(".told-facts div").all():
        box = first.bounding_box()
        assert box["y"] + box["height"] <= size["height"]
    assert page.locator(".told-facts dt").all_inner_texts() == ["What it costs", "How sure this is"]


@pytest.mark.parametrize("page", ["wide", "phone"], indirect=True)
def test_nothing_of_the_leaderboard_is_cut(page: object) -> None:
    inside = "(place) => place.scrollWidth <= place.clientWidth + 1"
    assert page.locator("#leaderboard .scroll").evaluate(inside)
    page.select_option("#family", "all")
    assert page.locator("#leaderboard .scroll").evaluate(inside)
    assert not page.locator("#board-more").is_visible()
    page.locator("#compare summary").click()
    assert page.locator("#compare .scroll").evaluate(inside)


def test_columns_that_do_not_fit_are_told(page: object) -> None:
    page.set_viewport_size({"width": 700, "height": 900})
    page.select_option("#family", "all")
    page.locator("#board thead").evaluate(
        "(head) => { head.style.whiteSpace = 'nowrap'; head.style.fontSize = '2rem' }"
    )
    page.set_viewport_size({"width": 701, "height": 900})
    page.wait_for_function("!document.querySelector('#board-more').hidden")


def test_a_hidden_column_sorts_nothing(page: object) -> None:
    page.select_option("#family", "all")
    page.locator("#board button[data-name=deletion]").click()
    assert page.locator("#sorted").inner_text() == "Sorted by deletion, the best first."
    page.select_option("#family", "complexity")
    assert page.locator("#sorted").inner_text() == "Sorted by mean rank, the best first."
    ranks = [float(value) for value in column(page, "mean rank")]
    assert ranks == sorted(ranks)


@pytest.mark.parametrize("page", ["desktop", "phone dark"], indirect=True)
def test_names_in_the_chart_of_costs_do_not_overlap(page: object) -> None:
    boxes = page.evaluate(
        """[...document.querySelectorAll("[data-chart=cost] .role-mark text")]
          .filter((text) => text.textContent && getComputedStyle(text).opacity !== "0")
          .map((text) => text.getBoundingClientRect())
          .map(({ left, right, top, bottom }) => [left, right, top, bottom])"""
    )
    assert boxes
    for place, (left, right, top, bottom) in enumerate(boxes):
        for other in boxes[place + 1 :]:
            apart = right <= other[0] + 1 or other[1] <= left + 1 or bottom <= other[2] + 3 or other[3] <= top + 3
            assert apart


@pytest.mark.parametrize("page", ["phone", "phone dark", "desktop dark"], indirect=True)
def test_nothing_is_wider_than_the_screen(page: object) -> None:
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert all(chart.bounding_box()["width"] <= width for chart in page.locator(".chart svg").all())
    page.locator("button.map").first.click()
    box = page.locator("dialog").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
