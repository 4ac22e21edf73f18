"""The page in a real browser: every view, by pointer and by keyboard, on a desk and on a phone."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from asking import SIZES
from PIL import Image

import xaicompare as xc
from xaicompare.explore.exhibit import Exhibit, of_model
from xaicompare.explore.live import Explorer

pytest.importorskip("playwright.sync_api", reason="needs playwright, which `pip install '.[dev]'` brings")
from playwright.sync_api import Browser, Page, expect

expect.set_options(timeout=30_000)


class Seen:
    """A page, and whatever it said to console, user or another machine, which must be nothing."""

    def __init__(self, browser: Browser, live: Explorer, query: str = "", size: str = "wide", scheme: str = "light"):
        self.context = browser.new_context(viewport=SIZES[size], color_scheme=scheme, accept_downloads=True)
        self.page: Page = self.context.new_page()
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        own = (live.url, "data:", "blob:")
        self.page.on("request", lambda asked: None if asked.url.startswith(own) else self.said.append(asked.url))
        self.page.goto(live.url + query)

    def close(self, allowed: str) -> None:
        self.context.close()
        assert [each for each in self.said if not allowed or allowed not in each] == []


@pytest.fixture
def see(browser: Browser, live: Explorer, request: pytest.FixtureRequest) -> Iterator[object]:
    """Opens pages, and looks at the end that none of them complained."""
    opened: list[tuple[Seen, str]] = []

    def open_one(
        query: str = "", size: str = "wide", scheme: str = "light", of: Explorer = live, allowed: str = ""
    ) -> Page:
        seen = Seen(browser, of, query, size, scheme)
        opened.append((seen, allowed))
        return seen.page

    yield open_one
    for seen, allowed in opened:
        seen.close(allowed)


def ready(page: Page) -> None:
    expect(page.locator("#main")).to_have_attribute("aria-busy", "false")
    expect(page.locator("#status")).to_have_text("")
    expect(page.locator("#error")).to_be_hidden()


def slide(page: Page, to: float) -> None:
    slider = page.locator("#share")
    slider.evaluate("(each, to) => { each.value = to * each.max; each.dispatchEvent(new Event('input')); }", to)


def test_photo_shows_a_map_for_each_method_with_its_numbers(see) -> None:
    page = see("?view=photo&image=3&methods=saliency,lrp:epsilon,attention")
    ready(page)
    expect(page.locator("#sheet .card")).to_have_count(2)  # attention is not for this network, and not offered
    page.get_by_label("LRP gamma").check()
    expect(page.locator("#sheet .card")).to_have_count(3)
    card = page.locator(".card[data-method='lrp:epsilon']")
    expect(card).to_contain_text("sum off by below 0.1 %")
    expect(card).to_contain_text("2 + 0 passes")
    assert "methods=saliency,lrp:epsilon,lrp:gamma" in page.url


def test_choosing_another_class_explains_that_one(see) -> None:
    page = see("?view=photo&image=3")
    ready(page)
    expect(page.locator(".headline")).to_have_text("What speaks for 3?")
    before = page.locator(".card[data-method='gradcam'] .map").get_attribute("src")
    page.locator("#said").get_by_role("radio").nth(1).check()
    expect(page.locator(".headline")).to_have_text("What speaks for 7?")
    ready(page)
    assert page.locator(".card[data-method='gradcam'] .map").get_attribute("src") != before
    assert "target=7" in page.url
    page.select_option("#against", "3")
    expect(page.locator(".headline")).to_have_text("What speaks for 7, not 3?")
    ready(page)
    page.locator("#other").fill("no such")
    page.locator("#other").press("Enter")
    assert "target=7" in page.url


def test_a_map_is_enlarged_and_the_next_by_key(see) -> None:
    page = see("?view=photo&image=3&methods=saliency,lrp:epsilon")
    ready(page)
    button = page.get_by_role("button", name="Enlarge Saliency")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#large-title")).to_have_text("Saliency")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#large-title")).to_have_text("LRP epsilon")
    expect(page.locator("#large-told")).to_contain_text("of a score of")
    page.keyboard.press("Escape")
    expect(page.locator("#large")).to_be_hidden()
    expect(button).to_be_focused()


def test_strength_of_the_overlay(see) -> None:
    page = see("?view=photo&image=3&methods=saliency")
    ready(page)
    opacity = "(map) => Number(getComputedStyle(map).opacity)"
    assert page.locator(".card .map").evaluate(opacity) == pytest.approx(0.85)
    page.locator("#over").focus()
    page.keyboard.press("Home")
    assert page.locator(".card .map").evaluate(opacity) == 0
    assert "over=0" in page.url


def test_an_upload_is_explained_and_a_wrong_file_gets_a_sentence(see, tmp_path: Path, digits: Exhibit) -> None:
    page = see("?view=photo&methods=saliency", allowed="status of 400")  # the refused file, as browsers tell it
    ready(page)
    wrong = tmp_path / "notes.png"
    wrong.write_text("no image at all")
    page.locator("#file").set_input_files(wrong)
    expect(page.locator("#upload-told")).to_contain_text("no image that can be read")
    expect(page.locator("#which")).to_have_value("0")
    seven = Image.fromarray(digits.pixels(7)[0].numpy())
    seven.save(tmp_path / "mine.png")
    page.locator("#file").set_input_files(tmp_path / "mine.png")
    expect(page.locator("#which option.own")).to_have_text("mine.png")
    expect(page.locator("#upload-told")).to_have_text("")
    ready(page)
    predicted = int(digits.logits(digits.inputs(digits.pixels(7))).argmax())
    expect(page.locator(".headline")).to_have_text(f"What speaks for {predicted}?")
    assert "image=own" in page.url
    page.reload()  # the tab remembers it, the server doesn't
    ready(page)
    expect(page.locator("#which option.own")).to_have_text("mine.png")


def test_the_slider_moves_the_confidence_to_what_curve_gives(see, digits: Exhibit) -> None:
    page = see("?view=remove&image=3&methods=lrp:gamma,saliency&target=3")
    ready(page)
    inputs, _ = digits.images.batch([3])
    gamma = xc.LRP(composite="gamma", low=list(digits.scale.low), high=list(digits.scale.high))
    made = xc.attribute(digits.model, inputs, gamma, target=3)
    shares = [step / 40 for step in range(41)]
    curve = xc.curve(digits.model, made, "confidence_removal", shares=shares)
    card = page.locator(".card[data-method='lrp:gamma']")
    before = None
    for at in (0, 8, 20, 40):
        slide(page, at / 40)
        expect(page.locator("#share-told")).to_have_text(f"{at * 2.5:.0f} %")
        expect(card.locator(".value")).to_have_text(f"{float(curve.values[0, at]):.4f}")
        expect(card.locator(".class-name")).to_have_text(str(int(curve.predicted[0, at])))
        wrong = int(curve.predicted[0, at]) != 3
        expect(card.locator(".flag")).to_have_text("not 3" if wrong else "")
        picture = card.locator("canvas").evaluate("(canvas) => canvas.toDataURL()")
        assert picture != before
        before = picture


def test_a_slider_answers_at_once(see) -> None:
    page = see("?view=remove&image=3")
    ready(page)
    taken = page.evaluate(
        """() => {
          const slider = document.getElementById('share'), begun = performance.now();
          for (let at = 0; at <= 40; at++) { slider.value = at; slider.dispatchEvent(new Event('input')); }
          return (performance.now() - begun) / 41;
        }"""
    )
    assert taken < 200  # milliseconds


def test_orders_and_fills(see) -> None:
    page = see("?view=remove&image=3&methods=saliency&share=0.5")
    ready(page)
    value = page.locator(".card[data-method='saliency'] .value")
    most = value.inner_text()
    page.get_by_label("least important").check()
    expect(value).not_to_have_text(most)
    ready(page)
    least = value.inner_text()
    page.select_option("#fill", "linear")
    expect(value).not_to_have_text(least)
    ready(page)
    assert "order=least" in page.url
    assert "fill=linear" in page.url
    page.locator("input[name=order][value=random]").check()
    ready(page)
    expect(page.locator("#removed .card")).to_have_count(1)


def drag(page: Page, points: list[tuple[float, float]]) -> None:
    box = page.locator("#paper").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


THREE = [(0.3, 0.2), (0.45, 0.12), (0.6, 0.15), (0.63, 0.28), (0.55, 0.4), (0.44, 0.44)]
THREE += [(0.57, 0.47), (0.67, 0.58), (0.64, 0.73), (0.5, 0.83), (0.33, 0.8), (0.27, 0.7)]


def test_a_drawn_three_is_read_as_a_three(see) -> None:
    page = see("?view=draw")
    expect(page.locator("#verdict")).to_have_text("It reads nothing yet.")
    drag(page, THREE)
    expect(page.locator("#read")).to_have_text("3")
    expect(page.locator("#by-rule .rule")).to_have_count(5)
    expect(page.locator(".rule").first.locator(".cell")).to_have_count(10)
    expect(page.locator(".rule").first.locator(".cell.read figcaption b")).to_have_text("3")
    page.select_option("#truth", "2")
    expect(page.locator("#verdict .flag")).to_contain_text("you meant 2")
    expect(page.locator("#pair h3")).to_have_text("Why 3 and not 2?")
    assert "drawn=" in page.url
    again = see(page.url.partition("?")[1] + page.url.partition("?")[2])
    expect(again.locator("#read")).to_have_text("3")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#verdict")).to_have_text("It reads nothing yet.")


def test_drawing_by_keyboard_and_digits_of_the_data(see) -> None:
    page = see("?view=draw")
    page.locator("#paper").focus()
    for key in ["Space", *["ArrowDown"] * 14, "Space"]:
        page.keyboard.press(key)
    expect(page.locator("#read")).to_have_text("1")
    page.locator("#any").click()
    expect(page.locator("#as-seen")).to_be_visible()
    expect(page.locator("#truth")).not_to_have_value("")
    assert "digit=0" in page.url


def test_two_networks_side_by_side(see) -> None:
    page = see("?view=two&image=3&methods=saliency,gradcam")
    ready(page)
    expect(page.locator(".twins")).to_have_count(2)
    expect(page.locator(".pair-heads h3")).to_have_count(2)
    assert re.search(r"ranks −?[01]\.\d\d", page.locator(".agreement").first.inner_text())


def test_layers_and_the_channels_of_one(see) -> None:
    page = see("?view=layers&image=3")
    ready(page)
    flows = page.locator("button.flow")
    assert flows.count() >= 10
    page.get_by_role("button", name="features.5").click()
    expect(page.locator("#channels h3")).to_have_text("Channels of features.5")
    expect(page.locator("#channels .cell")).to_have_count(12)
    assert "inside=features.5" in page.url


@pytest.mark.parametrize("view", ["photo", "remove", "draw", "two", "layers"])
def test_code_and_picture_of_every_view(see, view: str, tmp_path: Path) -> None:
    page = see(f"?view={view}&image=3&digit=3&methods=saliency,lrp:epsilon")
    ready(page)
    page.get_by_role("button", name="The code for this").click()
    expect(page.locator("#lines-text")).to_contain_text("import xaicompare as xc")
    compile(page.locator("#lines-text").inner_text(), view, "exec")
    page.keyboard.press("Escape")
    with page.expect_download() as coming:
        page.get_by_role("button", name="Save picture").click()
    assert coming.value.suggested_filename == f"xaicompare-{view}.png"
    assert min(Image.open(io.BytesIO(Path(coming.value.path()).read_bytes())).size) > 200


UNNAMED = """[...document.querySelectorAll('#body button, #body select, #body input')]
    .filter((each) => each.offsetParent && !each.textContent.trim() && !each.ariaLabel && !each.labels?.length)
    .map((each) => each.outerHTML)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["photo", "remove", "draw", "two", "layers"])
