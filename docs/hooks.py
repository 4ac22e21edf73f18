"""What the documentation says by itself, so that it is written in one place: called by mkdocs (mkdocs.yml).

A page of a method or metric is written by hand as far as docstrings can't say it, the formula and the pitfalls. Its
definition, source, settings, cost and picture are put in here; a name without a page, or a page without a picture,
fails the build. Formulas become MathML, which browsers draw without help.
"""

import dataclasses
import html
import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import griffe
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import xaicompare as xc
import xaicompare.methods
import xaicompare.metrics
from xaicompare.cost import Passes, judging_passes, passes
from xaicompare.registry import METHODS, METRICS, Registry

ROOT = Path(__file__).parents[1]
NOUNS: dict[str, Registry[Any]] = {"methods": METHODS, "metrics": METRICS}
OUTSIDE = {"benchmarks.md": "benchmarks/README.md", "changelog.md": "CHANGELOG.md"}
"""Pages that are files elsewhere in the repository."""

_NEEDS = {
    None: "the inside of the model",
    "attention": "an [attention module](../attention.md) in the model",
    "transformer": "a transformer",
    "pooling": "global average pooling before the last layer",
}

_PLAIN = {
    "float": "a number",
    "bool": "`True` or `False`",
    "str": "a name",
    "Tensor": "a tensor",
    "int": "a whole number",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Every method and metric below its overview, grouped as `xaicompare methods` and `metrics` do."""
    for section in config.nav or []:
        for noun, registry in NOUNS.items():
            pages = section.get(noun.capitalize())
            if pages is not None:
                pages += _grouped(noun, registry)
    return config


def _grouped(noun: str, registry: Registry[Any]) -> list[dict[str, list[dict[str, str]]]]:
    groups: dict[str, list[dict[str, str]]] = {}
    for name in registry.names():
        traits = registry[name].traits  # type: ignore[attr-defined]
        groups.setdefault(traits[0].capitalize(), []).append({name: f"{noun}/{name}.md"})
    return [{group: pages} for group, pages in groups.items()]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Pages from outside docs/."""
    for uri, path in OUTSIDE.items():
        files.append(File.generated(config, uri, content=(ROOT / path).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A page's source with what is told by the code."""
    uri = page.file.src_uri
    noun, _, name = uri.removesuffix(".md").partition("/")
    if name and noun in NOUNS:
        return _told(noun, name, markdown, files)
    for outside, path in OUTSIDE.items():
        markdown = markdown.replace(f"](../{path}", f"]({outside}")
    if uri in OUTSIDE:
        markdown = _without_local_links(markdown)
    markdown = re.sub(r"<!-- table of (\w+) -->", lambda found: _table(found[1]), markdown)
    markdown = markdown.replace("<!-- public names -->", _public_names())
    return _fenced(markdown)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Formulas as MathML, papers as links, and what a docstring says of its source on lines of their own."""
    content = re.sub(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', _formula, content, flags=re.S)
    content = re.sub(r"(?<=[\s(])arXiv:(\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', content)
    content = re.sub(r"(?<=[\s(])doi:(10\.[^\s<,;]+[\w])", r'<a href="https://doi.org/\1">doi:\1</a>', content)
    return re.sub(r"(<p>|\n)(Source|Differs): ", _apart, content)


def _formula(found: re.Match[str]) -> str:
    return str(convert(html.unescape(found[2]).strip(), display="block" if found[1] == "div" else "inline"))


def _apart(found: re.Match[str]) -> str:
    return f"{'<p>' if found[1] == '<p>' else '</p><p>'}<strong>{found[2]}:</strong> "


# Pages of methods and metrics


def _told(noun: str, name: str, markdown: str, files: Files) -> str:
    """The page of one method or metric: docstring, picture, cost and settings around what is written by hand."""
    if name not in NOUNS[noun].names():
        raise PluginError(f"docs/{noun}/{name}.md: no such name is registered; rename or remove the page.")
    picture = f"images/{noun}/{name}.webp"
    if files.get_file_from_path(picture) is None:
        raise PluginError(f"docs/{picture} is missing; draw it: python docs/pictures.py {name}.")
    cls: type[Any] = NOUNS[noun][name]  # type: ignore[assignment]
    title, formula, pitfalls = re.split(r"^## (?:Formula|Pitfalls)$", markdown, flags=re.M)
    facts = _method_facts(cls) if noun == "methods" else _metric_facts(cls)
    parts = (
        title.strip(),
        _definition(cls),
        f"![{_caption(noun, name)}](../{picture})\n\n*{_caption(noun, name)}* [About the pictures](../pictures.md)",
        facts,
        f"## Formula\n\n{formula.strip()}",
        f"## Settings\n\n{_settings(cls)}\n\n```python\n{_call(noun, cls)}\n```",
        f"## Pitfalls\n\n{pitfalls.strip()}",
    )
    return _fenced("\n\n".join(parts))


def _definition(cls: type) -> str:
    return (
        f"::: {cls.__module__}.{cls.__name__}\n    options:\n      show_root_heading: false\n      members: false\n"
        "      show_root_toc_entry: false\n"
    )


def _caption(noun: str, name: str) -> str:
    if noun == "methods":
        return f"{name} with its defaults, and beside it what the pitfalls are about."
    return f"The two methods that {name} puts first and the two that it puts last, with its mean over images."


def _method_facts(cls: type[xc.Method]) -> str:
    traits, cost = cls.traits, _method_cost(cls.name)
    told = [
        f"Based on: **{traits.kind}**",
        "needs the model's outputs only" if traits.agnostic else f"needs {_NEEDS[traits.needs]}",
        "compares with a baseline" if traits.baseline else "no baseline",
        *(["gives every neuron a relevance that is not a gradient"] if traits.neuron_relevance else []),
        "the values sum to what they explain" if traits.conserves else "no promise of a sum",
    ]
    return f"{'; '.join(told)}.\n\n{_counted(cost, 'explained')}"


def _metric_facts(cls: type[xc.Metric]) -> str:
    built = cls()
    masks = "; asks for masks" if built.traits.masks else ""
    told = f"Family: **{built.traits.family}**; good is **{_good(built)}**; range: {_reach(built)}{masks}."
    return f"{told}\n\n{_counted(_metric_cost(built.name), 'judged')}"


def _counted(cost: Passes, done: str) -> str:
    return (
        f"**Cost**: {cost.forward} images forward and {cost.backward} backward for each one {done}, measured at the "
        "default settings" + (" on a map of `saliency`." if done == "judged" else ".")
    )


def _good(metric: xc.Metric) -> str:
    return "high" if metric.higher_is_better else "low"


def _reach(metric: xc.Metric) -> str:
    return f"{metric.traits.low:g} to {metric.traits.high:g}".replace("-inf to inf", "any").replace("inf", "∞")


@cache
def _method_cost(name: str) -> Passes:
    return passes(METHODS.build(name))


@cache
def _metric_cost(name: str) -> Passes:
    return judging_passes(METRICS.build(name), xc.Saliency())


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _call(noun: str, cls: type[Any]) -> str:
    if noun == "methods":
        return f'made = xc.attribute(model, inputs, method="{cls.name}")  # settings follow the name'
    masks = ", masks" if cls.traits.masks else ""
    return f'xc.score(model, made, "{cls.name}"{masks})  # (n,); settings follow the name'


# Settings, as they are written in the code


@cache
def _package() -> griffe.Module:
    found = griffe.load("xaicompare", search_paths=[ROOT], resolve_aliases=True)
    assert isinstance(found, griffe.Module)
    return found


def _settings(cls: type) -> str:
    """A row per field: its default and what it takes."""
    fields = dataclasses.fields(cls)
    if not fields:
        return "None."
    written = _package()[f"{cls.__module__}.{cls.__name__}".removeprefix("xaicompare.")]
    lines = ["| setting | default | takes |", "|---|---|---|"]
    for field in fields:
        attribute = written.members[field.name]
        remark = _remark(attribute)
        lines.append(_row([f"`{field.name}`", _default(field.default), _takes(attribute.annotation) + remark]))
    return "\n".join(lines)


def _default(value: object) -> str:
    if isinstance(value, tuple) and len(value) > 8:
        return f"`({value[0]:g}, {value[1]:g}, ..., {value[-1]:g})`"
    return f"`{value!r}`"


def _remark(attribute: Any) -> str:
    """The comment that stands on the field's own line."""
    line = Path(attribute.filepath).read_text(encoding="utf-8").splitlines()[attribute.lineno - 1]
    _, sign, remark = line.partition("  # ")
    return f"; {remark}" if sign else ""


def _takes(written: Any) -> str:
    """What an annotation means, in words: unions, choices, and names that a docstring explains."""
    if isinstance(written, griffe.ExprBinOp):
        return f"{_takes(written.left)}, or {_takes(written.right)}"
    if isinstance(written, griffe.ExprSubscript) and str(written.left) == "Literal":
        choices = written.slice.elements if isinstance(written.slice, griffe.ExprTuple) else [written.slice]
        return ", ".join(f"`{choice}`" for choice in choices)
    if isinstance(written, griffe.ExprName) and written.canonical_path.startswith("xaicompare."):
        return _alias(written)
    return _PLAIN.get(str(written), f"`{written}`")


def _alias(written: griffe.ExprName) -> str:
    meant: Any = _package()[written.canonical_path.removeprefix("xaicompare.")]
    if meant.is_class:
        return f"an `xc.{meant.name}`" if meant.name in xc.__all__ else f"a `{meant.canonical_path}`"
    words = " ".join(meant.docstring.value.split("\n\n")[0].split()) if meant.docstring else ""
    value = getattr(meant, "value", None)
    if value is None or str(value).startswith("Annotated"):
        return (words[:1].lower() + words[1:]).rstrip(".") or f"`{written}`"
    return f"{_takes(value)} ({words[:1].lower() + words[1:]})".replace(".)", ")").removesuffix(" ()")


class Examples(griffe.Extension):
    """Examples of docstrings as code; mkdocstrings loads it (mkdocs.yml)."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Puts fences around them."""
        if obj.docstring is not None:
            obj.docstring.value = _fenced(obj.docstring.value)


# Overviews, and what mkdocs does not do


def _table(noun: str) -> str:
    if noun == "methods":
        head = ["method", "based on", "outputs only", "baseline", "per neuron", "conserves", "needs", "passes"]
        rows = [_method_row(name) for name in METHODS.names()]
    else:
        head = ["metric", "family", "good", "range", "passes"]
        rows = [_metric_row(name) for name in METRICS.names()]
    return "\n".join(_row(row) for row in (head, ["---"] * len(head), *rows))


def _method_row(name: str) -> list[str]:
    traits, cost = METHODS.build(name).traits, _method_cost(name)
    told = traits.agnostic, traits.baseline, traits.neuron_relevance, traits.conserves
    marks = ("yes" if mark else "" for mark in told)
    return [
        f"[{name}](methods/{name}.md)",
        traits.kind,
        *marks,
        traits.needs or "",
        f"{cost.forward} + {cost.backward}",
    ]


def _metric_row(name: str) -> list[str]:
    built, cost = METRICS.build(name), _metric_cost(name)
    told = [built.traits.family, _good(built), _reach(built), f"{cost.forward} + {cost.backward}"]
    return [f"[{name}](metrics/{name}.md)", *told]


def _public_names() -> str:
    """Every public name, below the room that it comes from; methods and metrics have pages of their own."""
    lines = []
    for home, names in xc._HOMES.items():
        lines.append(f"## {home}")
        for name in names:
            meant = getattr(importlib.import_module(f"xaicompare.{home}"), name)
            owned = getattr(meant, "name", None)
            noun = next((noun for noun, registry in NOUNS.items() if owned in registry.names()), None)
            lines.append(f"- [`xc.{name}`]({noun}/{owned}.md)" if noun else f"::: {meant.__module__}.{name}")
    return "\n\n".join(lines)


def _fenced(markdown: str) -> str:
    """Examples that stand free on a page, as code: Markdown takes >>> for quotations."""
    blocks = re.split(r"(^```.*?^```$)", markdown, flags=re.M | re.S)
    for place in range(0, len(blocks), 2):
        blocks[place] = re.sub(r"^>>> .*?(?=\n\n|\Z)", r"```pycon\n\g<0>\n```", blocks[place], flags=re.M | re.S)
    return "".join(blocks)


def _without_local_links(markdown: str) -> str:
    """Links to files that are not part of the site, as their words."""
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]*\)", r"\1", markdown)
