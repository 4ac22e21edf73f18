"""The command line: each command is a few lines over one public function [only home of typer]."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from xaicompare import __version__
from xaicompare.cli.compare_models import COMPARE_MODELS_EXAMPLES, compare_models
from xaicompare.cli.doctor import DOCTOR_EXAMPLES, doctor
from xaicompare.cli.evaluate import EVALUATE_EXAMPLES, evaluate
from xaicompare.cli.explore import explore
from xaicompare.cli.methods import METHODS_EXAMPLES, methods
from xaicompare.cli.suites import SUITES_EXAMPLES, suites
from xaicompare.console import (
    OUT,
    complain,
    happened,
    leaderboard,
    metrics_table,
    plain,
    say,
    standings,
    table_of,
)
from xaicompare.errors import StudyError
from xaicompare.options import (
    AnyNetwork,
    Classes,
    DataSet,
    ExperimentFile,
    Fit,
    LogFile,
    Methods,
    Network,
    OutFolder,
    Quick,
    ResultsFolder,
    SomeMethods,
    SomeMetrics,
    StudyFile,
    examples,
    listed,
)

app = typer.Typer(
    name="xaicompare",
    help="Which explanation of this image classifier can I believe, and what does it cost?",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    suggest_commands=True,
    epilog="**Exit status:** 0 all is done; 1 something was refused or failed, and the last lines say what; 2 the "
    "command itself can't be understood; 130 stopped by Ctrl-C, with all that was finished kept.\n\n"
    "**To begin:** `xaicompare new-study study.toml`, then `xaicompare run study.toml --out runs/study`, then "
    "`xaicompare report runs/study`.",
)


def _version(asked: bool) -> None:
    if asked:
        say(f"xaicompare {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version, and stop.")
    ] = False,
) -> None:
    """What all commands take; `main` looks for --debug itself."""


@contextmanager
def _stoppable(out: Path, what: str) -> Iterator[None]:
    """Ctrl-C is told in a line, and has an exit status of its own."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"finished {what} are kept in {out}; the same command goes on.", first="stopped:")
        raise typer.Exit(130) from None


