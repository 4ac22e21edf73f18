"""Every method on thirteen architectures: right, not defined there, or refused by name; never silently wrong."""

from pathlib import Path

import pytest
import zoo

from xaicompare.registry import METHODS

DOCS = Path(__file__).parents[1] / "docs" / "zoo.md"
NEVER_REFUSE = (
    *("lime", "kernelshap", "occlusion", "saliency", "input_x_gradient", "smoothgrad", "gradient_shap"),
    *("deconvnet", "guided_backprop", "deeplift", "deepshap", "lrp", "random", "edges", "center", "constant"),
)
NETS = (
    *("alexnet", "resnet18", "googlenet", "squeezenet1_0", "shufflenet_v2_x1_0", "mobilenet_v3_small"),
    *("efficientnet_b0", "regnet_y_400mf", "timm:convnextv2_atto", "timm:levit_128s", "hf:ViT", "hf:Swin", "hf:Beit"),
)
"""The quickest of each kind; `make zoo` goes through all."""


@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize("name", NETS)
def test_right_or_refused(name: str, method: str) -> None:
    package = {"timm": "timm", "hf": "transformers"}.get(name.partition(":")[0], "torchvision")
    if package != "torchvision":
        pytest.importorskip(package)
    said = zoo.verdict(name, method)
    signs = {"right": "✓", "n/a": "n/a"}
    documented = _documented()[name][METHODS.names().index(method)]
    assert signs.get(said, "[") == documented.rstrip("]0123456789"), (
        f"docs/zoo.md says {documented}, this run {said}; run `make zoo`"
    )
    if method in NEVER_REFUSE:
        assert said == "right"
    if method == METHODS.names()[-1]:
        zoo.net.cache_clear()  # gigabytes


def _documented() -> dict[str, list[str]]:
    rows = [line.split("|")[1:-1] for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
