"""A folder of results as one page that opens from disk [only home of jinja2 and vl-convert]."""

from xaicompare.reporting.page import report

__all__ = ["report"]
