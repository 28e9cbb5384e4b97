"""Programs judged by what they return or print; expected outputs are compared here, outside the sandbox.

The program is the last complete fence marked ``python``, ``py``, ``python3`` or not at all, after the last
``</think>``. A response whose ``<think>`` is never closed was cut off and holds no program.
:mod:`archer.rewards.golds` describes golds. Results of calls and printed output are compared as in LiveCodeBench.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, ClassVar

from archer.errors import DataError, SandboxError, UserError
from archer.rewards.assertions import split
from archer.rewards.base import RunsIn
from archer.rewards.golds import check_gold, kind_of
from archer.rewards.prelude import PRELUDE
from archer.rewards.replay import replay
from archer.sandbox.base import Call, Expression, Limits, Outcome, ProgramJob, ProgramRun, Script, Stdin
from archer.sandbox.limits import default_limits
from archer.types import Json, Problem, Verdict

if TYPE_CHECKING:
    from numpy.random import Generator as Random

_LINE_END = re.compile(r"\r\n?|\n")  # Python's; what else ends a line for str.splitlines may stand in a string
LANGUAGES = ("python", "py", "python3", "")
SOLID, WORD = re.compile(r"\S"), re.compile(r"\S+")
MOST_DIGITS = 2**20  # of a number in an output, which is compared exactly
PIECE = 4096  # characters of trailing space that are looked at at once
FUTURE = re.compile(r"^from __future__ import [^(\n]*\n", re.MULTILINE)


@dataclass(frozen=True)
class CodeReward:
    """Reward 1 for a program that passes every test, else 0."""

    rules: ClassVar[int] = 2
    runs_in: ClassVar[RunsIn] = "sandbox"

    limits: Limits | None = None
    """Limits on each test's run; None: those of ``sandbox/limits.yaml``."""
    prelude: str = PRELUDE
    """Python source that runs before each program."""
    stop_at_first: bool = True
    """Whether testing stops at the first failed test; False runs all, with the same verdict."""

    def job(self, problem: Problem, text: str) -> ProgramJob | Verdict:
        """Return the job that tests the program in ``text``, or the verdict on a text without one.

        Raises :class:`~archer.errors.DataError` for a malformed gold.
        """
        trial = self._trial(problem)
        program = last_program(text)
        if program is None:
            return Verdict(0.0, False, "no_answer")
        program = _with_prefix(problem.gold.get("prefix") or "", program)
        return ProgramJob(program, trial, self.limits or default_limits(), self.prelude, keep_runs=False)

    def judge(self, problem: Problem, outcome: Outcome) -> Verdict:
        """Return the verdict of the job's tests; its reason is that of the first failed one.

        Raises :class:`~archer.errors.SandboxError` for an outcome whose script did not finish.
        """
        if not isinstance(outcome.result, str):
            raise SandboxError(f"problem {problem.id}: its tests ended without a verdict, with {outcome.result!r}")
        correct = outcome.result == "right"
        return Verdict(float(correct), correct, outcome.result)

    def _trial(self, problem: Problem) -> Trial:
        try:
            check_gold(problem.gold, self.prelude)
        except DataError as error:
            raise DataError(f"problem {problem.id}: {error}") from error
        return Trial(problem.id, problem.gold, self.prelude, self.stop_at_first)


@dataclass(frozen=True)
class Trial:
    """The script of all tests; it returns ``right``, ``wrong`` or the status of the run that failed.

    A value, not a closure, so that a job can be compared and printed.
    """

    problem_id: str
    gold: Mapping[str, Json]
    prelude: str
    stop_at_first: bool

    @cached_property
    def most_inputs(self) -> int:
        """At most how many inputs the tests take, whatever the program; 0 where they do not tell."""
        function, total = self.gold.get("function") or "", 0
        for test in self.gold["tests"]:
            match kind_of(test, function):
                case "stdin" | "arguments":
                    total += 1
                case "assert" if assertion := split(test["assert"], function):
                    total += len(assertion.calls)
                case _:
                    return 0
        return total

    def __call__(self) -> Script:
        """Return a fresh generator over the tests. Raises as :func:`~archer.rewards.replay.replay` does."""
        verdict = "right"
        for index, test in enumerate(self.gold["tests"]):
            try:
                reason = yield from _tried(test, self.gold, self.prelude)
            except (DataError, SandboxError) as error:
                raise type(error)(f"problem {self.problem_id}: gold: tests[{index}]: {error}") from error
            verdict = reason if verdict == "right" else verdict
            if verdict != "right" and self.stop_at_first:
                break
        return verdict


def _tried(test: Mapping[str, Json], gold: Mapping[str, Json], prelude: str) -> Script:
    function, setup = gold.get("function") or "", gold.get("setup") or ""
    match kind_of(test, function):
        case "stdin":
            run = yield Stdin(test["stdin"])
            return _reason(run, run.status == "ok" and same_output(run.stdout, test["expected"]))
        case "arguments":
            run = yield Call(function, tuple(test["arguments"]))
            return _reason(run, run.status == "ok" and same_value(run.value, test["expected"]))
        case "assert":
            return (yield from _asserted(test["assert"], function, setup))
        case _:
            return (yield from replay(test["check"], function, setup, prelude))


