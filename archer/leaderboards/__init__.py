"""Leaderboards: results and published numbers into standings, tables, pages and power calculations.

In: folders of results. Out: tables as text, Markdown, LaTeX, CSV and HTML. May use: evaluation and below.
"""
