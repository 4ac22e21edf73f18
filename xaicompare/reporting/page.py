"""The page itself: parts of a folder, put into a template with everything that it needs to work without a network."""

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from xaicompare.errors import DataError
from xaicompare.files import replacing
from xaicompare.reporting import verdict
from xaicompare.reporting.material import Material, trainings
from xaicompare.reporting.sections import study_sections, training_sections
from xaicompare.reporting.words import marked
from xaicompare.study.status import unfinished

_NAME, _SHORT = "report.html", "report-short.html"
_ROWS, _COLUMNS, _WARNED = 24, 7, 6  # what two printed pages have room for


def report(folder: str | Path, *, short: bool = False) -> Path:
    """Writes report.html into a folder that `xaicompare run` or `xaicompare train` left, and says where.

    The page holds everything that it shows: it opens from disk, asks for nothing, and can be sent as it is. Training
    experiments in folders right below are shown on it, too. `short` writes report-short.html instead: two printed pages
    of a study, for sending.

    Raises:
        DataError: the folder holds no results, or a file of them is missing or can't be read; or `short`, and no study.
        StudyError: the study or experiment file says what is none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; expected one that `xaicompare run` or `xaicompare train` wrote.")
    made = trainings(folder)
    studied = (folder / "results.parquet").exists() or (folder / "standings.csv").exists()
    if not studied and not made and (folder / "cells").is_dir():
        left, cells = unfinished(folder)
        raise DataError(
            f"{folder} holds a study of which {left} of {cells} cells are not finished; expected a finished one. Run "
            "it again, it goes on where it was; `xaicompare status` says how far it is."
        )
    if not studied and not made:
        raise DataError(
            f"{folder} holds neither results.parquet nor experiment.toml; expected a folder that `xaicompare run` or "
            "`xaicompare train` wrote."
        )
    if short and not studied:
        raise DataError(
            f"{folder} holds training experiments alone; expected a study, of which a short edition is made."
        )
    sections: dict[str, Any] = {"study": None, "charts": {}, "tests": {}}
    if studied:
        sections |= study_sections(Material.of(folder))
    if short:
        return _written(folder / _SHORT, short_page(sections))
    shown = training_sections(made)
    sections["charts"] |= shown.pop("charts")
    return _written(folder / _NAME, page(sections | shown))


def _written(place: Path, text: str) -> Path:
    with replacing(place) as path:
        path.write_text(text, encoding="utf-8")
    return place


def short_page(sections: Mapping[str, Any]) -> str:
    """The short edition of a study as HTML: no script, its chart a picture."""
    study, spec = sections["study"], sections["charts"].get("leading")
    judging = [
        place for place, (measure, _) in enumerate(study["board"]["columns"]) if measure.name in study["judging"]
    ]
    return (
        _templates()
        .get_template("short.html.j2")
        .render(
            study=study,
            leading=None if spec is None else _drawn(spec),
            columns=[(place, study["board"]["columns"][place][0]) for place in judging[:_COLUMNS]],
            lines=study["board"]["lines"][:_ROWS],
            warnings=study["warnings"][:_WARNED],
            style=Markup(_asset("short.css")),  # noqa: S704 - our own file
        )
    )


def _drawn(spec: Mapping[str, Any]) -> str:
    """A chart as a picture within the page, where no script of it can run."""
    room = {"left": 28, "right": 8, "top": 4, "bottom": 4}  # a reader's font may be wider than the one measured here
    drawn = vl_convert.vegalite_to_svg({**spec, "width": 380, "padding": room})
    return "data:image/svg+xml;base64," + base64.b64encode(drawn.encode()).decode("ascii")


def page(sections: Mapping[str, Any]) -> str:
    """The page as HTML."""
    scripts = {"library": _library(), "script": _asset("page.js")}
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(_hash(text) for text in scripts.values())}",
            "style-src 'unsafe-inline'",  # the charts' library writes styles
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    data = {name: sections[name] for name in ("charts", "tests")}
    # Our own files, none of the user's words among them, go in as they are; everything else is escaped.
    trusted = {name: Markup(text) for name, text in ({"style": _asset("page.css")} | scripts).items()}  # noqa: S704
    return _templates().get_template("page.html.j2").render(**sections, **trusted, policy=policy, data=data)


@lru_cache(maxsize=1)
def _library() -> str:
    """Vega, Vega-Lite and the loader, in one script."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace("</script", r"<\/script")


@lru_cache(maxsize=1)
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("xaicompare.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"number": verdict.number, "breakable": _breakable, "marked": marked, "termed": _termed}
    return found


def _breakable(name: str) -> Markup:
    """A name that may be broken where its words meet."""
    return escape(name).replace("_", Markup("_<wbr>"))


def _termed(text: str, about: Mapping[str, Mapping[str, str]]) -> Markup:
    """A sentence in which every metric's name opens its definition."""
    known = "|".join(re.escape(name) for name in sorted(about, key=len, reverse=True))
    parts = re.split(rf"(?<![\w-])({known})(?![\w-])", text) if known else [text]
    return Markup("").join(_term(part, about[part]["id"]) if part in about else part for part in parts)


def _term(name: str, place: str) -> Markup:
    """A name that opens its definition, by pointer, touch or key."""
    return Markup('<button type="button" class="term" popovertarget="{}">{}</button>').format(place, name)


def _asset(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a policy knows a script by: no other runs, whatever found its way into the page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
