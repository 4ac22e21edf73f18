import pytest
import torch

import xaicompare as xc
from xaicompare.metrics import signed_confidence

PROBABILITIES = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.0, 0.9], [0.4, 0.4, 0.2], [1.0, 0.0, 0.0]])
EXPECTED = torch.tensor([0.4, 8 / 9, 0.0, 1.0])


def test_confidence_of_probabilities() -> None:
    assert torch.allclose(xc.confidence(PROBABILITIES.log()), EXPECTED, atol=1e-6)


def test_confidence_does_not_depend_on_what_all_logits_share() -> None:
    logits = torch.randn(4, 7, 10)
    assert torch.allclose(xc.confidence(logits), xc.confidence(logits + 30), atol=1e-5)
    assert xc.confidence(logits).shape == (4, 7)


def test_confidence_of_huge_logits_is_finite() -> None:
    assert xc.confidence(torch.tensor([[1e4, -1e4, 0.0]])).tolist() == [1.0]


@pytest.mark.parametrize(
    ("outputs", "expected"), [([4.0, 1.0, -2.0], 0.75), ([2.0, -2.0, -9.0], 2.0), ([3.0, 3.0], 0.0)]
)
def test_confidence_of_raw_outputs(outputs: list[float], expected: float) -> None:
    assert float(xc.confidence(torch.tensor(outputs), of="outputs")) == pytest.approx(expected)


@pytest.mark.parametrize("greatest", [0.0, -1.5])
def test_raw_outputs_must_be_positive_somewhere(greatest: float) -> None:
    logits = torch.tensor([[3.0, 1.0], [greatest, -2.0]])
    with pytest.raises(xc.InputError, match=rf"the greatest raw output is {greatest:.4g}; .*of='probabilities'"):
        xc.confidence(logits, of="outputs")
    assert torch.isfinite(xc.confidence(logits)).all()


@pytest.mark.parametrize("shape", [(), (3, 0), (0,)])
def test_confidence_needs_classes(shape: tuple[int, ...]) -> None:
    with pytest.raises(xc.InputError, match=r"expected \(\.\.\., classes\) with one output or more"):
        xc.confidence(torch.zeros(shape))


def test_signed_confidence_is_negative_where_another_class_is_predicted() -> None:
    signed = signed_confidence(PROBABILITIES.log(), torch.tensor([0, 0, 0, 1]))
    assert torch.allclose(signed, EXPECTED * torch.tensor([1, -1, 1, -1]), atol=1e-6)
    curves = torch.stack([PROBABILITIES, PROBABILITIES.flip(1)], 1).log()  # (n, 2, classes)
    assert torch.allclose(signed_confidence(curves, torch.tensor([0, 0, 0, 1]))[:, 0], signed)
