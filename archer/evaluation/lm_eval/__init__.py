"""lm-eval both ways: its tasks on Archer's engines (``run``), Archer's benchmarks as its tasks (``tasks``, ``export``).

Only this package imports ``lm_eval``, and only when it is needed.
"""

from archer.evaluation.lm_eval.run import LmEvalOptions, run_lm_eval

__all__ = ["LmEvalOptions", "run_lm_eval"]
