"""The command line: what it says, writes and returns."""

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner, Result

import xaicompare.study as studies
from xaicompare import __version__, console
from xaicompare.cli import app, main
from xaicompare.console import OUT
from xaicompare.errors import StudyError, XaiCompareError
from xaicompare.registry import METHODS, METRICS
from xaicompare.study import Outcome, Study, run
from xaicompare.study.folder import save

STUDY = """
images = 3
methods = ["saliency", "cam", "random"]
[data]
name = "digits"
[model]
name = "mlp"
settings = { hidden = [8] }
recipe = { epochs = 1, limit = 100 }
"""

EXPERIMENT = """
data = "digits"
model = { name = "mlp", hidden = [8] }
shares = [0.3, 0.6]
repeats = 2
arms = ["plain", "guided"]
recipe = { epochs = 2, batch_size = 32 }
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAICOMPARE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    pixels = (torch.rand(40, 50, 3, generator=torch.Generator().manual_seed(0)) * 255).byte().numpy()
    Image.fromarray(pixels).save(path)
    return path


def called(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    """What the error says of a call that must fail."""
    result = called(*arguments)
    assert isinstance(result.exception, XaiCompareError), result.output
    return str(result.exception)


def test_run_leaves_tables_and_pictures_and_shows_the_leaderboard(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    result = called("run", tmp_path / "study.toml", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for told in ("3 images of digits", "saliency", "95 %", "left out cam", "makes a page of them", "answer: "):
        assert told in result.output
    assert (tmp_path / "out" / "leaderboard.csv").exists()
    assert (tmp_path / "out" / "figures" / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_run_keeps_out_of_folders_that_hold_something_else(tmp_path: Path) -> None:
    """And brackets in a path are no marks."""
    own = tmp_path / "[red]own"
    own.mkdir()
    (own / "study.toml").write_text(STUDY)
    (own / "README.md").write_text("precious")
    assert "holds README.md, study.toml, and no study" in refused("run", own / "study.toml", "--out", own)
    assert sorted(path.name for path in own.iterdir()) == ["README.md", "study.toml"]
    result = called("run", own / "study.toml", "--out", own / "out")
    assert result.exit_code == 0
    assert f"{own / 'study.toml'}: 3 images" in result.output
    (own / "out" / "figures" / "paper.png").write_text("mine")
    (own / "study.toml").write_text(STUDY + "# changed")
    assert called("run", own / "study.toml", "--out", own / "out").exit_code == 0
    assert (own / "out" / "figures" / "paper.png").exists()


def test_a_folder_says_what_ran_not_what_its_file_says_by_now(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(STUDY)
    study = Study.load(file)
    file.unlink()
    save(run(study, tmp_path / "out"), tmp_path / "out")
    assert (tmp_path / "out" / "study.toml").read_text() == STUDY


def test_report_makes_a_page_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    assert called("run", tmp_path / "study.toml", "--out", tmp_path / "out").exit_code == 0
    result = called("report", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "report.html" in result.output
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert "none is no folder" in refused("report", tmp_path / "none")


def test_metrics_lists_them_with_direction_range_cost_and_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OUT, "width", 120)  # whatever the terminal's
    told = called("metrics").output
    lines = {line.split()[0]: line.split()[1:] for line in told.splitlines() if line.strip()}
    assert lines["deletion"] == ["removal", "↓", "0", "to", "1", "21", "+", "0", "Petsiuk", "2018"]
    assert lines["local_lipschitz"] == ["robustness", "↓", "0", "to", "inf", "10", "+", "10", "Alvarez-Melis", "2018"]
    assert set(METRICS.names()) <= set(lines)


def test_train_says_whether_an_arm_is_worth_it(tmp_path: Path) -> None:
    (tmp_path / "experiment.toml").write_text(EXPERIMENT)
    for _ in range(2):  # the second time nothing is left to train
        result = called("train", tmp_path / "experiment.toml", "--out", tmp_path / "out")
        assert result.exit_code == 0, result.output
        for told in (
            "2 shares x 2 repeats x 2 arms (plain, guided)",
            "points over all shares",
            "No run collapsed",
            "report.md",
        ):
            assert told in result.output
    assert (tmp_path / "out" / "figures" / "training.png").read_bytes().startswith(b"\x89PNG")


def test_grid_draws_images_by_methods(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "grid.png"
    result = called(
        "grid", photo, "--model", "squeezenet1_1", "--methods", "saliency, gradcam,cam", "--size", 64, "--out", out
    )
    assert result.exit_code == 0, result.output
    assert "random weights" in result.output
    assert out.read_bytes().startswith(b"\x89PNG")


def test_grid_of_all_methods_leaves_out_what_is_not_defined_in_one_line(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    small = ("--model", "small_cnn", "--classes", 4, "--grey", "--size", 16, "--columns", 6, "--dpi", 50)
    result = called("grid", photo, *small, "--methods", "all", "--no-overlay", "--out", out)
    assert result.exit_code == 0, result.output
    told = [line for line in result.output.splitlines() if line.startswith("left out")]
    assert len(told) == 1
    assert "attention_rollout" in told[0]
    with Image.open(out) as picture:
        wide, high = picture.size
    assert wide < 7 * 50 * 1.3 + 60
    assert high > 3 * 50


def test_grid_of_a_grey_network_of_ours(photo: Path, tmp_path: Path) -> None:
    arguments = ("--model", "mlp", "--classes", 10, "--grey", "--size", 32, "--methods", "saliency,gradcam")
    result = called("grid", photo, *arguments, "--out", tmp_path / "grid.png")
    assert result.exit_code == 0, result.output
    assert "left out gradcam" in result.output


def test_grid_of_an_attended_network_has_three_pictures(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    small = ("--model", "attended_cnn", "--classes", 10, "--grey", "--size", 32, "--attended", "--out", out)
    result = called("grid", photo, photo, *small)
    assert result.exit_code == 0, result.output
    assert "sums of the refined maps, image by image: " in result.output
    assert out.read_bytes().startswith(b"\x89PNG")
    out.unlink()
    wide = ("--size", 64, "--attended", "--out", out)
    assert called("grid", photo, "--model", "squeezenet1_1", "--after", "features.4", *wide).exit_code == 0
    assert "attend(model, after=LAYER)" in refused("grid", photo, "--model", "squeezenet1_1", *wide)


def test_grid_tells_what_is_wrong(photo: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "grid.png")
    small = ("--model", "mlp", "--classes", 10, "--grey", "--size", 32)
    assert "did you mean 'saliency'" in refused("grid", photo, *small, "--methods", "salincy", *out)
    assert "did you mean 'vgg16'" in refused("grid", photo, "--model", "vgg_16", *out)
    assert "none.png" in refused("grid", tmp_path / "none.png", *small, *out)
    (tmp_path / "text.png").write_text("no image")
    assert "text.png" in refused("grid", tmp_path / "text.png", *small, *out)
    assert "none.safetensors" in refused("grid", photo, *small, "--weights", "none.safetensors", *out)
    assert not (tmp_path / "grid.png").exists()


@pytest.mark.parametrize("target", [10, -1])
def test_a_target_out_of_range_is_told(photo: Path, tmp_path: Path, target: int) -> None:
    small = ("--model", "mlp", "--classes", 10, "--grey", "--size", 32, "--methods", "saliency")
    told = refused("grid", photo, *small, "--target", target, "--out", tmp_path / "grid.png")
    assert str(target) in told


def test_methods_lists_every_method() -> None:
    result = called("methods")
    assert result.exit_code == 0
    assert all(name in result.output for name in METHODS.names())


def test_methods_says_which_are_defined_on_a_network() -> None:
    result = called("methods", "--model", "small_cnn", "--classes", 10, "--size", 16, "--channels", 1)
    assert result.exit_code == 0, result.output
    told = " ".join(result.output.split())
    first, _, others = told.partition("attention: ")
    assert "defined on small_cnn: saliency, " in first
    assert all(name in first for name in ("cam", "lrp", "kernelshap"))
    assert "attention_rollout: " in others


@pytest.mark.parametrize(("command", "told"), [("methods", "integrated_gradients"), ("metrics", "sensitivity_n")])
def test_lists_are_full_in_a_fresh_process(command: str, told: str) -> None:
    """Where no test has registered anything before."""
    call = [sys.executable, "-c", "from xaicompare.cli import main; main()", command]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert told in done.stdout


@pytest.mark.parametrize("command", ["methods", "metrics"])
@pytest.mark.parametrize("width", [80, 120])
def test_tables_break_between_words(command: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cut off, no word is torn, and no line is wider than the terminal."""
    made = {"methods": console.methods_table, "metrics": console.metrics_table}[command]()
    screen = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    screen.print(made)
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    words = {word for column in made.columns for cell in column.cells for word in str(cell).split()}
    assert words <= set(shown.split())


