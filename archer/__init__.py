"""Archer: train and compare RLVR algorithms (reinforcement learning with verifiable rewards).

    import archer

    run = archer.train("lab", algorithm="archer", seed=0)          # -> LoadedRun: .metrics, .rollouts, .results
    standings = archer.compare("lab", algorithms=["grpo", "archer"], seeds=2)   # -> Standings: .to_pandas()
    archer.evaluate("./my-model", ["math500"]).to_pandas()          # -> Evaluation
    archer.verify(r"\\frac{1}{2}", r"\\boxed{0.5}").passed           # -> Verdict of one math answer
    archer.judge("print(input())", [{"stdin": "3", "expected": "3"}])   # -> Verdict of one program, in the sandbox
    archer.load_run("runs/lab/archer/seed-0").metrics               # -> DataFrame
    archer.algorithms(), archer.benchmarks()                        # -> by name

The commands call the same functions. Importing this loads none of what they need.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archer.algorithms import algorithms as algorithms
    from archer.compare import compare as compare
    from archer.evaluation.api import benchmarks as benchmarks
    from archer.evaluation.api import evaluate as evaluate
    from archer.leaderboards.ranking import Standings as Standings
    from archer.rewards.single import judge as judge
    from archer.rewards.single import verify as verify
    from archer.runs.loaded import LoadedRun as LoadedRun
    from archer.runs.loaded import load_run as load_run
    from archer.train import train as train
    from archer.types import Verdict as Verdict

__version__ = "0.1.0"

FACE = {
    "LoadedRun": "archer.runs.loaded",
    "Standings": "archer.leaderboards.ranking",
    "Verdict": "archer.types",
    "algorithms": "archer.algorithms",
    "benchmarks": "archer.evaluation.api",
    "compare": "archer.compare",
    "evaluate": "archer.evaluation.api",
    "judge": "archer.rewards.single",
    "load_run": "archer.runs.loaded",
    "train": "archer.train",
    "verify": "archer.rewards.single",
}
__all__ = ["__version__", *FACE]


class _Callable(ModuleType):
    """A module that can be called as the function of its own name: ``archer.train`` is both."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._function(*args, **options)

    @property
    def _function(self) -> Any:
        return vars(self)[self.__name__.rpartition(".")[2]]

    @property
    def __signature__(self) -> Any:
        from inspect import signature

        return signature(self._function)


class _Face(ModuleType):
    """This package: what :data:`FACE` names is loaded when it is first used."""

    def __getattr__(self, name: str) -> Any:
        if name not in FACE:
            raise AttributeError(f"module 'archer' has no attribute {name!r}; it offers {', '.join(sorted(FACE))}")
        module = import_module(FACE[name])
        return module if FACE[name] == f"archer.{name}" else getattr(module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FACE and isinstance(value, ModuleType):  # the import system, once archer.train was imported
            value.__class__ = _Callable
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *FACE})


sys.modules[__name__].__class__ = _Face
