"""`xaicompare compare-models`: the same explanations on two networks, side by side."""

from pathlib import Path
from typing import Annotated

import typer

from xaicompare.console import OUT, say, table_of
from xaicompare.options import OutFolder, SomeMethods, SomeMetrics, examples, listed

COMPARE_MODELS_EXAMPLES = examples(
    "compare-models --model net.py:old --model net.py:new --images photos --out runs/two",
    "compare-models --model vgg16 --weights a.pt --model vgg16 --weights b.pt --images photos --out runs/two",
)


def compare_models(
    model: Annotated[list[str], typer.Option(help="A SPEC as for `evaluate`; given twice or more.")],
    images: Annotated[Path, typer.Option(help="A folder of images: one folder per class, or index.csv, or images.")],
    out: OutFolder,
    weights: Annotated[
        list[str] | None, typer.Option(help="Of each --model, in that order; none, or as many as models.")
    ] = None,
    methods: SomeMethods = None,
    metrics: SomeMetrics = None,
    most: Annotated[int, typer.Option(min=2, help="At most so many images.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Of the drawn images.")] = 0,
) -> None:
    """Explain the same images on several networks: how alike the maps are, and on which network metrics are better.

    Writes agreement.csv, differences.csv and maps.png into the folder.
    """
    from xaicompare.errors import SettingError
    from xaicompare.files import replacing
    from xaicompare.model_comparison import USUAL, USUAL_METRICS, compare_models, distinct

    if weights and len(weights) != len(model):
        raise SettingError(f"{len(weights)} --weights for {len(model)} --model; expected as many, in the same order.")
    names = distinct(model)
    found = compare_models(
        dict(zip(names, model, strict=True)),
        images,
        weights=dict(zip(names, weights, strict=True)) if weights else {},
        methods="all" if methods == "all" else listed(methods) or USUAL,
        metrics="all" if metrics == "all" else listed(metrics) or USUAL_METRICS,
        most=most,
        seed=seed,
    )
    for name, share in found.accuracy.items():
        say(f"{name}: {share:.1%} classified right")
    for method, why in found.left_out.items():
        say(f"{method}: {why}", first="left out")
    shown = table_of("method", "networks", "maps agree", words="95 % interval")
    for row in found.agreement.itertuples():
        shown.add_row(
            str(row.method), f"{row.first}, {row.second}", f"{row.mean:.2f}", f"{row.low:.2f} to {row.high:.2f}"
        )
    OUT.print(shown)
    shown = table_of("metric", "method", "difference", words="95 % interval")
    for row in found.differences.itertuples():
        shown.add_row(str(row.metric), str(row.method), f"{row.mean:+.3f}", f"{row.low:+.3f} to {row.high:+.3f}")
    OUT.print(shown)
    say("maps agree: mean rank correlation, 1 the same order of pixels, 0 none. difference: the first less the second.")
    out.mkdir(parents=True, exist_ok=True)
    for name, table in (("agreement", found.agreement), ("differences", found.differences)):
        with replacing(out / f"{name}.csv") as path:
            table.to_csv(path, index=False)
    found.plot().savefig(out / "maps.png", dpi=150)
    say(f"Results: {out / 'agreement.csv'}, {out / 'differences.csv'}, {out / 'maps.png'}")
