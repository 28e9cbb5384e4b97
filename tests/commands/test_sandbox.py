"""``archer sandbox``: one program by hand, the measurements, and the check of real programs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from archer.commands.sandbox import app
from archer.errors import UserError
from archer.sandbox import Sandbox
from archer.tools.attacks import bench


def invoke(sandbox: Sandbox, *words: str) -> Result:
    options = [
        "--executor",
        sandbox.executor,
        *(part for one in sandbox.docker_hosts for part in ("--docker-host", one)),
    ]
    result = CliRunner().invoke(app, [*words, *options])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_program_by_hand(isolating: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text("def f(x): return (x, 2)\nif __name__ == '__main__':\n    print(int(input()) * 2)\n")
    assert re.fullmatch(
        r"ok\nexit code 0, 0\.\d+ s elapsed, 0\.\d+ s of CPU time\n--- standard output\n42\n",
        invoke(isolating, "run", str(file), "--input", "21").stdout,
    )
    assert "\nvalue: (3, 2)\n" in invoke(isolating, "run", str(file), "--call", "f(3)").stdout
    wrong = invoke(isolating, "run", str(file), "--input", "x").stdout
    assert wrong.startswith("error: ValueError: invalid literal for int() with base 10: 'x'\nexit code 1, ")
    assert "--- standard error\nTraceback (most recent call last):\n" in wrong


def test_what_a_program_prints_is_shown_and_not_obeyed(isolating: Sandbox, tmp_path: Path) -> None:
    file, hostile = tmp_path / "program.py", r"\x1b]0;owned\x07\x1b]52;c;cm0=\x07\x9b2J\u202ea\rb\x08"
    file.write_text(f"import sys\nprint('{hostile}', end='c\\n')\nprint('\\td\x85')\nsys.exit('{hostile}')")
    shown = invoke(isolating, "run", str(file)).stdout
    assert shown.count(hostile) == 2
    assert f"--- standard output\n{hostile}c\n\td\\x85\n--- standard error\n{hostile}\n" in shown
    file.write_text(
        f"class Odd(str): __repr__ = str.__str__\ndef f(): raise ValueError('{hostile}')\ndef g(): return '{hostile}'"
    )
    assert f"error: ValueError: {hostile}\n" in invoke(isolating, "run", str(file), "--call", "f()").stdout
    assert f"value: '{hostile}'\n" in invoke(isolating, "run", str(file), "--call", "g()").stdout


def test_bad_requests(isolating: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    with pytest.raises(UserError, match=r"program.py: cannot be read: .*No such file"):
        invoke(isolating, "run", str(file))
    file.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"program.py: cannot be read: .*utf-8"):
        invoke(isolating, "run", str(file))
    with pytest.raises(UserError, match="--call gives the program no input"):
        invoke(isolating, "run", str(file), "--call", "f()", "--input", "3")


def test_validate_names_what_is_not_right(isolating: Sandbox, tmp_path: Path) -> None:
    rows, programs = tmp_path / "rows.jsonl", tmp_path / "programs.jsonl"
    test = {"input": "3\n", "output": "6\n", "testtype": "stdin"}
    row = {
        "question_content": "Double it.", "starter_code": "", "contest_date": "2024-09-01T00:00:00",
        "public_test_cases": json.dumps([test]), "private_test_cases": "[]", "metadata": "{}",
    }  # fmt: skip
    rows.write_text("".join(json.dumps({"question_id": name, **row}) + "\n" for name in ("a", "b")))
    code = {"a": "print(int(input()) * 2)", "b": "raise ValueError('\\x1b[2J\\x9b')", "c": ""}
    programs.write_text("".join(json.dumps({"question_id": name, "code": code[name]}) + "\n" for name in code))
    command = ["validate", "livecodebench", str(rows), "--programs", str(programs), "--rounds", "2", "--load", "1"]
    result = invoke(isolating, *command)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:2] == [
        r"livecodebench/b: error: ValueError: \x1b[2J\x9b",
        f"1 programs left out, {rows} has no such problems: c",
    ]
    assert re.match(r"1 of 2 right, \d+\.\d s a round\n2 of 2 had the same", "\n".join(result.stdout.splitlines()[2:]))


def test_measurements(isolating: Sandbox) -> None:
    figures = [*bench.latency(isolating, count=5), *bench.throughput(isolating, seconds=0.2)]
    assert [figure.name for figure in figures] == [
        "per test, fresh process, warm",
        "programs/s, 1 test each",
        "programs/s, 10 tests each",
    ]
    assert re.fullmatch(r"p50 \d+\.\d ms, p95 \d+\.\d ms", figures[0].value)
    assert float(figures[1].value) > float(figures[2].value) > 1


def test_bombs_end_and_a_soak_leaves_nothing(isolating: Sandbox) -> None:
    late, alone, beside = bench.kills(isolating, each=1)
    assert float(late.value.removesuffix(" s")) < 5
    assert (alone.name, beside.name) == ("neighbour alone", "neighbour beside bombs")
    soak = {figure.name: figure.value for figure in bench.soaked(isolating, 150)}
    assert soak["soak"] == "150 programs"
    assert (soak["honest programs not right"], soak["descriptors gained"]) == ("0", "+0")
    assert soak["sandboxes at work, then after"].endswith(", 0")


def test_verdicts_do_not_change_under_load(isolating: Sandbox) -> None:
    programs = bench.honest_programs()[:20]
    [figure] = bench.steadiness(isolating, programs, rounds=2, times=1)
    assert (figure.value, figure.note) == ("20 of 20", "in 2 rounds, cores loaded 1 times over; 0 not right")


def test_a_wrong_honest_program_ends_a_measurement(monkeypatch: pytest.MonkeyPatch, isolating: Sandbox) -> None:
    monkeypatch.setattr(bench, "HONEST", "print(8)")
    with pytest.raises(RuntimeError, match="an honest program ended with ProgramRun"):
        bench.latency(isolating, count=1)
    assert {figure.name: figure.value for figure in bench.soaked(isolating, 10)}["honest programs not right"] == "8"
