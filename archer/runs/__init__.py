"""The run folder: manifest, metrics, rollouts, checkpoints, samples, results; trackers and progress on a terminal.

In: what a step made. Out: files that a killed run goes on from. May use: rollouts and below.
"""
