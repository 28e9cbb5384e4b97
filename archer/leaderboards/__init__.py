"""Leaderboards: tables of results and published numbers, with intervals, and the noise and power behind them.

In: folders of results. Out: tables as text, Markdown, LaTeX, CSV and HTML. May use: evaluation and below.
"""