def test_lines_for_a_terminal_are_broken_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        screen = Console(width=40, file=io.StringIO(), force_terminal=terminal, color_system=None)
        monkeypatch.setattr(console, "OUT", screen)
        console.say("a sentence that is longer than forty characters are wide", first="note")
        lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert (max(map(len, lines)) <= 40) is terminal
        assert "\x1b" not in "".join(lines)


COMMANDS = sorted(entry.name or entry.callback.__name__ for entry in app.registered_commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps_with_examples_that_exist(command: str) -> None:
    result = called(command, "--help")
    assert result.exit_code == 0
    told = " ".join(result.output.split())
    examples = told.partition("Examples")[2].split("xaicompare ")[1:]
    assert any(example.startswith(command) for example in examples)
    for example in examples:
        known = called(example.split()[0], "--help").output
        assert all(word in known for word in example.split() if word.startswith("--"))


def test_the_help_tells_exit_statuses_and_where_to_begin() -> None:
    told = " ".join(called("--help").output.split())
    for words in ("Exit status: 0", "130 stopped by Ctrl-C", "xaicompare new-study", "--install-completion"):
        assert words in told
    assert called("--version").output == f"xaicompare {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu"], "Did you mean 'run'"),
        (["new_study"], "Did you mean 'new-study'"),
        (["run", "study.toml", "--out", "out", "--jbos", "2"], "--jobs"),
        (["grid", "a.png", "--modle", "mlp"], "--model"),
        (["run", "study.toml"], "Missing option '--out'"),
        (["run", "study.toml", "--out", "out", "--jobs", "0"], "'--jobs'"),
        (["tune", "study.toml", "--trials", "many"], "'--trials'"),
    ],
)
def test_a_command_line_that_is_wrong_has_status_2_and_a_hint(arguments: list[str], words: str) -> None:
    result = called(*arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())


