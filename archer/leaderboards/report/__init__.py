"""The report of a comparison: ``report.html``, a page in one file."""

from archer.leaderboards.report.page import write_report

__all__ = ["write_report"]
