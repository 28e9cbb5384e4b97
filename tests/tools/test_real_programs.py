"""Real programs on every executor that isolates: what solves a problem elsewhere solves it here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from archer.errors import DataError, UserError
from archer.evaluation.reference_programs import ReferenceProgram, judge_programs, labelled, references
from archer.sandbox.pool import Pool
from archer.types import Problem


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("form", "file", "programs"),
    [
        ("humaneval", "humaneval.jsonl", 164),
        ("mbpp", "mbpp.jsonl", 974),
        ("leetcode", "leetcode_200_with_solutions.json", 200),
    ],
)
def test_every_reference_solution_earns_1(
    sandbox: Pool, data_file: Callable[[str], Path], form: str, file: str, programs: int
) -> None:
    judged = judge_programs(sandbox, references(form, data_file(f"code/{file}")))
    assert (len(judged.rounds[0]), judged.failed) == (programs, [])


@pytest.mark.usefixtures("patient")
def test_programs_that_pass_private_tests_pass_the_public_ones(sandbox: Pool, shared: Path) -> None:
    problems = shared / "data/code/livecodebench_v5_public_tests.jsonl"
    programs, unknown = labelled("livecodebench", problems, shared / "data/verdicts/livecodebench_o1_mini.jsonl")
    judged = judge_programs(sandbox, programs)
    assert (len(judged.rounds[0]), judged.failed, unknown) == (602, [], [])


def test_failures_and_changing_verdicts_are_told(sandbox: Pool) -> None:
    problem = Problem("p/1", "p", "", "code", {"tests": [{"stdin": "1", "expected": "2"}]})
    flip = "import os\nprint(2 if os.urandom(1)[0] % 2 else 3)"
    judged = judge_programs(
        sandbox,
        [ReferenceProgram(problem, program) for program in ("print(2)", "1 / 0", "print('x')", flip)],
        rounds=12,
    )
    assert [(real.program, reason, detail) for real, reason, detail in judged.failed][:2] == [
        ("1 / 0", "error", "ZeroDivisionError: division by zero"),
        ("print('x')", "wrong", "gave 'x\\n'"),
    ]
    assert (judged.stable, len(judged.rounds)) == (3, 12)


def test_bad_files_are_named(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"task_id": "HumanEval/0"}\n')
    with pytest.raises(UserError, match="formats: no format 'livecodebnch' .did you mean 'livecodebench'"):
        labelled("livecodebnch", rows, rows)
    with pytest.raises(DataError, match=r"rows.jsonl: row 1: no key 'prompt'"):
        references("humaneval", rows)
    with pytest.raises(
        DataError, match=r"codecontests: no format with reference solutions .known: humaneval, humanevalplus, leetcode"
    ):
        references("codecontests", rows)
    programs = tmp_path / "programs.jsonl"
    programs.write_text('{"question_id": 3, "code": "x"}\n')
    rows.write_text("")
    with pytest.raises(DataError, match=r"programs.jsonl: row 1: question_id: expected a text, found 3"):
        labelled("humaneval", rows, programs)
