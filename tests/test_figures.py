"""Figures: the right cells, texts that fit, colours that mean what they say, and nothing left behind."""

from pathlib import Path
from typing import ClassVar

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from nets import net_and_inputs
from torch import Tensor, nn

import xaicompare as xc
from xaicompare import figures
from xaicompare.core import Attribution, Method, Traits, Values
from xaicompare.errors import DataError, InputError, SettingError, UnknownNameError, UnsupportedModelError
from xaicompare.figures import grid, removal_curves
from xaicompare.results import Results
from xaicompare.settings import BatchSize, frozen

SCORES = [12.345, -0.5, 3.0]


@frozen
class Painted(Method):
    """A method for its name and settings only."""

    name: ClassVar[str] = "painted"
    traits: ClassVar[Traits] = Traits("control")

    strength: float = 1.0
    batch_size: BatchSize = 1

    def _values(self, model: nn.Module, inputs: Tensor, target: Tensor) -> Values:
        raise NotImplementedError


def inputs(n: int = 3, shape: tuple[int, ...] = (3, 6, 8)) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


def made(values: Tensor, given: Tensor | None = None, **settings: float) -> Attribution:
    given = inputs(len(values)) if given is None else given
    n = len(values)
    return Attribution(values, given, torch.arange(n), torch.tensor(SCORES[:n]), Painted(**settings), None, 0.1)


def noise(seed: int, n: int = 3, shape: tuple[int, ...] = (1, 6, 8)) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def many(number: int, n: int = 3) -> dict[str, Attribution]:
    return {f"method_{index}": made(noise(index, n)) for index in range(number)}


def texts(figure: Figure) -> list[str]:
    """Everything that is written anywhere in a figure, lines joined."""
    found = [text for axes in figure.axes for text in axes.texts] + list(figure.texts)
    return [text.get_text().replace("\n", " ").replace("_ ", "_") for text in found]


def cells(figure: Figure) -> list[Axes]:
    """The axes of the cells, row by row; the last axes of a grid are its colour bar."""
    return figure.axes[:-1]


def picture(cell: Axes) -> np.ndarray:
    return np.asarray(cell.images[0].get_array())


def test_a_cell_for_every_sample_and_method() -> None:
    figure = grid(many(4))
    assert len(figure.axes) == 3 * (1 + 4) + 1
    assert all(len(cell.images) == 1 for cell in cells(figure))
    assert {"input", "method_0", "method_1", "method_2", "method_3"} <= set(texts(figure))


def test_one_attribution_and_lists_are_titled_by_their_methods() -> None:
    assert "painted" in texts(grid(made(noise(0))))
    two = texts(grid([made(noise(0)), made(noise(1), strength=2.0)]))
    assert {"painted", "painted(strength=2.0)"} <= {text.replace(" ", "") for text in two}
    with pytest.raises(InputError, match="dict with titles"):
        grid([made(noise(0)), made(noise(1))])


def test_the_margin_names_class_score_prediction_and_label() -> None:
    classes = ["cat", "sorrel horse", "ship"]
    found = texts(grid(many(1), classes=classes, predicted=[0, 2, 2], labels=torch.tensor([0, 1, 0])))
    assert {"cat", "sorrel horse", "ship"} <= set(found)
    assert "score 12.3 predicted ✓ label ✓" in found
    assert "score -0.5 predicted ship label ✓" in found
    assert "score 3 predicted ✓ label cat" in found
    assert {"class 0", "class 1", "class 2"} <= set(texts(grid(many(1))))


def test_signed_maps_are_blue_and_red_around_white() -> None:
    values = torch.zeros(1, 1, 6, 8)
    values[..., 0, 0], values[..., 0, 1], values[..., 5, 7] = 4.0, -4.0, 2.0
    colours = picture(cells(grid(made(values), outlines=0.0, percentile=100))[1])
    red, blue, half = colours[0, 0], colours[0, 1], colours[5, 7]
    assert red[0] > 0.5 > red[2]
    assert blue[2] > 0.5 > blue[0]
    np.testing.assert_allclose(colours[3, 3], 1, atol=0.01)
    assert red[1] < half[1] < 1, "half the value, half the colour"


