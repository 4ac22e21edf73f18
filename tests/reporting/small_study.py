"""A study's folder to report on, with everything in it that could go wrong on a page."""

import json
import re
from pathlib import Path

import pytest

from xaicompare.study import Study, run
from xaicompare.study.folder import save

SHOWN = {"saliency": "Saliency", "cam": "CAM", "occlusion": "Occlusion"}
"""What the page calls the labels of the study below; others as they are."""

HOSTILE = "<script>alert(1)</script>"

STUDY = f"""
images = 12
seed = 3
grid_images = 4
methods = [
  "saliency", "cam", "random",
  {{ name = "input_x_gradient", label = "{HOSTILE}" }},
  {{ name = "integrated_gradients", n_steps = 1, baseline = 4.0, label = "hasty" }},
  {{ name = "occlusion", images = 3, label = "occlusion" }},
]
metrics = [
  {{ name = "confidence_removal", order = "most", shares = [0.1, 0.5] }},
  {{ name = "confidence_removal", order = "least", shares = [0.1, 0.5] }},
  "sparseness", "complexity", {{ name = "deletion", images = 4, label = "deletion" }},
]
[data]
name = "digits"
[model]
name = "mlp"
settings = {{ hidden = [16] }}
recipe = {{ epochs = 1, limit = 300 }}
"""


def studied(place: Path, text: str) -> Path:
    """The folder of a study, from its text; weights are kept beside it."""
    file = place / "study.toml"
    file.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAICOMPARE_CACHE", str(place / "cache"))
        save(run(Study.load(file)), place / "results")
    return place / "results"


def column(page: object, name: str) -> list[str]:
    """The values of a column of the leaderboard, from top to bottom."""
    return page.evaluate(
        """(name) => {
          const heads = [...document.querySelectorAll("#board thead th")];
          const place = heads.findIndex((head) => head.querySelector("button").dataset.name === name);
          return [...document.querySelectorAll("#board tbody tr")].map((row) => row.cells[place].dataset.value);
        }""",
        name,
    )


def data(page: str) -> dict:
    """What the page hands its script."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