def test_a_study_file_that_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "digits.toml").write_text(STUDY)
    told = refused("run", tmp_path / "digit.toml", "--out", tmp_path / "out")
    assert f"Did you mean '{tmp_path / 'digits.toml'}'?" in told


def test_a_picture_of_a_kind_that_is_not_known_is_refused_before_the_work(photo: Path) -> None:
    assert "ends in .png, .pdf, .svg" in refused("grid", photo, "--model", "mlp", "--out", "grid.doc")


@pytest.mark.parametrize("given", ["train", "run"])
def test_what_was_stopped_says_so_and_has_status_130(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("xaicompare.study.run" if given == "run" else "xaicompare.study.train.train", stopped)
    (tmp_path / "file.toml").write_text(STUDY if given == "run" else EXPERIMENT)
    result = called(given, tmp_path / "file.toml", "--out", tmp_path / "out")
    assert result.exit_code == 130
    assert "stopped: finished" in result.output


def test_failed_cells_have_status_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = studies.run

    def partly(*given: Any, **settings: Any) -> Outcome:
        return replace(real(*given, **settings), broken={"saliency, sparseness": "[disk] is full"})

    monkeypatch.setattr("xaicompare.study.run", partly)
    (tmp_path / "study.toml").write_text(STUDY)
    result = called("run", tmp_path / "study.toml", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "failed saliency, sparseness: [disk] is full" in result.output


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (StudyError("[data] is none; expected a table."), "error: [data] is none; expected a table."),
        (PermissionError(13, "Permission denied", "runs"), "Permission denied: 'runs' (PermissionError); expected"),
        (ZeroDivisionError("by zero"), "error: ZeroDivisionError: by zero; this was not expected. --debug shows"),
    ],
)
def test_errors_are_a_line_and_tracebacks_for_debug(
    error: Exception, words: str, debug: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: Path) -> None:
        raise error

    monkeypatch.setattr("xaicompare.reporting.report", fails)
    monkeypatch.setattr("sys.argv", ["xaicompare", "report", "runs", *(["--debug"] if debug else [])])
    with pytest.raises(type(error) if debug else SystemExit) as ended:
        main()
    told = capsys.readouterr()
    if not debug:
        assert ended.value.code == 1
        assert words in told.err
        assert told.err.count("\n") == 1
        assert told.out == ""


def test_exit_statuses_of_the_real_command(tmp_path: Path) -> None:
    def status(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-c", "from xaicompare.cli import main; main()", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
        return done.returncode, done.stderr

    code, told = status("run", "none.toml", "--out", "out")
    assert code == 1
    assert told.startswith("error: none.toml can't be read")
    assert "Traceback" not in told
    assert status("run")[0] == 2
    assert not (tmp_path / "out").exists()


def test_new_study_writes_a_file_that_runs_and_replaces_none(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    options = ("--methods", "saliency, lrp", "--metrics", "sparseness", "--images", 3)
    result = called("new-study", file, "--data", "planted", "--model", "mlp", *options)
    assert result.exit_code == 0, result.output
    assert f"xaicompare run {file} --out runs/my" in result.output.replace("\n", "")
    made = studies.Study.load(file)
    assert (made.data, made.model.name, made.images) == ("planted", "mlp", 3)
    assert list(made.methods)[:2] == ["saliency", "lrp"]
    assert list(made.metrics) == ["sparseness"]
    text = file.read_text()
    assert "my.toml exists; expected a new file" in refused("new-study", file)
    assert file.read_text() == text
    assert called("new-study", file, "--force").exit_code == 0
    assert studies.Study.load(file).data == "digits"
    for option, given, meant in (
        ("--data", "mnsit", "mnist"),
        ("--model", "smal_cnn", "small_cnn"),
        ("--methods", "salincy", "saliency"),
        ("--metrics", "road,deletoin", "deletion"),
    ):
        assert f"did you mean '{meant}'" in refused("new-study", tmp_path / "none.toml", option, given)
    assert not (tmp_path / "none.toml").exists()