def test_channels_are_summed() -> None:
    values = torch.zeros(1, 3, 6, 8)
    values[0, :, 2, 2] = torch.tensor([1.0, 1.0, -2.0])
    values[0, :, 4, 4] = torch.tensor([1.0, 1.0, 1.0])
    colours = picture(cells(grid(made(values), outlines=0.0))[1])
    np.testing.assert_allclose(colours[2, 2], 1, atol=0.01)
    assert colours[4, 4, 1] < 0.5


@pytest.mark.parametrize(
    ("normalisation", "equal"),
    [("map", {(0, 0), (0, 1), (1, 0), (1, 1)}), ("row", {(0, 1), (1, 1)}), ("column", {(1, 0), (1, 1)})],
)
def test_normalisation_shares_one_number(normalisation: str, equal: set[tuple[int, int]]) -> None:
    # Rows and columns of increasing strength: only the strongest of those that share a number is full red.
    shape = noise(0, 1).abs().expand(2, -1, -1, -1)
    strengths = torch.tensor([1.0, 4.0]).reshape(2, 1, 1, 1)
    columns = {"weak": made(shape * strengths), "strong": made(3 * shape * strengths)}
    figure = grid(columns, normalisation=normalisation, percentile=100, outlines=0)
    drawn = {(row, column): picture(figure.axes[3 * row + 1 + column]) for row in (0, 1) for column in (0, 1)}
    darkest = drawn[1, 1].min()
    assert {place for place, colours in drawn.items() if np.isclose(colours.min(), darkest)} == equal


def test_the_figure_says_what_it_did() -> None:
    def note(figure: Figure) -> str:
        return " ".join(texts(figure))

    assert "Each map is divided by its own 99 % quantile of |value| and clipped." in note(grid(many(5)))
    assert "Each input is stretched to its own range." in note(grid(many(5)))
    shown = note(grid(many(5), mean=[0, 0, 0], std=[1, 1, 1], normalisation="row", percentile=100, outlines=0))
    assert "The maps of a row are divided by their common largest |value|." in shown
    assert "Inputs are as before their normalisation." in shown
    assert "outlines" not in shown
    ticks = [label.get_text() for label in grid(many(1)).axes[-1].get_xticklabels()]
    assert ticks == ["-1, against", "0", "1, for the class"]


def test_inputs_are_shown_as_they_were() -> None:
    pixels = inputs()
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    given = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    shown = picture(cells(grid(made(noise(0), given), mean=mean, std=std))[0])
    np.testing.assert_allclose(shown, pixels[0].permute(1, 2, 0), atol=1e-6)
    stretched = picture(cells(grid(made(noise(0), given)))[0])
    assert (stretched.min(), stretched.max()) == (0, 1)


def test_outlines_fade_under_strong_values() -> None:
    given = torch.zeros(1, 1, 6, 8)
    given[..., 4:] = 1  # one vertical edge, at column 4
    values = torch.zeros(1, 1, 6, 8)
    values[..., 0, 4] = 1
    plain = picture(cells(grid(made(values, given), outlines=0.0))[1])
    drawn = picture(cells(grid(made(values, given), outlines=0.5))[1])
    np.testing.assert_allclose(drawn[1:, 4], 0.5 * plain[1:, 4], atol=1e-6)
    np.testing.assert_allclose(drawn[0], plain[0], atol=1e-6)
    np.testing.assert_allclose(drawn[:, :4], plain[:, :4], atol=1e-6)


def test_an_error_tells_its_reason_in_every_cell_of_its_column() -> None:
    reason = "cam: the model ends in two linear layers; expected one. Use gradcam instead."
    columns = {"cam": UnsupportedModelError(reason), **many(1)}
    figure = grid(columns)
    told = [text for cell in figure.axes for text in cell.texts if text.get_text().startswith("cam:")]
    assert [text.get_text().replace("\n", " ") for text in told] == [reason] * 3
    assert len(told[0].get_text().splitlines()) > 1


def test_a_long_reason_stays_inside_its_cell() -> None:
    columns = {"cam": UnsupportedModelError("cam: " + "far too much to say " * 60), **many(1)}
    figure = drawn(grid(columns))
    cell = cells(figure)[1]
    words = cell.texts[0]
    assert words.get_text().endswith("…")
    inside, frame = words.get_window_extent(), cell.get_window_extent()
    assert frame.x0 <= inside.x0
    assert inside.x1 <= frame.x1
    assert frame.y0 <= inside.y0
    assert inside.y1 <= frame.y1


