from importlib.metadata import EntryPoint
from typing import Any

import pytest

import xaicompare as xc
import xaicompare.methods
import xaicompare.metrics
from xaicompare import registry
from xaicompare.errors import UnknownNameError
from xaicompare.registry import METHODS, METRICS, Registry
from xaicompare.titles import ALSO, called

ISSUE = (
    "saliency input_x_gradient smoothgrad integrated_gradients deconvnet guided_backprop cam gradcam guided_gradcam "
    "gradcam_plus_plus layercam hirescam xgradcam eigencam scorecam ablationcam fullgrad "
    "deeplift deepshap gradient_shap lime kernelshap occlusion lrp attention extended_lrp attention_refined_lrp "
    "attention_rollout gradient_rollout random edges center constant"
)


def cups() -> Registry[Any]:
    made: Registry[Any] = Registry("cup")
    made.add("mug", dict)
    made.add("glass", list)
    return made


def test_all_methods_are_known_by_their_names() -> None:
    assert METHODS.names() == ISSUE.split()
    assert METRICS.names()[0] == "confidence_removal"
    assert len(METRICS.names()) == 31
    for name in METHODS.names():
        assert METHODS[name].name == name
        assert getattr(xc, METHODS[name].__name__) is METHODS[name]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("mgu", r"^unknown cup 'mgu'; did you mean 'mug'\? Known: glass, mug$"),
        ("teapot", "^unknown cup 'teapot'; Known: glass, mug$"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(given: str, words: str) -> None:
    with pytest.raises(xc.UnknownNameError, match=words):
        cups()[given]
    with pytest.raises(xc.UnknownNameError, match=words):
        cups().build(given)


def test_a_name_has_one_owner() -> None:
    made = cups()
    made.add("mug", dict)
    with pytest.raises(xc.XaiCompareError, match="cup 'mug' is registered twice"):
        made.add("mug", list)
    assert made["mug"] is dict


def test_builds_from_names_classes_and_objects() -> None:
    made, mine = cups(), {"size": 2}
    assert made.build("mug", size=1) == {"size": 1}
    assert made.build(dict, size=1) == {"size": 1}
    assert made.build(mine) is mine
    assert "mug" in made
    assert "teapot" not in made
    assert repr(made) == "<2 cups: mug, glass>"


def test_settings_beside_an_object_are_an_error() -> None:
    with pytest.raises(xc.SettingError, match=r"settings \['n_steps'\] beside IntegratedGradients\(n_steps=50, .*\)"):
        METHODS.build(xc.IntegratedGradients(), n_steps=3)


def test_other_packages_add_entries_when_names_are_first_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def entry_points(group: str) -> list[EntryPoint]:
        asked.append(group)
        return [EntryPoint("flask", "collections:OrderedDict", group)]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    made = cups()
    assert asked == []
    assert made.build("flask", size=1) == {"size": 1}
    assert made.names() == ["mug", "glass", "flask"]
    assert asked == ["xaicompare.cups"]


@pytest.mark.parametrize(
    ("written", "name"),
    [("ig", "integrated_gradients"), ("Grad-CAM++", "gradcam_plus_plus"), ("GBP", "guided_backprop")],
)
def test_what_others_call_a_method_is_answered_with_its_name_here(written: str, name: str) -> None:
    with pytest.raises(UnknownNameError, match=f"is called '{name}' here"):
        METHODS.build(written)


def test_no_two_methods_have_one_name_and_all_are_registered() -> None:
    others = [other.lower() for names in ALSO.values() for other in names]
    assert len(others) == len(set(others))
    assert set(ALSO) <= set(METHODS.names())
    assert all(called(other) == name for name, names in ALSO.items() for other in names)
