"""lm-eval both ways: its tasks on our engines (``run``), our benchmarks as its tasks (``tasks``, ``export``).

The only door to ``lm_eval``. Nothing here loads it before it is needed.
"""

from archer.evaluation.lm_eval.run import LmEvalOptions, run_lm_eval

__all__ = ["LmEvalOptions", "run_lm_eval"]
