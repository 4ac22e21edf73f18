"""A study: which methods on which images of which model, judged how; from a TOML file to a folder of results."""

from xaicompare.study.attributions import Maps, load_attributions
from xaicompare.study.enough import too_few
from xaicompare.study.run import Outcome, run
from xaicompare.study.spec import ModelSpec, Study
from xaicompare.study.template import template

__all__ = ["Maps", "ModelSpec", "Outcome", "Study", "load_attributions", "run", "template", "too_few"]