def test_nothing_is_cut_off_on_a_phone(see, view: str, scheme: str) -> None:
    page = see(f"?view={view}&image=3&digit=3", "phone", scheme)
    ready(page)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 23, 29)"
    assert dark == (scheme == "dark")
    assert page.evaluate(UNNAMED) == []


def test_every_view_is_reached_by_keyboard(see) -> None:
    page = see("?view=photo&image=3&methods=saliency")
    ready(page)
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    for view in ("photo", "remove", "draw", "two", "layers"):
        page.keyboard.press("Tab")
        expect(page.locator(f"#tabs a[data-view={view}]")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".twins").first).to_be_visible()
    ready(page)
    assert page.locator("#tabs a[aria-current]").inner_text() == "Two networks"


def test_a_hostile_name_of_a_class_stays_text(see, digits: Exhibit) -> None:
    names = ["<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", *map(str, range(2, 9)), "$x$ & \"'"]
    images, _ = digits.images.batch(range(3))
    exhibit = of_model(digits.model, images, scale=digits.scale, classes=names)
    with Explorer((exhibit,)) as live:
        page = see("?view=photo&target=0&against=1&methods=saliency", of=live)
        ready(page)
        expect(page.locator(".headline")).to_contain_text("<img src=x onerror=alert(1)>, not </script>")
        page.locator("#tabs a[data-view=remove]").click()
        ready(page)
        page.locator("#tabs a[data-view=layers]").click()
        ready(page)
        page.wait_for_timeout(300)
        see_nothing = page.locator("#view img[src='x'], #said img, #body script").count()
        assert see_nothing == 0


def test_the_first_map_is_there_within_a_second_of_the_page(see) -> None:
    page = see("?view=photo&image=4&methods=saliency,integrated_gradients")
    expect(page.locator("#sheet .card").first).to_be_visible(timeout=4_000)