def drawn(figure: Figure) -> Figure:
    FigureCanvasAgg(figure).draw()
    return figure


def test_twenty_columns_do_not_overlap_or_leave_the_page() -> None:
    long = "lrp(composite=epsilon-gamma-box, low=-2.2, high=2.7)"
    columns = {f"integrated_gradients_{index}": made(noise(index, 1)) for index in range(18)}
    columns |= {long: made(noise(0, 1)), "w" * 40: made(noise(1, 1))}
    figure = drawn(grid(columns, classes=["Yorkshire terrier of the neighbours"], predicted=[0]))
    page = figure.bbox
    written = [text for text in [*figure.texts, *cells(figure)[0].texts] if text.get_text()]
    boxes = [text.get_window_extent() for text in written]
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1 for box in boxes)
    clashes = [
        (written[i].get_text(), written[j].get_text())
        for i in range(len(boxes))
        for j in range(i)
        if boxes[i].overlaps(boxes[j])
    ]
    assert not clashes


def test_features_are_bars_and_square_numbers_of_them_pictures() -> None:
    bars = grid(made(noise(0, 2, (20,)), inputs(2, (20,))))
    assert not any(cell.images for cell in cells(bars))
    segments = cells(bars)[1].collections[0].get_segments()
    assert len(segments) == 20
    assert max(abs(segment[1, 1]) for segment in segments) == 1
    squares = grid(made(noise(0, 2, (64,)), inputs(2, (64,))))
    assert picture(cells(squares)[1]).shape == (8, 8, 3)


@pytest.mark.parametrize("values", [torch.zeros(2, 1, 6, 8), torch.full((2, 1, 6, 8), 1e-30)])
def test_empty_and_tiny_maps_are_drawn(values: Tensor) -> None:
    colours = picture(cells(grid(made(values), outlines=0.0))[1])
    assert np.isfinite(colours).all()
    np.testing.assert_allclose(colours, colours[0, 0].reshape(1, 1, 3).repeat(6, 0).repeat(8, 1))


def test_labels_are_no_formulas(tmp_path: Path) -> None:
    formula = r"$\nonsense{$"
    columns = {formula: made(noise(0, 1)), "cam": UnsupportedModelError(formula)}
    grid(columns, classes=[formula]).savefig(tmp_path / "grid.png")


def test_bad_columns_and_options_are_refused() -> None:
    with pytest.raises(InputError, match=r"no attribution to draw.*cam: too deep"):
        grid({"cam": UnsupportedModelError("too deep")})
    with pytest.raises(InputError, match="other inputs"):
        grid({"one": made(noise(0)), "two": made(noise(0), inputs() + 1)})
    with pytest.raises(InputError, match="2 label classes; expected 3"):
        grid(many(1), labels=[0, 1])
    with pytest.raises(InputError, match="class 1 has no name"):
        grid(many(1), classes=["cat"])
    with pytest.raises(InputError, match="3 numbers each"):
        grid(many(1), mean=[0.5], std=[0.5])
    with pytest.raises(InputError, match="expected both"):
        grid(many(1), mean=[0.5, 0.5, 0.5])
    with pytest.raises(UnknownNameError, match="'rows'; did you mean 'row'"):
        grid(many(1), normalisation="rows")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="colormap"):
        grid(many(1), colormap="greenish")
    for setting in ({"percentile": 0.0}, {"percentile": 101.0}, {"outlines": -0.1}):
        with pytest.raises(SettingError):
            grid(many(1), **setting)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    grid(many(2)).savefig(tmp_path / "grid.png")
    removal_curves(study()).savefig(tmp_path / "removal.png")
    assert dict(mpl.rcParams) == before
    assert pyplot.get_fignums() == []
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())


