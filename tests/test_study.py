"""A study end to end: from the file to the folder, and every way to get the file wrong."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from xaicompare.comparison import score
from xaicompare.errors import DataError, StudyError, XaiCompareError
from xaicompare.methods import CAM, LRP, DeepSHAP, Saliency
from xaicompare.registry import METHODS, METRICS
from xaicompare.reporting import report
from xaicompare.results import Results
from xaicompare.study import Outcome, Study, run
from xaicompare.study.experiment import Experiment
from xaicompare.study.folder import save
from xaicompare.study.subject import fitted, prepared
from xaicompare.training.fit import Recipe
from xaicompare.zoo import Scale, load_dataset, load_weights
from xaicompare.zoo.models import build_model
from xaicompare.zoo.weights import save_weights

SMALL = """
images = 5
seed = 3
grid_images = 2
methods = ["saliency", { name = "saliency", absolute = false, label = "signed" }, "cam", "random"]
metrics = [
  { name = "confidence_removal", order = "most", shares = [0.1, 0.5] },
  { name = "confidence_removal", order = "least", shares = [0.1, 0.5] },
]
[data]
name = "digits"
[model]
name = "mlp"
settings = { hidden = [16] }
recipe = { epochs = 1, limit = 300 }
"""
FULL = ("digits", "mnist", "cifar10", "vgg16", "imagenet", "planted", "mosaic")
SHIPPED = sorted((Path(__file__).parent.parent / "benchmarks" / "suites").glob("*.toml"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAICOMPARE_CACHE", str(cache))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def outcome(file: Path, cache: Path) -> Outcome:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAICOMPARE_CACHE", str(cache))
        return run(Study.load(file))


def written(tmp_path: Path, old: str, new: str) -> Path:
    """The small study with one change."""
    assert old in SMALL
    path = tmp_path / "changed.toml"
    path.write_text(SMALL.replace(old, new))
    return path


def test_rows_are_what_direct_calls_give(outcome: Outcome) -> None:
    subject = outcome.subject
    explained = Saliency().attribute(subject.model, subject.inputs, subject.target)
    removal = next(iter(outcome.study.metrics.values()))
    curve = removal.curve(subject.model, explained)
    rows = outcome.results.where(method="saliency", order="most").table
    for quantity, expected in (("score", curve.score), ("signed_confidence", curve.signed_confidence())):
        found = rows[rows["quantity"] == quantity].sort_values(["image", "share"])["value"].to_numpy()
        by_image = expected[subject.image.argsort()]
        torch.testing.assert_close(torch.tensor(found), by_image.flatten().double())
    wrong = rows[rows["quantity"] == "misclassified"].sort_values(["image", "share"])["value"].to_numpy()
    expected = (curve.predicted != subject.label[:, None])[subject.image.argsort()].flatten().double()
    assert wrong.tolist() == expected.tolist()


def test_untouched_images_are_recorded_once_for_each_method(outcome: Outcome) -> None:
    table = outcome.results.table
    untouched = table[table["order"].isna()]
    assert set(untouched["share"]) == {0.0}
    assert (untouched.groupby(["method", "quantity", "image"]).size() == 1).all()


def test_a_method_that_cannot_explain_is_left_out_with_its_reason(outcome: Outcome) -> None:
    assert list(outcome.failed) == ["cam"]
    assert "cam" in outcome.failed["cam"]
    assert isinstance(outcome.examples["cam"], XaiCompareError)
    assert outcome.results.names("method") == ["saliency", "signed", "random", "edges", "center", "constant"]


def test_no_method_at_all_is_an_error(tmp_path: Path) -> None:
    old = '["saliency", { name = "saliency", absolute = false, label = "signed" }, "cam", "random"]'
    with pytest.raises(XaiCompareError, match="no method could explain mlp"):
        run(Study.load(written(tmp_path, old, '["cam"]')))


def test_the_folder_holds_everything(outcome: Outcome, file: Path, tmp_path: Path) -> None:
    files = save(outcome, tmp_path / "out")
    names = {str(path.relative_to(tmp_path / "out")) for path in files}
    tables = {"results.parquet", "results.csv", "leaderboard.csv", "standings.csv", "tests.csv", "agreement.csv"}
    figures = {f"figures/{name}.png" for name in ("grid", "removal", "scoreboard", "agreement", "ranks", "cost")}
    examples = {"examples.json", "examples.safetensors"}
    assert names == tables | figures | examples | {"costs.csv", "README.md", "study.toml", "environment.json"}
    assert all(path.stat().st_size > 0 for path in files)
    assert Results.load(tmp_path / "out").table.equals(outcome.results.table)
    assert (tmp_path / "out" / "study.toml").read_bytes() == file.read_bytes()
    board = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    assert set(board["method"]) == {"saliency", "signed", "random", "edges", "center", "constant"}
    assert {"gain", "gain_low", "gain_high", "strongest_correct", "strongest_incorrect"} <= set(board.columns)
    told = json.loads((tmp_path / "out" / "environment.json").read_text())
    assert told["seed"] == 3
    assert told["versions"]["torch"] == torch.__version__
    assert list(told["left_out"]) == ["cam"]
    assert "digits" in told["dataset"]
    assert "accuracy" in told["model"]


def test_fewer_images_for_dear_methods_and_metrics(tmp_path: Path) -> None:
    path = written(tmp_path, '{ name = "saliency", absolute', '{ name = "saliency", images = 3, absolute')
    listed = '"sparseness", { name = "max_sensitivity", images = 2, n_samples = 2 },'
    path.write_text(path.read_text().replace("metrics = [", f"metrics = [{listed}"))
    found = run(Study.load(path))
    images = found.standings.set_index(["metric", "method"])["images"]
    assert images["sparseness", "saliency"] == 5
    assert images["sparseness", "signed"] == 3
    assert images["max_sensitivity(n_samples=2)", "saliency"] == 2
    first = found.subject.image[:3].tolist()
    assert found.results.where(method="signed", metric="sparseness").table["image"].tolist() == first


def test_standings_are_of_the_metrics_own_values(tmp_path: Path) -> None:
    path = written(tmp_path, "metrics = [", 'metrics = ["sparseness", "deletion",')
    found = run(Study.load(path))
    subject = found.subject
    explained = Saliency().attribute(subject.model, subject.inputs, subject.target)
    means = found.standings.set_index(["metric", "method"])["mean"]
    for metric in ("sparseness", "deletion"):
        expected = score(subject.model, explained, metric).double().mean()
        assert means[metric, "saliency"] == pytest.approx(float(expected), abs=1e-5)
    board = found.leaderboard.set_index("method")["gain"]
    assert means["confidence_gain", "saliency"] == pytest.approx(board["saliency"], abs=1e-5)


def test_controls_alone_and_one_image(tmp_path: Path) -> None:
    old = '["saliency", { name = "saliency", absolute = false, label = "signed" }, "cam", "random"]'
    path = written(tmp_path, old, '["random"]')
    path.write_text(path.read_text().replace("images = 5", "images = 1"))
    found = run(Study.load(path))
    assert all(file.exists() for file in save(found, tmp_path / "out"))
    assert set(found.standings["beats"]) == {"-"}


def test_a_method_of_fewer_images_than_the_grid_shows(tmp_path: Path) -> None:
    path = written(tmp_path, '{ name = "saliency", absolute', '{ name = "saliency", images = 1, absolute')
    assert all(file.exists() for file in save(run(Study.load(path)), tmp_path / "out"))


def test_a_study_without_a_single_map_is_saved_and_has_a_page(outcome: Outcome, file: Path, tmp_path: Path) -> None:
    """As where every cell with maps to show failed."""
    lost = replace(outcome, examples={label: XaiCompareError("the disk is full") for label in outcome.examples})
    names = {path.name for path in save(lost, tmp_path / "out")}
    assert "grid.png" not in names
    assert "scoreboard.png" in names
    assert "the disk is full" in report(tmp_path / "out").read_text(encoding="utf-8")


def test_limits_of_a_method_and_of_a_metric_are_apart(tmp_path: Path) -> None:
    path = written(tmp_path, 'label = "signed"', 'label = "a", images = 2')
    path.write_text(path.read_text().replace("metrics = [", 'metrics = [{ name = "sparseness", label = "a" },'))
    images = run(Study.load(path)).standings.set_index(["metric", "method"])["images"]
    assert (images["a", "a"], images["a", "saliency"]) == (2, 5)


def test_a_folder_is_of_one_study(outcome: Outcome, file: Path, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mistakes.png").write_bytes(b"old")
    files = save(outcome, tmp_path)
    assert tmp_path / "figures" / "mistakes.png" not in files
    assert not (tmp_path / "figures" / "mistakes.png").exists()


def test_no_metric_that_can_judge_is_an_error_with_its_reason(tmp_path: Path) -> None:
    path = written(tmp_path, "images = 5", "images = 2")
    text = path.read_text()
    path.write_text(
        text[: text.index("metrics = [")]
        + 'metrics = [{ name = "infidelity", std = 1e30 }]\n'
        + text[text.index("[data]") :]
    )
    with pytest.raises(XaiCompareError, match="no metric could judge: infidelity"):
        run(Study.load(path))


@pytest.mark.parametrize("label", ["a|b", "[red]y", "a[/b]", "$x_{$"])
def test_labels_come_through_as_they_are(label: str, tmp_path: Path) -> None:
    path = written(tmp_path, 'label = "signed"', f'label = "{label}"')
    found = run(Study.load(path))
    save(found, tmp_path / "out")
    page = (tmp_path / "out" / "README.md").read_text()
    assert label.replace("|", "\\|") in page
    assert "## Who leads so far" in page
    assert label in set(pd.read_csv(tmp_path / "out" / "standings.csv")["method"])


def test_masks_of_the_data_reach_the_metrics(tmp_path: Path) -> None:
    path = written(tmp_path, 'name = "digits"', 'name = "planted"\ntrain = 300\ntest = 20')
    path.write_text(path.read_text().replace("metrics = [", 'metrics = ["relevance_mass",'))
    with pytest.raises(
        StudyError, match=r'relevance_mass looks where the label.s class lies; expected explain = "label"'
    ):
        run(Study.load(path))
    path.write_text('explain = "label"\n' + path.read_text())
    found = run(Study.load(path))
    masks = found.subject.dataset.test.masks(found.subject.image)
    explained = Saliency().attribute(found.subject.model, found.subject.inputs, found.subject.target)
    expected = score(found.subject.model, explained, "relevance_mass", masks)
    rows = found.results.where(method="saliency", metric="relevance_mass").table["value"]
    torch.testing.assert_close(torch.tensor(rows.to_numpy()), expected, check_dtype=False)


def test_masks_that_the_data_do_not_have_are_asked_for_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "metrics = [", 'metrics = ["relevance_mass",')
    with pytest.raises(StudyError, match=r"relevance_mass needs to know where.*digits"):
        run(Study.load(path))


def test_a_metric_that_cannot_judge_a_method_is_left_out_with_its_reason(tmp_path: Path) -> None:
    path = written(tmp_path, '"saliency", {', '{ name = "lrp", composite = "epsilon-gamma-box", label = "lrp" }, {')
    path.write_text(path.read_text().replace("metrics = [", 'metrics = [{ name = "infidelity", std = 1e30 },'))
    found = run(Study.load(path))
    assert any(name.startswith("lrp, infidelity") for name in found.failed)
    assert "lrp" in set(found.leaderboard["method"])


def test_the_same_file_gives_the_same_rows_and_reuses_the_weights(outcome: Outcome, file: Path) -> None:
    again = run(Study.load(file))
    assert "trained before" in again.subject.origin
    seconds = ["seconds"]
    assert again.results.table.drop(columns=seconds).equals(outcome.results.table.drop(columns=seconds))


def test_another_seed_draws_other_images(file: Path, tmp_path: Path, outcome: Outcome) -> None:
    other = prepared(Study.load(written(tmp_path, "seed = 3", "seed = 4")))
    assert set(other.image.tolist()) != set(outcome.subject.image.tolist())


def test_label_as_target(tmp_path: Path) -> None:
    subject = prepared(Study.load(written(tmp_path, "images = 5", 'images = 60\nexplain = "label"')))
    assert torch.equal(subject.target, subject.label)
    assert not torch.equal(subject.target, subject.predicted), "a network of one epoch is wrong somewhere"


def test_weights_go_before_the_recipe(tmp_path: Path) -> None:
    model = build_model("mlp", 10, 1, seed=9, hidden=(16,))
    save_weights(model, tmp_path / "mlp.safetensors", {})
    text = f'weights = "{tmp_path / "mlp.safetensors"}"\nrecipe'
    study = Study.load(written(tmp_path, "recipe", text))
    subject = prepared(study)
    assert subject.origin.startswith("weights ")
    assert torch.equal(subject.model[1].weight, model[1].weight)
    (tmp_path / "mlp.safetensors").unlink()
    assert prepared(study).origin.startswith("trained")


def test_weights_alone_must_be_there(tmp_path: Path) -> None:
    study = Study.load(written(tmp_path, "recipe = { epochs = 1, limit = 300 }", 'weights = "none.safetensors"'))
    with pytest.raises(DataError, match=r"none\.safetensors"):
        prepared(study)


def test_methods_learn_from_the_data_what_only_data_can_tell() -> None:
    scale = Scale((0.5,), (0.25,))
    lrp = fitted(LRP(composite="epsilon-gamma-box"), scale)
    assert (float(lrp.low), float(lrp.high)) == (-2.0, 2.0)
    assert fitted(LRP(low=-1.0, high=1.0), scale).low == -1.0, "what the user says stays"
    references = torch.ones(2, 1, 4, 4)
    assert fitted(DeepSHAP(), scale, references).baselines is references
    assert fitted(CAM(), scale) == CAM()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_studies_are_valid(path: Path) -> None:
    study = Study.load(path)
    assert {"random", "edges", "center", "constant"} <= set(study.methods)
    names = {method.name for method in study.methods.values()}
    anywhere = {name for name in METHODS.names() if METHODS[name].traits.needs in (None, "pooling")}
    assert names == anywhere if path.stem in FULL else "lrp" in names
    if path.stem in FULL:
        judged = {metric.name for metric in study.metrics.values()}
        masks = {name for name in METRICS.names() if METRICS[name].traits.masks}
        assert judged >= set(METRICS.names()) - masks
        assert not masks & judged or masks <= judged


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("images = 5", "image = 5", "key 'image'; did you mean 'images'"),
        ("images = 5", "images = 0", "images"),
        ("images = 5", 'images = "five"', "images"),
        ("images = 5", 'images = 5\nexplain = "guess"', "explain"),
        ('"saliency", {', '"salience", {', r"\[methods, entry 1\] .*did you mean 'saliency'"),
        ("absolute = false", "absolut = false", r"\[methods, entry 2\].*absolut"),
        ("absolute = false", 'absolute = "maybe"', r"\[methods, entry 2\].*absolute"),
        ('label = "signed"', 'label = "saliency"', "label 'saliency' is there twice"),
        ('order = "most"', 'order = "random"', r"expected 'most' and 'least'"),
        ('order = "most"', 'order = "first"', r"\[metrics, entry 1\].*order"),
        ('"confidence_removal", order = "least"', '"removal", order = "least"', r"\[metrics, entry 2\]"),
        ('name = "digits"', 'name = "digit"', r"\[data\].*did you mean 'digits'"),
        ('name = "digits"', "", r"\[data\].*expected a name"),
        ('name = "mlp"', 'name = "mpl"', r"\[model\].*did you mean 'mlp'"),
        ("epochs = 1", "epoch = 1", r"\[model.recipe\].*epoch"),
        ("epochs = 1", "epochs = -1", r"\[model.recipe\].*epochs"),
        ("seed = 3", "seed = 3 3", "is no TOML"),
        ("seed = 3", "seed = true", "seed"),
        (
            '"random"',
            '"random", { name = "center", label = "middle" }',
            "label 'middle' of center; expected a label that",
        ),
        (
            'label = "signed"',
            'label = "edges (lrp)"',
            "of saliency; expected a label that begins with a control's name",
        ),
        ('label = "signed"', 'label = " "', "label ' '; expected a line of text"),
        ('order = "most"', 'images = 2, order = "most"', "different numbers of images"),
        (
            '{ name = "confidence_removal", order = "most"',
            '"sparseness", { name = "confidence_removal", order = "most", fill = "blur" }, '
            '{ name = "confidence_removal", order = "most"',
            "each once",
        ),
        ("metrics = [", 'metrics = [{ name = "deletion", label = "confidence_gain" },', "own rows"),
        ("hidden = [16]", "classes = 5", r"\[model\]: classes=5 .* write `classes` in \[data\]"),
        ("hidden = [16]", "num_classes = 5", r"\[model\]: num_classes=5 .* write `classes` in \[data\]"),
        ('name = "mlp"', 'name = "mlp"\nclasses = 5', r"\[model\]: classes=5 .* write `classes` in \[data\]"),
        ("hidden = [16]", "in_channels = 3", r"\[model\]: in_channels=3 .* the channels of the data set"),
        ("hidden = [16]", "seed = 3", r"\[model\]: seed=3 .* in the recipe"),
        ("absolute = false", "images = 0", r"\[methods, entry 2\] images=0"),
    ],
)
def test_a_wrong_file_is_told_by_table_and_key(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(StudyError, match=told) as raised:
        Study.load(written(tmp_path, old, new))
    assert "changed.toml" in str(raised.value)


@pytest.mark.parametrize("where", ["model", "arm"])
def test_an_experiment_leaves_the_classes_to_the_data(where: str) -> None:
    network = {"name": "mlp", "num_classes": 5}
    arm = {"name": "plain", **({"model": network} if where == "arm" else {})}
    content = {"data": "digits", "model": network if where == "model" else "mlp", "arms": [arm], "shares": [1.0]}
    with pytest.raises(StudyError, match=r"model\]: num_classes=5 .* data set"):
        Experiment.from_dict(content)


def test_an_absent_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="can't be read"):
        Study.load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("images = 5", "images = 501", "expected at most 500"),
        ('name = "digits"', 'name = "digits"\npath = "x"', "path"),
        ("hidden = [16]", "hiden = [16]", "hiden"),
        ("limit = 300", "limit = 3000", "3000 images are asked for"),
    ],
)
def test_what_only_the_data_can_tell_is_told_before_anything_is_explained(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    with pytest.raises(XaiCompareError, match=told):
        prepared(Study.load(written(tmp_path, old, new)))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_weights(build_model("mlp", 10, 1, hidden=(8,)), tmp_path / "w.safetensors", {})
    with pytest.raises(DataError, match=r"w\.safetensors"):
        load_weights(build_model("mlp", 10, 1, hidden=(16,)), tmp_path / "w.safetensors")
    assert load_dataset("digits").classes[3] == "3"


def test_tuning_searches_and_judges_on_unseen_images() -> None:
    from xaicompare.study.tune import tune

    study = Study.load(Path(__file__).parents[1] / "benchmarks" / "suites" / "digits.toml")
    study = replace(study, images=8, model=replace(study.model, recipe=Recipe(epochs=1)))
    first, again = (tune(study, trials=3) for _ in range(2))
    assert set(first.leaderboard["method"]) > {"tuned", "lrp-zero", "lrp-epsilon-gamma-box"}
    assert (first.leaderboard["images"] == 4).all()
    assert first.composite == again.composite
    assert first.gain == again.gain
