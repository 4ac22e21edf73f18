"""`xaicompare suites`: the studies and experiments that come with the package."""

from xaicompare.console import OUT, say, table_of
from xaicompare.options import examples

SUITES_EXAMPLES = examples("suites", "run digits --out runs/digits", "train mnist_mlp_small --out runs/mnist_mlp_small")


def suites() -> None:
    """List the studies and training experiments that come with the package, by the name that `run` and `train` take."""
    from xaicompare.study.shipped import about, shipped

    table = table_of("name", words="what it is")
    for kind in ("suites", "training"):
        for name, file in shipped(kind).items():
            table.add_row(name, about(file))
        table.add_section()
    OUT.print(table)
    say("Above are studies, for `xaicompare run NAME`; below experiments, for `xaicompare train NAME`.")
