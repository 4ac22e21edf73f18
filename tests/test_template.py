"""Study files to begin with: each loads, says what was chosen, and runs."""

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from xaicompare.errors import UnknownNameError
from xaicompare.registry import DATASETS, METHODS, METRICS, MODELS
from xaicompare.stats import CONTROLS
from xaicompare.study import Study, run, template
from xaicompare.training.fit import RECIPES, Recipe, usual_recipe


def read(text: str) -> Study:
    return Study.from_dict(tomllib.loads(text))


@pytest.mark.parametrize("data", DATASETS.names())
def test_every_data_set_has_a_file_that_loads(data: str) -> None:
    text = template(data)
    made = read(text)
    assert made.data == data
    assert (made.model.weights is None) == (data != "folder")  # which has nothing to train on
    assert all(
        "#" in line for line in text.splitlines() if line.partition("=")[0].strip() in {"images", "keep", "seed"}
    )


def test_what_is_not_chosen_is_what_a_file_without_it_means() -> None:
    made = read(template())
    least = Study.from_dict({"data": "digits", "model": "small_cnn", "methods": ["lrp"]})
    for entry in fields(Study):
        if entry.name not in ("methods", "metrics", "model"):
            assert getattr(made, entry.name) == getattr(least, entry.name), entry.name
    assert made.model.recipe == usual_recipe("small_cnn", "digits")
    assert made.model.recipe == Study.load("benchmarks/suites/digits.toml").model.recipe
    assert read(template(model="mlp")).model.recipe == Recipe()


@pytest.mark.parametrize("model", ["vgg16_cifar10", "resnet18"])
def test_a_model_is_trained_as_usual_unless_weights_are_given(model: str) -> None:
    assert read(template("cifar10", model)).model.recipe == RECIPES.get(model, Recipe())
    given = read(template("cifar10", model, weights='a "b".pt')).model
    assert given.weights == 'a "b".pt'
    assert given.recipe is None


def test_all_are_those_that_the_data_can_serve() -> None:
    made = read(template(methods=["all"], metrics=["all"]))
    assert [name for name in made.methods if name not in CONTROLS] == [
        name for name in METHODS.names() if name not in CONTROLS
    ]
    assert {metric.name for metric in made.metrics.values()} == {
        name for name in METRICS.names() if not METRICS.build(name).traits.masks
    }
    assert made.explain == "predicted"
    assert read(template("planted", metrics=["pointing_game"])).explain == "label"


def test_comments_of_a_data_set_are_its_settings() -> None:
    text = template("planted")
    for line in ('# base = "digits"', "# holes = 0.5", "# download = false"):
        assert line in text.splitlines()
    uncommented = text.replace("# holes = 0.5", "holes = 0.25")
    assert read(uncommented).data_settings == {"holes": 0.25}
    assert read(template("folder")).data_settings == {"path": "?"}


@pytest.mark.parametrize("choice", [{"data": "x"}, {"model": "x"}, {"methods": ["x"]}, {"metrics": ["lrp"]}])
def test_unknown_names_are_told(choice: dict) -> None:
    with pytest.raises(UnknownNameError):
        template(**choice)


def test_a_tiny_one_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAICOMPARE_CACHE", str(tmp_path))
    text = template(model="mlp", methods=["saliency"], metrics=["sparseness"], images=2)
    assert "mlp" in MODELS
    outcome = run(read(text.replace("epochs = 3", "epochs = 1, limit = 50")))
    assert set(outcome.results.names("method")) == {"saliency", *CONTROLS}
