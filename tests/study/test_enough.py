"""A study that can tell nothing says so before it runs."""

from dataclasses import replace
from pathlib import Path

from typer.testing import CliRunner

from xaicompare.cli import app
from xaicompare.study import Study, too_few


def test_a_study_of_few_images_says_how_many_it_takes(study: Study) -> None:
    assert len(study.methods) == 7
    (told,) = too_few(study)
    assert told.startswith(
        "5 images can't separate 7 methods: no test of 21 pairs could find a difference. At least 10"
    )


def test_with_enough_images_metrics_and_methods_with_fewer_are_named(study: Study) -> None:
    many = replace(study, images=10, method_images={"cam": 1}, metric_images=dict.fromkeys(study.metrics, 9))
    by_metric, by_method = too_few(many)
    assert by_metric == (
        "No methods can be told apart by confidence_gain (9 images), sparseness (9 images): tests of 21 pairs need "
        "at least 10."
    )
    assert by_method == "Not to be told from any other: cam (1 image); tests of 21 pairs need at least 10."
    assert too_few(replace(many, method_images={}, metric_images={})) == []


def test_the_command_says_it_first(file: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["run", str(file), "--out", str(tmp_path / "out")]).output
    assert told.index("too small: 5 images can't separate 7 methods") < told.index("Results: ")
