"""The command line: each command is a few lines over one public function [only home of typer and rich]."""

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from xaicompare.errors import XaiCompareError

app = typer.Typer(
    name="xaicompare",
    help="Which explanation of this image classifier can I believe, and what does it cost?",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
_out = Console()
_err = Console(stderr=True)


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    context.obj = debug


@app.command(epilog="Example: `xaicompare run benchmarks/suites/digits.toml --out runs/digits`")
def run(
    study: Annotated[Path, typer.Argument(help="A study file (TOML); benchmarks/suites/ holds some.")],
    out: Annotated[Path, typer.Option(help="The folder for tables and figures; made where absent.")],
) -> None:
    """Compare methods: explain a study's images by each, judge them, write tables and figures."""
    import xaicompare.study as studies
    from xaicompare.study.folder import save
    from xaicompare.study.spec import removes_confidence

    loaded = studies.Study.load(study)
    _say(f"{study}: {loaded.images} images of {loaded.data}, {loaded.model.name}, {len(loaded.methods)} methods")
    outcome = studies.run(loaded)
    files = save(outcome, out, study)
    _say(f"{outcome.study.model.name}: {outcome.subject.origin}")
    if removes_confidence(loaded):
        _out.print(_leaderboard(outcome.leaderboard))
    _out.print(_standings(outcome.standings))
    for label, reason in outcome.failed.items():
        _say(f"[yellow]left out[/yellow] {_plain(label)}: {_plain(reason)}")
    for label, reason in outcome.incomplete.items():
        _say(f"[yellow]incomplete[/yellow] {_plain(label)}: {_plain(reason)}")
    _say("Results: " + ", ".join(str(path) for path in files))


@app.command(
    epilog="Example: `xaicompare grid castle.jpg cat.jpg --model squeezenet1_0 --weights squeezenet.safetensors "
    "--methods saliency,gradcam,lrp --out grid.png`"
)
def grid(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    model: Annotated[str, typer.Option(help="A network by name: any classifier of torchvision, or one of ours.")],
    out: Annotated[Path, typer.Option(help="The picture to write (.png, .pdf or .svg).")],
    weights: Annotated[
        str | None,
        typer.Option(help="A .safetensors or .pt file, or a name of torchvision's such as DEFAULT; else random ones."),
    ] = None,
    methods: Annotated[
        str, typer.Option(help="Methods by name, with commas; 'all' for every one.")
    ] = "saliency,integrated_gradients,gradcam,guided_backprop,lrp,kernelshap",
    target: Annotated[int | None, typer.Option(help="The class to explain; else the predicted one.")] = None,
    classes: Annotated[int, typer.Option(help="How many classes the network knows.")] = 1000,
    size: Annotated[int, typer.Option(help="The side that images are brought to, in pixels.")] = 224,
    grey: Annotated[bool, typer.Option("--grey", help="The network takes one channel, in [0, 1].")] = False,
    after: Annotated[
        str | None, typer.Option(help="An attention module stands after this layer, such as features.16.")
    ] = None,
    attended: Annotated[
        bool, typer.Option("--attended", help="Three pictures instead of --methods: attention, relevance, both.")
    ] = False,
) -> None:
    """Draw explanations side by side: a row per image, a column per method."""
    from xaicompare import comparison, figures, zoo
    from xaicompare.attended import attend, attention_modules
    from xaicompare.boundary import outputs
    from xaicompare.registry import METHODS
    from xaicompare.study.subject import fitted

    scale = zoo.Scale((0.0,), (1.0,)) if grey else zoo.IMAGENET
    names = METHODS.names() if methods == "all" else [name.strip() for name in methods.split(",")]
    names = ["attention", "extended_lrp", "attention_refined_lrp"] if attended else names
    inputs = zoo.open_images(images, size=size, mean=scale.mean, std=scale.std)
    network = zoo.build_model(model, classes, inputs.shape[1])
    network = network if after is None else attend(network, after)
    if attended:
        attention_modules(network)  # says what lacks
    if weights is None:
        _say(f"[yellow]{model} has random weights[/yellow]: its explanations mean nothing. Give --weights.")
    else:
        zoo.load_weights(network, weights, name=model)
    chosen = [fitted(METHODS.build(name), scale) for name in names]
    explained = comparison.attempted(network, inputs, chosen, target)
    for label, result in explained.items():
        if isinstance(result, XaiCompareError):
            _say(f"[yellow]left out[/yellow] {label}: {result}")
        elif result.method.name == "attention_refined_lrp":
            sums = ", ".join(f"{float(total):.3g}" for total in result.total)
            _say(f"sums of the refined maps, image by image: {sums}")
    picture = figures.grid(
        explained,
        classes=zoo.imagenet_classes() if classes == 1000 else None,
        predicted=outputs(network, inputs, 16).argmax(1),
        mean=scale.mean,
        std=scale.std,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(out, dpi=150)
    _say(f"Picture: {out}")


@app.command(epilog="Example: `xaicompare methods`")
def methods() -> None:
    """List the attribution methods: how each works, what it needs, what it costs."""
    import xaicompare.methods  # noqa: F401 (registers their names)
    from xaicompare.cost import passes
    from xaicompare.registry import METHODS

    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    columns = (
        "method",
        "based on",
        "agnos-\ntic",
        "base-\nline",
        "neuron\nrelev.",
        "con-\nserves",
        "for-\nward",
        "back-\nward",
    )
    for column in columns:
        table.add_column(column, no_wrap=True)
    for name in METHODS.names():
        built = METHODS[name]()
        traits, cost = built.traits, passes(built)
        has = (traits.agnostic, traits.baseline, traits.neuron_relevance, traits.conserves)
        told = ("yes" if mark else "-" for mark in has)
        table.add_row(name, traits.kind, *told, str(cost.forward), str(cost.backward))
    _out.print(table)
    _say(
        "agnostic: needs the model's outputs only. baseline: compares with a reference input. neuron relevance: every "
        "neuron gets a relevance that is not a gradient. conserves: the values sum to the output, or to its difference "
        "from the baseline. forward, backward: images passed for each one explained, measured at the default settings."
    )
    for needs, what in (("attention", "an attention module (see xaicompare.attend)"), ("transformer", "a transformer")):
        _say(
            f"{', '.join(name for name in METHODS.names() if METHODS.build(name).traits.needs == needs)}: need {what}."
        )


@app.command(epilog="Example: `xaicompare metrics`")
def metrics() -> None:
    """List the metrics: which way is good, their range, what they cost, and where they come from."""
    import inspect

    import xaicompare.metrics  # noqa: F401 (registers their names)
    from xaicompare.cost import judging_passes
    from xaicompare.methods import Saliency
    from xaicompare.registry import METRICS

    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("metric", "family", "good", "range", "for-\nward", "back-\nward"):
        table.add_column(column, no_wrap=True)
    table.add_column("source")
    for name in METRICS.names():
        built = METRICS.build(name)
        cost = judging_passes(built, Saliency())
        good = "high" if built.higher_is_better else "low"
        reach = f"{built.traits.low:g} to {built.traits.high:g}".replace("-inf to inf", "any")
        source = (inspect.getdoc(type(built)) or "").partition("Source: ")[2]
        author, year = re.match(r"[\w-]+", source), re.search(r"\b(?:19|20)\d\d\b", source)
        told = " ".join(found.group() for found in (author, year) if found)
        table.add_row(name, built.traits.family, good, reach, str(cost.forward), str(cost.backward), told)
    _out.print(table)
    _say(
        "forward, backward: images passed for each one judged, at the default settings. quantus:NAME is any metric of "
        "Quantus, where that is installed: quantus:? lists them."
    )


@app.command(epilog="Example: `xaicompare tune benchmarks/suites/lrp_mnist.toml --trials 40`")
def tune(
    study: Annotated[Path, typer.Argument(help="A study file: its data, model, images and metrics.")],
    trials: Annotated[int, typer.Option(help="How many composites are tried.")] = 40,
    images: Annotated[int | None, typer.Option(help="How many images; half to search, half to judge.")] = None,
    out: Annotated[Path | None, typer.Option(help="A .csv file for the judgement on unseen images.")] = None,
) -> None:
    """Search LRP's rules by depth, and judge the best against the named composites on unseen images."""
    from dataclasses import replace

    import xaicompare.study as studies
    from xaicompare.study.tune import tune as search

    loaded = studies.Study.load(study)
    tuned = search(loaded if images is None else replace(loaded, images=images), trials=trials)
    _say(f"best of {tuned.trials} trials, gain {tuned.gain:.3f} on the images of the search; on unseen ones:")
    _out.print(_leaderboard(tuned.leaderboard))
    _say("\n".join(f"{name}: {_plain(rule)}" for name, rule in tuned.composite.named.items()))
    _say(f"max-pooling: {tuned.composite.max_pooling}")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        tuned.leaderboard.to_csv(out, index=False)


@app.command(epilog="Example: `xaicompare train benchmarks/training/mnist_mlp_small.toml --out runs/mnist_mlp_small`")
def train(
    experiment: Annotated[Path, typer.Argument(help="An experiment file (TOML); benchmarks/training/ holds some.")],
    out: Annotated[Path, typer.Option(help="The folder for rows, report and figures; trainings in it are kept.")],
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at once; with more than 1, seconds mean little.")] = 1,
    device: Annotated[str, typer.Option(help="Where networks are trained, such as cpu or cuda.")] = "cpu",
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
    _say(f"{loaded.title}: {len(loaded.shares)} shares x {loaded.repeats} repeats x {len(loaded.arms)} arms ({arms})")
    runs = carry_out(loaded, out, jobs=jobs, device=device)
    files = save_experiment(loaded, runs, out, experiment)
    for line in answers(loaded, runs):
        _say(_plain(line.replace("**", "")))
    _say("Results: " + ", ".join(str(path) for path in files))


@app.command(
    epilog="Example: `xaicompare doctor resnet18 --weights resnet18.safetensors`",
)
def doctor(
    model: Annotated[str, typer.Argument(help="A network by name: any classifier of torchvision, or one of ours.")],
    weights: Annotated[str | None, typer.Option(help="A .safetensors or .pt file; else random ones.")] = None,
    classes: Annotated[int, typer.Option(help="How many classes the network knows.")] = 1000,
    size: Annotated[int, typer.Option(help="The side of the images that it takes, in pixels.")] = 224,
    channels: Annotated[int, typer.Option(help="The channels that it takes.")] = 3,
) -> None:
    """Examine a network: what would make which method wrong, where it is, and what helps."""
    import torch

    from xaicompare import diagnosis, zoo
    from xaicompare.draws import generator

    network = zoo.build_model(model, classes, channels)
    if weights is not None:
        zoo.load_weights(network, weights, name=model)
    example = torch.randn(2, channels, size, size, generator=generator(0))
    _say(_plain(str(diagnosis.doctor(network, example))))


def main() -> None:
    """The console command: errors of ours are told in a line, without a traceback; exit status 1, wrong usage 2."""
    try:
        app(standalone_mode=True)
    except XaiCompareError as error:
        if "--debug" in sys.argv:
            raise
        _err.print(f"[red]error:[/red] {_plain(error)}", soft_wrap=True, highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _leaderboard(table: Any) -> Table:
    """The leaderboard of one model, as a terminal shows it."""
    shown = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("method", "gain", "95 %", "beats\nrandom", "most", "least", "s/image"):
        shown.add_column(column, no_wrap=True)
    for row in table.to_dict("records"):
        beats = {"yes": "[green]yes[/green]", "no": "[red]no[/red]"}.get(row["beats_random"], row["beats_random"])
        interval = f"{row['gain_low']:.3f} to {row['gain_high']:.3f}"
        ends = (f"{row[key]:.3f}" for key in ("confidence_most", "confidence_least"))
        shown.add_row(_plain(row["method"]), f"{row['gain']:.3f}", interval, beats, *ends, f"{row['seconds']:.2g}")
    shown.caption = (
        "gain: signed confidence with the least important features removed, less that with the most important removed; "
        "mean over shares and images. most, least: mean confidence with these features removed."
    )
    return shown


def _standings(table: Any) -> Table:
    """Every metric's first three methods, and how many beat all controls, as a terminal shows it."""
    shown = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("metric", "best three", "beat all\ncontrols"):
        shown.add_column(column, no_wrap=column == "metric")
    for metric, rows in table.groupby("metric", sort=False):
        best = ", ".join(f"{_plain(row['method'])} {row['mean']:.3g}" for row in rows.head(3).to_dict("records"))
        judged = rows[rows["beats"].isin(["yes", "no"])]
        count = f"{int((judged['beats'] == 'yes').sum())} of {len(judged)}" if len(judged) else "-"
        shown.add_row(f"{_plain(metric)} ({rows['better'].iloc[0]})", best, count)
    return shown


def _say(text: str) -> None:
    _out.print(text, soft_wrap=True, highlight=False)


def _plain(text: object) -> str:
    return str(text).replace("[", r"\[")