@app.command(
    "new-study",
    epilog=examples(
        "new-study",
        "new-study mnist.toml --data mnist --model small_cnn --images 200",
        "new-study all.toml --methods all --metrics all",
        "new-study photos.toml --data folder --model resnet18 --weights DEFAULT",
    ),
)
def new_study(
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("study.toml"),
    data: DataSet = "digits",
    model: AnyNetwork = None,
    methods: SomeMethods = None,
    metrics: SomeMetrics = None,
    images: Annotated[int, typer.Option(min=1, help="How many images of the test part.")] = 64,
    weights: Annotated[
        str | None, typer.Option(help="A file, or a name of torchvision's such as DEFAULT; else it is trained.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write a study file to begin with, in which a comment explains each setting."""
    from xaicompare.files import replacing
    from xaicompare.study.template import USUAL_METHODS, USUAL_METRICS, template

    if file.exists() and not force:
        raise StudyError(f"{file} exists; expected a new file. Choose another name, or say --force.")
    chosen, judging = listed(methods) or USUAL_METHODS, listed(metrics) or USUAL_METRICS
    text = template(data, model, chosen, judging, images=images, weights=weights)
    with replacing(file) as path:
        path.write_text(text, encoding="utf-8")
    say(f"Written: {file}. Next: xaicompare run {file} --out runs/{file.stem}")


@app.command(
    epilog=examples(
        "run digits --out runs/digits",
        "run study.toml --out runs/study --quick",
        "run study.toml --out runs/study --jobs 4",
        "run study.toml --out /home/me/study --backend dask --scheduler tcp://node1:8786",
        "status runs/study",
    )
)
def run(
    study: StudyFile,
    out: OutFolder,
    quick: Quick = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at once, each with its share of the cores.")] = 1,
    backend: Annotated[str, typer.Option(help="Where they are: loky (here), or a cluster of dask or ray.")] = "loky",
    scheduler: Annotated[str | None, typer.Option(help="The cluster's scheduler, such as tcp://host:8786.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto; each process takes a CUDA device.")] = "cpu",
    log_json: LogFile = None,
) -> None:
    """Compare methods: explain a study's images by each, judge them, write tables and figures.

    A run that was stopped goes on where it was; after a change, only what depends on it is done again. Exit status 1 if
    some cells failed, 130 after Ctrl-C: finished ones are kept.
    """
    import xaicompare.study as studies
    from xaicompare.reporting import verdict_of
    from xaicompare.study.folder import claimed, save
    from xaicompare.study.quick import TOLD, quick_folder
    from xaicompare.study.spec import removes_confidence

    out = quick_folder(out) if quick else out
    loaded = studies.Study.load(study, quick=quick)
    claimed(out, quick=loaded.quick)
    say(f"{study}: {loaded.images} images of {loaded.data}, {loaded.model.name}, {len(loaded.methods)} methods")
    if loaded.quick:
        say(TOLD)
    for few in studies.too_few(loaded):
        say(few, first="too small:")
    with _stoppable(out, "cells"):
        outcome = studies.run(
            loaded, out, jobs=jobs, backend=backend, scheduler=scheduler, device=device, log=log_json, announce=say
        )
    happened(outcome)
    files = save(outcome, out)
    if removes_confidence(loaded):
        OUT.print(leaderboard(outcome.leaderboard))
    OUT.print(standings(outcome.standings))
    say(f"Results: {out} ({len(files)} files: tables, figures and examples)")
    say(f"`xaicompare report {out}` makes a page of them.")
    if outcome.broken:
        failed = f"{len(outcome.broken)} failed"
        say("see above; the same command tries them again, and nothing else.", first=f"{failed},", colour="red")
        raise typer.Exit(1)
    say(verdict_of(out)[0], first="answer:")


@app.command(epilog=examples("status runs/digits"))
def status(
    folder: ResultsFolder,
) -> None:
    """Tell how far a study is: cells done, running, left out, failed and missing, by method and by metric."""
    from xaicompare.study.status import failures, progress_by

    for column in ("method", "metric"):
        counts = progress_by(folder, column)
        shown = table_of(*map(str, counts.columns))
        for row in counts.itertuples(index=False):
            shown.add_row(*(plain(value) for value in row))
        OUT.print(shown)
    for label, reason in failures(folder).items():
        say(f"{label}: {reason}", first="failed", colour="red")


@app.command(
    epilog=examples(
        "grid castle.jpg cat.jpg --model resnet18 --weights DEFAULT --out grid.png",
        "grid castle.jpg --model squeezenet1_0 --weights squeezenet.safetensors --methods saliency,gradcam,lrp "
        "--out grid.pdf",
    )
)
def grid(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    model: Network,
    out: Annotated[Path, typer.Option(help="The picture to write (.png, .pdf or .svg).")],
    weights: Annotated[
        str | None,
        typer.Option(help="A .safetensors or .pt file, or a name of torchvision's such as DEFAULT; else random ones."),
    ] = None,
    methods: Methods = "saliency,integrated_gradients,gradcam,guided_backprop,lrp,kernelshap",
    target: Annotated[int | None, typer.Option(help="The class to explain; else the predicted one.")] = None,
    classes: Classes = 1000,
    size: Annotated[int, typer.Option(min=1, help="The side that images are brought to, in pixels.")] = 224,
    fit: Fit = "crop",
    grey: Annotated[bool, typer.Option("--grey", help="The network takes one channel, in [0, 1].")] = False,
    after: Annotated[
        str | None, typer.Option(help="An attention module stands after this layer, such as features.16.")
    ] = None,
    attended: Annotated[
        bool, typer.Option("--attended", help="Three pictures instead of --methods: attention, relevance, both.")
    ] = False,
    overlay: Annotated[bool, typer.Option(help="Maps over the photograph, else on white with its outlines.")] = True,
    columns: Annotated[int | None, typer.Option(min=1, help="So many methods beside each other, more below.")] = None,
    dpi: Annotated[int, typer.Option(min=30, help="Dots per inch of a .png.")] = 150,
) -> None:
    """Draw explanations side by side: a row per image, a column per method."""
    from xaicompare import zoo
    from xaicompare.cli.grid import Explainee, Look, check_name, draw, explained_by, preprocessed, told
    from xaicompare.registry import METHODS

    check_name(out)
    scale = zoo.Scale((0.0,), (1.0,)) if grey else zoo.IMAGENET
    names = METHODS.names() if methods == "all" else listed(methods)
    names = ["attention", "extended_lrp", "attention_refined_lrp"] if attended else names
    network, process = Explainee(model, classes, weights, after, attended).built(len(scale.mean))
    if process is None:
        inputs = zoo.open_images(images, size=size, mean=scale.mean, std=scale.std, fit=fit)
    else:
        inputs, scale = preprocessed(images, process)
    explained = told(explained_by(network, inputs, names, scale, target), everything=methods == "all")
    draw(network, inputs, explained, scale, out, Look(overlay, columns, dpi))


app.command(epilog=METHODS_EXAMPLES)(methods)


@app.command(epilog=examples("metrics"))
def metrics() -> None:
    """List the metrics: which way is good, their range, what they cost, and where they come from."""
    OUT.print(metrics_table())
    say(
        "↑: high is good, ↓: low is good. passes: images passed forward + backward for each one judged, at the default "
        "settings. quantus:NAME is any metric of "
        "Quantus, where that is installed: quantus:? lists them."
    )


@app.command(
    epilog=examples(
        "tune benchmarks/suites/lrp_mnist.toml --trials 40",
        "tune study.toml --images 100 --out runs/tuned.csv",
    )
)
def tune(
    study: StudyFile,
    trials: Annotated[int, typer.Option(min=1, help="How many composites are tried.")] = 40,
    images: Annotated[int | None, typer.Option(min=2, help="How many images; half to search, half to judge.")] = None,
    out: Annotated[Path | None, typer.Option(help="A .csv file for the judgement on unseen images.")] = None,
) -> None:
    """Search LRP's rules by depth, and judge the best against the named composites on unseen images."""
    from dataclasses import replace

    import xaicompare.study as studies
    from xaicompare.study.tune import tune as search

    loaded = studies.Study.load(study)
    tuned = search(loaded if images is None else replace(loaded, images=images), trials=trials)
    say(f"best of {tuned.trials} trials, gain {tuned.gain:.3f} on the images of the search; on unseen ones:")
    OUT.print(leaderboard(tuned.leaderboard))
    say("\n".join(f"{name}: {rule}" for name, rule in tuned.composite.named.items()))
    say(f"max-pooling: {tuned.composite.max_pooling}")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        tuned.leaderboard.to_csv(out, index=False)


@app.command(epilog=examples("train benchmarks/training/mnist_mlp_small.toml --out runs/mnist_mlp_small"))
def train(
    experiment: ExperimentFile,
    out: OutFolder,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at once; with more than 1, seconds mean little.")] = 1,
    device: Annotated[str, typer.Option(help="Where networks are trained, such as cpu or cuda.")] = "cpu",
    lockstep: Annotated[int, typer.Option(min=1, help="Trainings whose steps are taken together, for a GPU.")] = 1,
    graphs: Annotated[bool, typer.Option("--graphs", help="Play steps back as CUDA graphs.")] = False,
) -> None:
    """Train networks on shares of the data by several arms, and say whether an arm is worth it.

    A run that was stopped goes on where it was.
    """
    from xaicompare.study.experiment import Experiment
    from xaicompare.study.experiment_folder import save_experiment
    from xaicompare.study.train import train as carry_out
    from xaicompare.study.verdict import answers

    loaded = Experiment.load(experiment)
    arms = ", ".join(loaded.arms)
    say(f"{loaded.title}: {len(loaded.shares)} shares x {loaded.repeats} repeats x {len(loaded.arms)} arms ({arms})")
    with _stoppable(out, "trainings"):
        runs = carry_out(loaded, out, jobs=jobs, device=device, lockstep=lockstep, graphs=graphs)
    files = save_experiment(loaded, runs, out)
    for line in answers(loaded, runs):
        say(line.replace("**", ""))
    say("Results: " + ", ".join(str(path) for path in files))


@app.command(epilog=examples("report runs/digits", "report runs/digits --short"))
def report(
    folder: ResultsFolder,
    short: Annotated[bool, typer.Option("--short", help="Beside it two printed pages: report-short.html.")] = False,
) -> None:
    """Make a page of a folder of results, which opens in any browser and needs no network: report.html."""
    from xaicompare.reporting import report as make
    from xaicompare.reporting import verdict_of

    page = make(folder)
    if (folder / "standings.csv").exists():
        say(verdict_of(folder)[0], first="answer:")
    say(f"Page: {page}")
    if short:
        say(f"Short: {make(folder, short=True)}")


app.command(epilog=DOCTOR_EXAMPLES)(doctor)
app.command(epilog=EVALUATE_EXAMPLES)(evaluate)
app.command(epilog=SUITES_EXAMPLES)(suites)
app.command("compare-models", epilog=COMPARE_MODELS_EXAMPLES)(compare_models)
app.command(
    epilog=examples(
        "explore",
        "explore --data mnist",
        "explore --model squeezenet1_0 --weights squeezenet.safetensors --images photos",
        "explore --model resnet18 --weights DEFAULT --beside resnet50 --beside-weights DEFAULT",
    )
)(explore)


def main() -> None:
    """The console command: errors are told in a line, with exit status 1; tracebacks are for --debug."""
    given = sys.argv[1:]
    arguments = [argument for argument in given if argument != "--debug"]
    try:
        app(arguments, prog_name="xaicompare")
    except Exception as error:  # the outermost boundary: whatever it is, it is told
        if len(arguments) < len(given):
            raise
        complain(error)
        sys.exit(1)
