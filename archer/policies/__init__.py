"""Policies: a model, its optimizer, and one update step."""
