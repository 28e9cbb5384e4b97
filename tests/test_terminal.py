"""What a model or a program says is shown on a terminal and never obeyed, wherever it is printed."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
from pathlib import Path
from unicodedata import bidirectional, category

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from archer import __main__
from archer.errors import DataError
from archer.runs.progress import EvalProgress
from archer.terminal import say, terminal, visible

ROOT = Path(__file__).parent.parent
# A window's title, the clipboard, a link, a screen wiped, a line written over, C1 controls, text turned round, hidden.
HOSTILE = [
    ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
    ("\x1b]52;c;cm0gLXJm\x07", r"\x1b]52;c;cm0gLXJm\x07"),
    ("\x1b]8;;http://a\x1b\\b", r"\x1b]8;;http://a\x1b\b"),
    ("\x1b[2J\x1b[1;1Hright", r"\x1b[2J\x1b[1;1Hright"),
    ("\x1bP+q544e\x1b\\", r"\x1bP+q544e\x1b" + "\\"),
    ("wrong\rright", r"wrong\rright"),
    ("wrong\x08\x08\x08\x08\x08right", r"wrong\x08\x08\x08\x08\x08right"),
    ("\x9b2J\x9d0;owned\x9c", r"\x9b2J\x9d0;owned\x9c"),
    ("\x85\x84\x7f\x00\x0b\x0c\x0e", r"\x85\x84\x7f\x00\x0b\x0c\x0e"),
    ("a\u202eb\u2066c\u200fd\u061ce", r"a\u202eb\u2066c\u200fd\u061ce"),
    ("a\u2028b\u200bc\ufeffd\xade", r"a\u2028b\u200bc\ufeffd\xade"),
    ("\U000e0041\ud800\udcff", r"\U000e0041\ud800\udcff"),
]
HONEST = [
    "x = 3\n\ty\n", "it costs 3 \u20ac\r\n", "\u4f60\u597d\u3000\u4e16\u754c", "\u0645\u0631\u062d\u0628\u0627",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "e\u0301 \xa0 \u2212\u221e", r"\x1b is escaped", "",
]  # fmt: skip


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_what_a_terminal_obeys_or_hides_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


@pytest.mark.parametrize("text", HONEST)
def test_honest_text_is_as_it_was(text: str) -> None:
    assert visible(text) == text


def test_every_control_character_and_mark_of_direction_is_escaped() -> None:
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    everything = map(chr, range(sys.maxunicode + 1))
    found = [one for one in everything if category(one) in ("Cc", "Cs", "Zl", "Zp") or bidirectional(one) in turning]
    assert len(found) == 65 + 2048 + 2 + 9
    shown = visible("".join(found))
    assert (shown.isascii(), {one for one in shown if not one.isprintable()}) == (True, {"\n", "\t"})


def test_say(capfd: pytest.CaptureFixture[str]) -> None:
    say("a\x1b[2J\nb", err=True)
    say(Path("c\x07"), nl=False)
    assert capfd.readouterr() == (r"c\x07", "a\\x1b[2J\nb\n")


def test_errors_and_crashes_are_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert __main__.fail(DataError("p7: found '\x1b]0;owned\x07'"), 2) == 2
    error = ValueError("\x9b2J\u202e")
    __main__.show_crash(ValueError, error, None)
    assert capfd.readouterr().err == "archer: p7: found '\\x1b]0;owned\\x07'\nValueError: \\x9b2J\\u202e\n"


def printed(**options: object) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return terminal(file=file, width=60, **options), file


def test_rich_prints_its_own_styles_and_no_others() -> None:
    console, file = printed(force_terminal=True, color_system="standard")
    table = Table("name\x1b[2J", box=None)
    table.add_row(Text("row\x1b]0;owned\x07", "bold"))
    console.print(table, "words\x9b2J", Text("more\u202e"), markup=False)
    shown = file.getvalue()
    assert "\x1b[1mrow\\x1b]0;owned\x1b[0m" in shown  # rich takes the bell out itself
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown).count("\x1b") == 0
    assert r"name\x1b[2J" in shown
    assert r"words\x9b2J" in shown
    assert r"more\u202e" in shown


def test_progress_lines_and_bars(tmp_path: Path) -> None:
    console, file = printed()
    with EvalProgress(console=console) as meter:
        meter.say("judged \x1b]0;owned\x07 again")
    assert file.getvalue() == "judged \\x1b]0;owned again\n"
    console, file = printed(force_terminal=True)
    with EvalProgress(console=console) as meter:
        meter.begin("lab-code", 3, 8)
        meter.say("judged \x1b[2J again")
    assert r"judged \x1b[2J again" in file.getvalue()


def test_nothing_else_writes_to_a_terminal() -> None:
    found = []
    for path in sorted((ROOT / "archer").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                found += [(path.name, name)] if name in {"print", "Console", "typer.echo", "click.echo"} else []
    assert sorted(found) == [
        ("call.py", "print"),  # of visible text, by an engine's process
        ("power.py", "Console"),  # into a text
        ("terminal.py", "Console"),
        ("terminal.py", "typer.echo"),
    ]


def test_the_command_line_as_a_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "archer", "recipe", "\x1b]0;owned\x07"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "\x1b]" not in done.stderr
    assert r"\x1b]0;owned\x07" in done.stderr
