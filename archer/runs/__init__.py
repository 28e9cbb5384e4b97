"""The run folder: manifest, metrics, rollouts, checkpoints, samples, results; trackers and progress on a terminal.

In: a step's rollouts, metrics and weights. Out: files from which a killed run resumes. May use: rollouts and below.
"""
