"""A folder of results as one page that opens from disk [only home of jinja2 and vl-convert]."""

from xaicompare.reporting.page import report
from xaicompare.reporting.verdict import verdict as verdict_of

__all__ = ["report", "verdict_of"]
