"""Every method on sixteen architectures: right, or refused by name; never silently wrong."""

from pathlib import Path

import pytest
import zoo

from xaicompare.registry import METHODS

DOCS = Path(__file__).parents[1] / "docs" / "zoo.md"
REFUSES = [
    "lime",
    "kernelshap",
    "occlusion",
    "saliency",
    "input_x_gradient",
    "smoothgrad",
    "gradient_shap",
    "random",
    "edges",
    "center",
    "constant",
]


@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize("name", zoo.NETS)
def test_right_or_refused(name: str, method: str) -> None:
    said = zoo.verdict(name, method)
    documented = _documented()[name][METHODS.names().index(method)]
    assert (said == "right") == (documented == "✓"), f"docs/zoo.md says {documented}, this run {said}; run `make zoo`"
    if method in REFUSES:
        assert said == "right", "needs nothing but outputs or gradients"
    if method == METHODS.names()[-1]:
        zoo.net.cache_clear()  # gigabytes


def _documented() -> dict[str, list[str]]:
    rows = [line.split("|")[1:-1] for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
