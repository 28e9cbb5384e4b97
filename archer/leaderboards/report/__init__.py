"""The page of a comparison: ``report.html``, complete in one file."""

from archer.leaderboards.report.page import write_report

__all__ = ["write_report"]
