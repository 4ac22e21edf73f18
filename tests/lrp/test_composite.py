import tomllib

import pytest

import xaicompare as xc
from xaicompare.lrp import Composite, Place, composite
from xaicompare.lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, Pass, ZBox, Zero, ZPlus

PLACES = [
    Place("stem", "convolution", True, 3),
    Place("body.0", "convolution", False, 2),
    Place("body.1", "normalisation", False, 4),
    Place("neck", "dense", False, 1),
    Place("head", "dense", False, 0),
]


def test_later_parts_outweigh_earlier_ones() -> None:
    made = Composite(ZPlus(), Epsilon(), from_top=(Zero(),), first=Flat(), named={"body.*": Gamma(), "neck": Flat()})
    assert made.rules(PLACES) == [Flat(), Gamma(), Gamma(), Flat(), Zero()]
    assert Composite(first=ZBox()).rules(PLACES) == [ZBox(), Epsilon(), Pass(), Epsilon(), Epsilon()]


def test_a_composite_from_toml() -> None:
    written = """
    first = {rule = "z-box", low = -1, high = 1}
    convolution = {rule = "gamma", gamma = 0.1}
    dense = "epsilon"
    from_top = ["zero"]
    max_pooling = "average"
    [named]
    "body.*" = {rule = "alpha-beta", alpha = 1, beta = 0}
    """
    made = composite(tomllib.loads(written))
    assert made.rules(PLACES)[:2] == [ZBox(low=-1, high=1), AlphaBeta(alpha=1, beta=0)]
    assert made.rules(PLACES)[4] == Zero()
    assert made.max_pooling == "average"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("epsilon-gama", "epsilon-gama'; did you mean 'epsilon-gamma-box'"),
        ({"frist": "flat"}, "frist'; did you mean 'first'"),
        ({"first": "flatt"}, "flatt'; did you mean 'flat'"),
        ({"first": {"rule": "gamma", "gama": 1}}, "gama'; did you mean 'gamma'"),
        ({"dense": {"rule": "epsilon", "epsilon": -1}}, "epsilon=-1"),
        ({"max_pooling": "all"}, "max_pooling='all'"),
    ],
)
def test_slips_are_told(given: object, words: str) -> None:
    with pytest.raises(xc.XaiCompareError, match=words):
        composite(given)  # type: ignore[arg-type]


def test_a_name_that_no_layer_has() -> None:
    with pytest.raises(xc.UnsupportedModelError, match=r"names 'tail'; expected one of the layers stem, body\.0"):
        Composite(named={"tail": Zero()}).rules(PLACES)
