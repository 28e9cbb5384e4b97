"""Evaluation: benchmarks, drawing and grading K samples of every problem, metrics with intervals, lm-eval.

In: a model and benchmark YAMLs. Out: ``Result`` records that hold every outcome. May use: runs and below.
"""
