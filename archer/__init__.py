"""Archer: train and compare RLVR algorithms (reinforcement learning with verifiable rewards)."""

__version__ = "0.1.0"
