"""Pictures of ranks, agreement and cost: what stands in them is what the tables say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_standings import FOUR, noisy, recorded

import xaicompare as xc
from xaicompare.errors import DataError, UnknownNameError
from xaicompare.results import Results

TWO = Results.joined(
    [recorded(FOUR), recorded({name: noisy(0.2, 9) for name in FOUR}, "sparseness", family="complexity")]
)
COSTS = pd.DataFrame(
    {"method": list(FOUR), "name": ["lrp", "lime", "random", "constant"], "passes": [3.0, 1001.0, 1.0, 1.0]}
).assign(seconds=0.1, mebibytes=2.0, budget=np.nan)


def words(panel: object) -> list[str]:
    return [text.get_text() for text in panel.texts]


def test_the_diagram_names_every_method_with_its_rank() -> None:
    figure = xc.critical_difference(recorded(FOUR), "road")
    expected = xc.ranks(recorded(FOUR), "road").table["rank"]
    told = words(figure.axes[0])
    for method, rank in expected.items():
        assert any(method in text and f"{rank:.1f}" in text for text in told)
    with pytest.raises(UnknownNameError, match="raod"):
        xc.critical_difference(recorded(FOUR), "raod")


def test_the_scoreboard_marks_what_does_not_beat_the_controls() -> None:
    values = {**FOUR, "cam": noisy(0.1, 11)}
    results = Results.joined([recorded(values), recorded(values, "sparseness", family="complexity")])
    panel = xc.scoreboard(results).axes[0]
    rows = [label.get_text() for label in panel.get_yticklabels()]
    assert set(rows) == set(values)
    assert rows[0] == "lrp"
    assert [text for text in words(panel) if "†" in text] == [f"{values['cam'].mean():.2g} †"]
    assert f"{values['lrp'].mean():.2g}" in words(panel)


def test_agreement_of_a_metric_with_itself_is_one() -> None:
    panel = xc.metric_agreement(TWO).axes[0]
    assert words(panel)[0] == "1.0"
    assert len(words(panel)) == 4


@pytest.mark.parametrize("cost", ["passes", "seconds", "mebibytes"])
def test_cost_and_quality_of_every_method(cost: str) -> None:
    panel = xc.cost_quality(recorded(FOUR), COSTS, "road", cost).axes[0]
    assert sorted(words(panel)) == sorted(FOUR)
    points = {(float(x), float(y)) for line in panel.lines for x, y in zip(*line.get_data(), strict=True)}
    for method, values in FOUR.items():
        x = COSTS.set_index("method")[cost][method]
        assert any(a == pytest.approx(x) and b == pytest.approx(values.mean()) for a, b in points)


def test_budgets_of_one_method_are_joined() -> None:
    values = {"lime-50": noisy(0.2, 0), "lime-500": noisy(0.4, 1), "random": noisy(0, 2)}
    costs = pd.DataFrame({"method": list(values), "name": ["lime", "lime", "random"], "passes": [51.0, 501.0, 1.0]})
    costs["budget"] = [50.0, 500.0, np.nan]
    panel = xc.cost_quality(recorded(values), costs, "road").axes[0]
    (line,) = (line for line in panel.lines if list(line.get_xdata()) == [51.0, 501.0])
    assert line.get_linestyle() == "-"
    costs["budget"] = np.nan
    apart = xc.cost_quality(recorded(values), costs, "road").axes[0]
    assert all(line.get_linestyle() == "None" for line in apart.lines if len(line.get_xdata()) == 2)


def test_costs_that_do_not_fit_are_told() -> None:
    results = recorded(FOUR)
    with pytest.raises(UnknownNameError, match="unknown cost 'pases'; did you mean 'passes'"):
        xc.cost_quality(results, COSTS, "road", "pases")
    with pytest.raises(DataError, match="costs lack the columns budget"):
        xc.cost_quality(results, COSTS.drop(columns="budget"), "road")
    with pytest.raises(DataError, match="expected the methods of the results"):
        xc.cost_quality(results, COSTS.assign(method="x"), "road")


@pytest.mark.parametrize("label", ["$x_{$", "a|b", "[red]y", "a[/b]", "x" * 60])
def test_labels_are_drawn_as_they_are(label: str, tmp_path: Path) -> None:
    values = {label: FOUR["lrp"], "lime": FOUR["lime"], "random": FOUR["random"]}
    results = Results.joined([recorded(values), recorded(values, f"metric {label}")])
    costs = COSTS.iloc[:3].assign(method=list(values))
    for number, figure in enumerate(
        (
            xc.scoreboard(results),
            xc.critical_difference(results, f"metric {label}"),
            xc.metric_agreement(results),
            xc.cost_quality(results, costs, "road"),
        )
    ):
        figure.savefig(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 5000
