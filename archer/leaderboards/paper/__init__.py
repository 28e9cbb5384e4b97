"""Leaderboards: published numbers beside measured ones, and how much noise either hides."""
