"""The pictures of the live pages in docs/images: `python docs/explore_pictures.py`. Needs playwright and chromium.

The photograph and SqueezeNet's weights are looked up in XAICOMPARE_DATA.
"""

import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from xaicompare.explore import Explorer
from xaicompare.explore.exhibit import of_dataset, of_photographs

IMAGES = Path(__file__).parent / "images"
CASTLE = 22  # in the order of the alphabet
THREE = [(0.3, 0.2), (0.45, 0.12), (0.6, 0.15), (0.63, 0.28), (0.55, 0.4), (0.44, 0.44)]
THREE += [(0.57, 0.47), (0.67, 0.58), (0.64, 0.73), (0.5, 0.83), (0.33, 0.8), (0.27, 0.7)]
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


def main() -> None:
    """Draws every picture."""
    weights = "models/squeezenet1_0-imagenet.safetensors"
    photographs = of_photographs("squeezenet1_0", "imagenet-sample", weights=weights)
    digits = of_dataset("digits")
    some = "saliency,input_x_gradient,gradcam,guided_gradcam,lrp:epsilon-plus-flat,lrp:epsilon-gamma-box,lrp:gamma"
    some += ",integrated_gradients,guided_backprop,random"
    with sync_playwright() as driver:
        path = shutil.which("chromium") or driver.chromium.executable_path
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        with Explorer((photographs,)) as live:
            shot(browser, live, "explore-photo", f"?view=photo&image={CASTLE}&methods={some}", WIDE, "light")
            shot(browser, live, "explore-layers", f"?view=layers&image={CASTLE}&inside=features.11", WIDE, "dark")
        with Explorer((digits, of_dataset("digits", "lenet"))) as live:
            rules = "lrp:zero,lrp:gamma,lrp:alpha-beta,lrp:epsilon-plus-flat,saliency,gradcam"
            shot(browser, live, "explore-remove", f"?view=remove&image=10&methods={rules}&share=0.3", WIDE, "light")
            shot(browser, live, "explore-draw", "?view=draw", WIDE, "dark", drawn=True)
            shot(browser, live, "explore-phone", f"?view=remove&image=10&methods={rules}&share=0.3", PHONE, "dark")
        browser.close()


def shot(
    browser: Browser, live: Explorer, name: str, query: str, size: dict, scheme: str, *, drawn: bool = False
) -> None:
    """One view as a file."""
    context = browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=1 if size is WIDE else 2)
    page = context.new_page()
    page.goto(live.url + query)
    if drawn:
        draw(page)
    page.locator("#view > *").first.wait_for()
    while page.locator("#status").inner_text():
        page.wait_for_timeout(100)
    page.wait_for_timeout(800)
    if size is PHONE:
        page.locator("#share").evaluate("(each) => scrollTo(0, each.getBoundingClientRect().top + scrollY - 50)")
        page.wait_for_timeout(200)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    context.close()
    small = picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    small.save(IMAGES / f"{name}.png", optimize=True)


def draw(page: Page) -> None:
    """A three, by hand."""
    box = page.locator("#paper").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in THREE]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up()
    page.locator("#by-rule .rule").nth(4).wait_for()


if __name__ == "__main__":
    main()
