"""One answer, or one program, graded as a training run would: what ``archer.verify`` and ``archer.judge`` call."""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache

from archer.recipe.config import typed
from archer.recipe.sections import RewardSection
from archer.rewards.golds import check_gold
from archer.rewards.grading import Grader
from archer.rewards.opening import open_grader
from archer.types import Json, Problem, Rollout, Verdict


def verify(gold: str | Sequence[str], response: str, *, seconds: float = 5.0) -> Verdict:
    r"""Return the verdict on one math answer.

    ``response`` is a model's text whose last ``\boxed{}`` holds the answer; ``gold`` the right answer in LaTeX, or a
    list of answers that all have to be given. ``seconds`` bounds the CPU time; an answer that takes longer has the
    reason ``timeout``. The first answer that needs algebra starts a worker process (about 2 s), which later calls
    use again.

        >>> archer.verify(r"\frac{1}{2}", r"so it is \boxed{0.5}").passed
        True

    Raises DataError for a gold that is no text, GraderError where the worker broke: never a verdict.
    """
    wanted = gold if isinstance(gold, str) else list(gold)
    [verdict] = _grader(seconds).grade([Rollout.of_text(Problem("answer", "verify", "", "math", wanted), response)])
    return verdict


def judge(
    program: str, tests: Sequence[Mapping[str, Json]], *, function: str | None = None, sandbox: str = "bubblewrap",
    allow_unisolated: bool = False,
) -> Verdict:  # fmt: skip
    """Run one Python program in the sandbox and return its verdict: ``right`` where it passes every test.

    A test is ``{"stdin": "3 4", "expected": "7"}``, or with the name of a ``function`` ``{"arguments": [3, 4],
    "expected": 7}``; :mod:`archer.rewards.golds` lists all kinds. ``sandbox`` is bubblewrap, docker or process;
    ``allow_unisolated`` accepts one that isolates nothing. Expected outputs never enter the sandbox.

        >>> archer.judge("print(sum(map(int, input().split())))", [{"stdin": "3 4", "expected": "7"}]).reason
        'right'

    Raises DataError for a malformed test, MissingError where the sandbox is not installed, SandboxError where it broke.
    """
    gold: dict[str, Json] = {"tests": [dict(test) for test in tests]}
    if function:
        gold["function"] = function
    check_gold(gold)
    section = typed(RewardSection, {"sandbox": sandbox, "workers": 1}, "judge")
    with ExitStack() as stack:
        grader = open_grader(section, ["code"], allow_unisolated, stack)
        fence = "````"
        text = f"{fence}python\n{program}\n{fence}"
        [verdict] = grader.grade([Rollout.of_text(Problem("program", "judge", "", "code", gold), text)])
    return verdict


@cache
def _grader(seconds: float) -> Grader:
    """Return a grader whose one worker later calls use again."""
    grader = Grader(1, seconds)
    atexit.register(grader.close)
    return grader