def _asserted(text: str, function: str, setup: str) -> Script:
    """Test one assertion, evaluating every call, even those that ``and`` and ``or`` would skip."""
    assertion, values = split(text, function), list[Any]()
    assert assertion is not None, f"{text!r}: check_gold lets no other through"
    for call in assertion.calls:
        run = yield Expression(call, setup)
        if run.status != "ok":
            return run.status
        values.append(run.value)
    return "right" if assertion.holds(values) else "wrong"


def _reason(run: ProgramRun, same: bool) -> str:
    if run.status != "ok":
        return run.status
    return "right" if same else "wrong"


def last_program(text: str) -> str | None:
    """Return the last complete Python fence after the last ``</think>``, or None."""
    if "<think>" in text and "</think>" not in text:
        return None  # cut off while thinking: drafts are not answers
    program, opening, lines = None, None, list[str]()
    for line in _LINE_END.split(text.rpartition("</think>")[2]):
        fence = _fence(line)
        if opening is None:
            opening, lines = fence, []
        elif fence and not fence[2] and len(fence[1]) >= len(opening[1]):
            if opening[2].lower() in LANGUAGES and any(map(str.strip, lines)):
                program = "\n".join(lines) + "\n"
            opening = None
        else:
            lines.append(line.removeprefix(opening[0]))  # a fence in a list is indented as a whole
    return program


def _fence(line: str) -> tuple[str, str, str] | None:
    """Return a fence's indent, backticks and what follows them, or None for another line. Linear in the line."""
    inside = line.lstrip(" \t")
    after = inside.lstrip("`")
    ticks = inside[: len(inside) - len(after)]
    if len(ticks) < 3 or "`" in after:
        return None
    return line[: len(line) - len(inside)], ticks, after.strip(" \t")


def _with_prefix(prefix: str, program: str) -> str:
    """Put a gold's code before the program, but after its ``from __future__`` imports."""
    if not prefix:
        return program
    return f"{''.join(FUTURE.findall(program))}{prefix}\n{FUTURE.sub('', program)}"


def same_value(actual: Any, expected: Json) -> bool:
    """Compare by LiveCodeBench's rule: Python's ``==``, where an outermost tuple counts as a list."""
    try:
        return bool((list(actual) if isinstance(actual, tuple) else actual) == expected)
    except RecursionError:  # nested deeper than any expected value
        return False


def same_output(actual: str, expected: str) -> bool:
    """Compare by LiveCodeBench's rule: stripped lines, as text or else word by word as decimal numbers.

    Of ``actual``, which may be megabytes of anything, no more than a line's word is copied.
    """
    begin, end = _trimmed(actual, 0, len(actual))
    expected = expected.strip()
    if _is_there(actual, begin, end, expected):
        return True
    if actual.count("\n", begin, end) != expected.count("\n"):
        return False
    for line in expected.split("\n"):
        found = actual.find("\n", begin, end)
        stop = end if found < 0 else found
        if not _same_line(actual, begin, stop, line.strip()):
            return False
        begin = stop + 1
    return True


def _same_line(text: str, begin: int, end: int, expected: str) -> bool:
    """Compare the line ``text[begin:end]`` with a stripped one."""
    begin, end = _trimmed(text, begin, end)
    if _is_there(text, begin, end, expected):
        return True
    pairs = zip_longest(WORD.finditer(text, begin, end), expected.split())
    return all(word is not None and other is not None and _same_number(word, other) for word, other in pairs)


def _is_there(text: str, begin: int, end: int, expected: str) -> bool:
    return end - begin == len(expected) and text.startswith(expected, begin)


def _same_number(word: re.Match[str], expected: str) -> bool:
    try:
        number = Decimal(expected)
        return word.end() - word.start() <= MOST_DIGITS and Decimal(word[0]) == number
    except InvalidOperation:  # not a number, or a signalling NaN
        return False


def _trimmed(text: str, begin: int, end: int) -> tuple[int, int]:
    """Return the bounds of ``text[begin:end].strip()``, without a copy of more than a piece."""
    first = SOLID.search(text, begin, end)
    if first is None:
        return end, end
    while True:
        piece = text[max(first.start(), end - PIECE) : end]
        if kept := len(piece.rstrip()):
            return first.start(), end - len(piece) + kept
        end -= len(piece)


def draw_tests(gold: Mapping[str, Json], most: int, rng: Random) -> Mapping[str, Json]:
    """Return a gold with at most ``most`` of its tests, drawn without replacement, in their order.

    A group must share one draw, or its rewards would differ because of the tests. Raises
    :class:`~archer.errors.UserError` for ``most`` below 1.
    """
    if most < 1:
        raise UserError(f"tests: expected 1 or more to draw, found {most}")
    check_gold(gold)
    tests = gold["tests"]
    if len(tests) <= most:
        return gold
    drawn = sorted(rng.choice(len(tests), most, replace=False).tolist())
    return {**gold, "tests": [tests[index] for index in drawn]}
