"""The forms in which sources publish their problems, by name."""

from __future__ import annotations

from collections.abc import Callable

from archer.tools.data import mathematics, programs
from archer.tools.data.parts import ParsedRow, Row, UnfitRow

Shape = Callable[[Row], ParsedRow | UnfitRow]

PROGRAMS: dict[str, Shape] = {
    "deepcoder": programs.deepcoder,
    "codecontests": programs.codecontests,
    "codeforces": programs.codeforces,
    "archer": programs.archer,
}
MATHEMATICS: dict[str, Shape] = {
    "problem-answer": mathematics.problem_answer,
    "skywork": mathematics.skywork,
    "dapo": mathematics.dapo,
}
SHAPES = {**PROGRAMS, **MATHEMATICS}
JUDGED_BY = {**dict.fromkeys(PROGRAMS, "code"), **dict.fromkeys(MATHEMATICS, "math")}
