"""The command line as a whole: help, version, completion, and spellings of before."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import archer
from archer.__main__ import app
from archer.errors import UserError
from archer.system import commit

ROOT = Path(__file__).parent.parent.parent
MAINTENANCE = {"sandbox": ["attack", "bench"], "benchmarks": ["pin", "export"]}


def command_lines(group: object, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command by the words that call it, groups and hidden names included."""
    yield words
    for name, command in getattr(group, "commands", {}).items():
        yield from command_lines(command, (*words, name))


COMMANDS = sorted(command_lines(typer.main.get_command(app)))


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **environment}
    return subprocess.run([sys.executable, "-m", "archer", *words], env=own, capture_output=True, text=True)


def shown(*words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "100", "TERM": "dumb"})
    assert done.exit_code == 0
    return done.stdout


def test_the_commands() -> None:
    assert [" ".join(words) for words in COMMANDS if len(words) == 1] == [
        "benchmarks", "compare", "data", "eval", "lab", "lm-eval", "power", "recipe", "report", "sandbox", "table",
        "train",
    ]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_h_is_help(words: tuple[str, ...]) -> None:
    long, short = (CliRunner().invoke(app, [*words, option]) for option in ("--help", "-h"))
    assert (long.exit_code, short.exit_code) == (0, 0)
    assert long.stdout == short.stdout
    assert "Usage:" in long.stdout


def test_no_command_is_help() -> None:
    assert "Train and compare RLVR algorithms." in CliRunner().invoke(app, []).output


def test_version_names_the_commit() -> None:
    done = run("--version")
    assert done.returncode == 0
    known = f" (commit {commit()})" if commit() else ""
    assert done.stdout == f"archer {archer.__version__}{known}\n"


def test_the_version_of_an_unknown_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archer.__main__.commit", lambda: None)
    assert CliRunner().invoke(app, ["--version"]).stdout == f"archer {archer.__version__}\n"


@pytest.mark.parametrize(("group", "names"), MAINTENANCE.items())
def test_what_serves_maintainers_stands_apart_and_last(group: str, names: list[str]) -> None:
    users, maintainers = re.split(r"─ Maintenance ─", shown(group))
    assert re.findall(r"^│ (\w+)", maintainers, flags=re.M) == names
    assert not set(re.findall(r"^│ (\w+)", users, flags=re.M)) & set(names)


def test_the_committed_tables_stand_apart() -> None:
    users, maintainers = re.split(r"─ Maintenance ─", shown("table"))
    assert re.findall(r"--\w+", maintainers) == ["--write", "--verify"]
    assert "--write" not in users


# ---- completion


def test_completion_knows_the_commands() -> None:
    done = run(_ARCHER_COMPLETE="complete_bash", COMP_WORDS="archer l", COMP_CWORD="1")
    assert done.stdout.split() == ["lm-eval", "lab"]
    done = run(_ARCHER_COMPLETE="complete_bash", COMP_WORDS="archer sandbox v", COMP_CWORD="2")
    assert done.stdout.split() == ["validate"]
    done = run(_ARCHER_COMPLETE="complete_bash", COMP_WORDS="archer eval --lm-eval x --reg", COMP_CWORD="4")
    assert done.stdout.split() == ["--regrade"]


def test_completion_is_shown_and_installed(tmp_path: Path) -> None:
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    done = run("--show-completion", "bash", **named)
    assert done.returncode == 0
    assert "_ARCHER_COMPLETE=complete_bash" in done.stdout
    done = run("--install-completion", "bash", **named)
    assert done.returncode == 0
    assert "_ARCHER_COMPLETE" in (tmp_path / ".bash_completions" / "archer.sh").read_text()


