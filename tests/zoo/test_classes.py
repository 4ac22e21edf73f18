"""Class folders and the classes of a ready network."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from xaicompare.errors import StudyError
from xaicompare.reporting import report
from xaicompare.study import Study, run
from xaicompare.study.folder import save
from xaicompare.study.subject import prepared
from xaicompare.zoo import build_model, imagenet_classes, load_dataset, save_weights
from xaicompare.zoo.classes import UNKNOWN, matched, weights_classes


def folders(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / "pets" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32), (40 * number, 90, 160)).save(root / "pets" / name / "a.png")
    return root / "pets"


def test_names_match_whatever_case_spaces_and_underscores(tmp_path: Path) -> None:
    path = folders(tmp_path, "Egyptian_cat", "goldfish", "tigerCAT")
    data, told = matched(load_dataset("folder", path=str(path)), weights_classes("resnet18", "DEFAULT"))
    assert (data.test.labels.tolist(), data.classes, told) == ([285, 1, 282], imagenet_classes(), "")


@pytest.mark.parametrize("name", ["imagenet_class_index.json", "LOC_synset_mapping.txt"])
def test_an_index_tells_wordnet_numbers(tmp_path: Path, name: str) -> None:
    path = folders(tmp_path, "n01440764", "n01443537")
    lines = {"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}
    (tmp_path / name).write_text(json.dumps(lines) if "json" in name else "n01440764 tench\nn01443537 goldfish\n")
    data, told = matched(load_dataset("folder", path=str(path), classes=1000), None)
    assert (data.test.labels.tolist(), told) == ([0, 1], "")


def test_as_many_folders_as_outputs_are_numbered(tmp_path: Path) -> None:
    data = load_dataset("folder", path=str(folders(tmp_path, "a", "b")))
    assert matched(data, None) == (data, "")


def test_others_have_no_labels(tmp_path: Path) -> None:
    path = folders(tmp_path, "goldfish", "my own")
    data, told = matched(load_dataset("folder", path=str(path)), imagenet_classes())
    assert data.test.labels.tolist() == [UNKNOWN, UNKNOWN]
    assert "1 of 2 class folders of pets, such as 'my own', match no class" in told


def test_a_study_tells_of_unknown_classes_and_leaves_accuracy_out(tmp_path: Path) -> None:
    path = folders(tmp_path, "his own", "my own", "your own")
    save_weights(build_model("small_cnn", 10, 3), tmp_path / "w.safetensors")
    text = f"""
images = 3
grid_images = 2
methods = ["saliency", "lrp"]
metrics = [
  {{ name = "confidence_removal", order = "most", shares = [0.5] }},
  {{ name = "confidence_removal", order = "least", shares = [0.5] }},
]
data = {{ name = "folder", path = '{path}', size = 32, classes = 10 }}
model = {{ name = "small_cnn", weights = '{tmp_path / "w.safetensors"}' }}
"""
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    study = Study.load(tmp_path / "study.toml")
    outcome = run(study)
    save(outcome, tmp_path / "run")
    summary = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "classified right" not in summary
    assert "match no class of the network's 10" in summary
    assert any("match no class" in note for note in outcome.notes)
    assert outcome.results.table["label"].isna().all()
    assert "accuracy_on_these_images" not in (tmp_path / "run" / "environment.json").read_text()
    page = report(tmp_path / "run").read_text(encoding="utf-8")
    assert "true class: unknown" in page
    assert "misclassified</b> as" not in page
    with pytest.raises(StudyError, match=r'explain = "label": .* match no class'):
        prepared(replace(study, explain="label"))