def study(methods: tuple[str, ...] = ("lrp", "lime", "random"), orders: tuple[str, ...] = ("most", "least")) -> Results:
    """Confidence that falls the faster, the earlier a method comes; most important first below least."""
    parts = []
    images, shares = np.indices((6, 3))
    for rank, method in enumerate(methods):
        skill = (len(methods) - rank) / len(methods)
        for order in orders:
            slope = {"most": 1 + skill, "least": 1 - skill, "random": 1.0}[order]
            value = 1 - slope * shares / 4 + images / 100
            constant = {"model": "cnn", "dataset": "digits", "method": method, "target": 0, "label": 0, "predicted": 0}
            measured = {"metric": "confidence_removal", "quantity": "signed_confidence", "order": order}
            columns = {"image": images.ravel(), "share": shares.ravel() / 4, "value": value.ravel(), "seconds": 0.1}
            parts.append(Results.from_columns({**constant, **measured, **columns}))
    return Results.joined(parts)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_panel_for_every_order_and_a_line_for_every_method() -> None:
    figure = removal_curves(study(orders=("least", "random", "most")))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "Most important removed first",
        "Least important removed first",
        "As many removed at random",
    ]
    hints = [axes.texts[0].get_text() for axes in figure.axes]
    assert hints == ["lower is better", "higher is better", "what any order has to beat"]
    for axes, curves in zip(figure.axes, (3, 3, 1), strict=True):  # at random, all methods have the same curve
        assert len([line for line in axes.get_lines() if len(line.get_xdata()) == 3]) == curves
        assert len(axes.collections) == curves, "a band for every line"


def test_curves_are_means_over_images() -> None:
    curve = removal_curves(study()).axes[0].get_lines()[0]
    np.testing.assert_allclose(curve.get_xdata(), [0, 0.25, 0.5])
    np.testing.assert_allclose(curve.get_ydata(), 1.025 - 2 * np.array([0, 0.25, 0.5]))


def test_the_legend_starts_with_the_best() -> None:
    assert legend(removal_curves(study(("lrp", "lime", "random")))) == ["lrp", "lime", "random"]
    results = study(("lrp", "lime", "random"))
    results.table["method"] = results.table["method"].replace({"lrp": "lime", "lime": "lrp"})
    assert legend(removal_curves(results)) == ["lime", "lrp", "random"]


def test_misclassified_is_better_the_other_way_round() -> None:
    results = study()
    results.table["quantity"] = "misclassified"
    figure = removal_curves(results, "misclassified")
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["higher is better", "lower is better"]
    assert legend(figure) == ["random", "lime", "lrp"]
    results.table["quantity"] = "predicted"
    figure = removal_curves(results, "predicted")
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["", ""]


def test_nineteen_methods_look_different_and_controls_are_grey() -> None:
    names = (*(f"method_{index}" for index in range(16)), "random", "edges", "center")
    lines = removal_curves(study(names)).axes[0].get_lines()[:19]
    looks = {(str(line.get_color()), str(line._dash_pattern), line.get_marker()) for line in lines}
    assert len(looks) == 19
    for line in lines[16:]:
        red, green, blue = mpl.colors.to_rgb(line.get_color())
        assert red == green == blue


def test_curves_of_one_image_and_of_methods_that_lack_an_order() -> None:
    single = study().where(image=0)
    assert len(removal_curves(single).axes) == 2
    lacking = Results(single.table[(single.table["method"] != "lrp") | (single.table["order"] == "most")])
    drawn(removal_curves(lacking))


def test_curves_want_removals_of_one_model() -> None:
    other = study()
    other.table["model"] = "mlp"
    with pytest.raises(DataError, match="models cnn, mlp"):
        removal_curves(Results.joined([study(), other]))
    with pytest.raises(UnknownNameError, match=r"quantity.*signed_confidence"):
        removal_curves(study(), "confidance")
    untouched = study()
    untouched.table["order"] = None
    with pytest.raises(DataError, match="no removals"):
        removal_curves(Results(untouched.table))


def test_relevance_inside_a_network_is_drawn() -> None:
    model, inputs = net_and_inputs("cnn")
    made = xc.relevance(model, inputs)
    flow = figures.relevance_flow(made, sample=1)
    bars = flow.axes[0].containers[0]
    assert [bar.get_width() for bar in bars] == pytest.approx([float(value[1]) for value in made.sums.values()])
    channels = figures.channel_relevance(made, "4", top=3)
    assert len(channels.axes) == 1 + 3
    several = xc.relevance(model, inputs, torch.tensor([[0, 1]] * 3))
    assert len(figures.class_relevance(several, inputs).axes) == 3 * 3
    with pytest.raises(xc.InputError, match="2 classes for each"):
        figures.relevance_flow(several)
    with pytest.raises(xc.UnknownNameError, match="layer that was kept '44'"):
        figures.channel_relevance(made, "44")