# ---- spellings of before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lab", "--lm-eval", "mmlu"], "archer eval --lm-eval: this is a command of its own: `archer lm-eval MODEL TASKS`"),
        (["lab", "--chat", "--lm-eval=mmlu", "--shots", "2"], "`archer lm-eval MODEL TASKS`"),
        (["--power", "0.02"], "archer eval --power: this is a command of its own: `archer power EFFECT`"),
        (["--power=0.02", "--benchmarks", "aime24"], "`archer power EFFECT`"),
    ],
)  # fmt: skip
def test_what_eval_did_before_names_its_command(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        CliRunner().invoke(app, ["eval", *words], catch_exceptions=False)


def test_a_former_spelling_ends_with_one_message_and_code_2() -> None:
    done = run("eval", "--power", "0.02")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "archer: archer eval --power: this is a command of its own: `archer power EFFECT`\n"


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "lab", "--shots", "0"], ["lm-eval", "lab", "mmlu", "--regrade"], ["lm-eval", "lab", "mmlu", "--label", "x"],
        ["lm-eval", "lab", "mmlu", "--server", "http://u/v1"], ["power", "0.02", "--samples", "4"],
    ],
)  # fmt: skip
def test_an_option_of_another_command_is_none(words: list[str]) -> None:
    done = CliRunner().invoke(app, words, env={"COLUMNS": "100"})
    assert done.exit_code == 2
    assert re.search(r"No such option:? .?--", done.output)


def test_a_model_and_tasks_must_be_named() -> None:
    for words, missing in (
        (["eval"], "MODEL"),
        (["lm-eval"], "MODEL"),
        (["lm-eval", "lab"], "TASKS"),
        (["power"], "EFFECT"),
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 2
        assert re.search(rf"Missing argument\W+{missing}\b", done.output, flags=re.I), done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lm-eval", "", "mmlu"], "MODEL '': name a folder, a hub name, `lab`"),
        (["lm-eval", "lab", " , "], "archer lm-eval: name at least one task"),
        (["lm-eval", "lab", "mmlu", "--temperature", "inf"], "--temperature inf: expected a number"),
        (["lm-eval", "lab", "mmlu", "--set", "evaluate.server=http://u/v1"], "http://u/v1 answers for the model"),
        (["power", "2"], "archer power 2.0: give a difference in accuracy between 0 and 1"),
        (["power", "0.02", "--benchmarks", "aime2024"], "'aime2024'"),
    ],
)
def test_values_that_cannot_be(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_several_processes_are_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="archer eval is one process; for several GPUs start `vllm serve"):
        CliRunner().invoke(app, ["eval", "lab"], catch_exceptions=False)
    with pytest.raises(UserError, match="archer lm-eval is one process; start it without torchrun"):
        CliRunner().invoke(app, ["lm-eval", "lab", "mmlu"], catch_exceptions=False)


def test_power_is_of_the_benchmarks_named() -> None:
    done = CliRunner().invoke(app, ["power", "0.02", "--benchmarks", "lab-code"], catch_exceptions=False)
    assert "To tell two models apart that differ by 2 points (power 80 %, level 5 %)" in done.stdout
    assert "lab-code 96 x 16" in done.stdout


def test_former_names_of_the_sandbox_work_and_are_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (rows := tmp_path / "rows.jsonl").write_text("")
    for name in ("prove", "validate"):
        done = CliRunner().invoke(
            app, ["sandbox", name, "humaneval", str(rows), "--allow-unisolated", "--executor", "process"]
        )
        assert "0 of 0 right" in done.output
    assert "prove" not in shown("sandbox")
    pytest.importorskip("docker")
    asked: list[str] = []
    monkeypatch.setattr("archer.sandbox.image.build_image", lambda host, root: asked.append(host) or "sha256:1")
    hosts = ["--engine", "ssh://me@two", "--docker-host", "ssh://me@one"]
    assert (
        CliRunner().invoke(app, ["sandbox", "image", *hosts]).stdout
        == "ssh://me@one: sha256:1\nssh://me@two: sha256:1\n"
    )
    assert asked == ["ssh://me@one", "ssh://me@two"]
    assert CliRunner().invoke(app, ["sandbox", "image"]).stdout == "the default Docker host: sha256:1\n"
    assert "--engine" not in shown("sandbox", "image")
