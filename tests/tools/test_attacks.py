"""The attack run: the corpus is complete, and what a sandbox lets through is seen."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from archer.commands.sandbox import app
from archer.errors import DataError, RecipeError, UserError
from archer.sandbox import EXECUTORS, Sandbox
from archer.sandbox.base import Call, Input, Outcome, ProgramJob, ProgramRun, Stdin
from archer.tools.attacks import attack, decoys
from archer.tools.attacks.attack import AttackReport, AttackRow, render, run_attacks
from archer.tools.attacks.corpus import REASONS, TASKS, Attack, AttackClass, check_entries, read_attacks, read_honest
from archer.tools.attacks.probe import CANARY, difference

FOLDER = Path(__file__).parents[2] / "sandbox" / "attacks"
CLASSES = (
    "leave_early", "equality", "patching", "reading_the_answer", "forging", "special_cases", "cpu", "memory",
    "processes", "output", "files", "network", "kernel", "deserialising", "timing", "state",
)  # fmt: skip


# ---- the corpus


def test_every_class_is_there() -> None:
    files = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "benign")
    assert sorted({name[:2] for name in files}) == [f"{number:02}" for number in range(1, 17)]
    for number, name in enumerate(CLASSES, 1):
        assert any(file.startswith(f"{number:02}_{name}") for file in files), name
    assert len(read_attacks()) == len({one.title for one in read_attacks()}) == len(files)


def test_there_are_many_programs_of_every_kind() -> None:
    assert sum(len(one.attacks) for one in read_attacks()) >= 400
    assert min(len(one.attacks) for one in read_attacks()) >= 20
    assert len(read_honest()) >= 100
    honest = Counter(program.task for program in read_honest())
    assert honest["sum"] >= 50
    assert honest["add"] >= 10


def test_no_attack_expects_to_be_paid() -> None:
    expected = {reason for one in read_attacks() for entry in one.attacks for reason in entry.expect}
    assert expected <= REASONS
    assert "right" not in expected
    assert all(entry.expect for one in read_attacks() for entry in one.attacks)


def test_placeholders_are_known() -> None:
    with decoys.laid_out() as laid:
        for one in read_attacks():
            for entry in one.attacks:
                assert re.findall(r"\{\{\w+\}\}", laid.told(entry.program)) == [], entry.name


def test_hidden_tests_are_drawn_and_the_published_one_is_not() -> None:
    first, again, other = (TASKS["add"].problem("x", Random(seed)).gold["tests"] for seed in (1, 1, 2))
    assert first == again
    assert first[0] == other[0] == {"arguments": [3, 4], "expected": 7}
    assert first[1:] != other[1:]
    assert TASKS["sum"].problem("x", Random(1)).prompt == "For example '3 4\\n5\\n' gives '12\\n'."


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Attack("a", "", ("wrong",), task="ad"), "f.yaml: a: task: unknown name 'ad' .did you mean 'add'"),
        (Attack("a", "", ("right",)), "f.yaml: a: expect: no reason 'right'"),
        (Attack("a", "", ("ok",)), "f.yaml: a: expect: no reason 'ok'"),
        (Attack("a", "", ()), "f.yaml: a: expect: no reason ''"),
    ],
)
def test_bad_entries_are_refused(entry, message) -> None:
    with pytest.raises(DataError, match=message):
        check_entries([("f.yaml", entry)])


def test_a_name_comes_once_in_a_file() -> None:
    entry = Attack("a", "", ("wrong",))
    check_entries([("f.yaml", entry), ("g.yaml", entry)])
    with pytest.raises(DataError, match="f.yaml: a: the name comes twice"):
        check_entries([("f.yaml", entry), ("f.yaml", entry)])


def test_bad_files_are_refused(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("archer.tools.attacks.corpus.folder", lambda: tmp_path)
    for text, message in (
        (
            "title: x\nattacks: [{name: a, program: p, expects: [wrong]}]",
            "unknown key 'expects' .did you mean 'expect'",
        ),
        ("title: x\nattacks: [{name: a, expect: [wrong]}]", "missing key 'program'"),
        ("[]", "expected keys and values"),
    ):
        (tmp_path / "01_x.yaml").write_text(text)
        with pytest.raises(RecipeError, match=f"01_x.yaml.*{message}"):
            read_attacks.__wrapped__()


# ---- a sandbox with a hole, played


class Leaky:
    """An executor that runs nothing: honest programs are right, attacks do what the test says."""

    name, python = "leaky", "3.11"

    def __init__(self, act: Callable[[Input, str], ProgramRun]) -> None:
        self.act, self.seen, self.world = act, False, '{"files": []}'

    def execute(self, jobs: Iterable[ProgramJob]) -> Iterator[tuple[int, Outcome]]:
        for index, job in enumerate(jobs):
            script, runs = job.script(), list[ProgramRun]()
            try:
                given = next(script)
                while True:
                    runs.append(self.run(job, given))
                    given = script.send(runs[-1])
            except StopIteration as end:
                yield index, Outcome(tuple(runs), end.value)

    def run(self, job: ProgramJob, given: Input) -> ProgramRun:
        if job.program == CANARY:
            return said(self.world)
        if "hostile" not in job.program:
            return answer(given)
        self.seen = True
        return self.act(given, job.program)

    def close(self) -> None:
        pass


def said(stdout: str = "", value: object = None, status: str = "ok", seconds: float = 0.0) -> ProgramRun:
    return ProgramRun(status, 0, stdout, "", value, seconds)  # type: ignore[arg-type]


def answer(given: Input, more: str = "") -> ProgramRun:
    if isinstance(given, Call):
        return said(value=sum(given.arguments))
    assert isinstance(given, Stdin)
    return said(f"{sum(map(int, given.text.split()))}{more}\n")


@pytest.fixture
def played(monkeypatch) -> Callable[..., AttackReport]:
    """Run one attack against a sandbox that does what the test says."""

    def play(act: Callable[[Input, str], ProgramRun], program: str = "", kind: type[Leaky] = Leaky) -> AttackReport:
        one = Attack("probe", f"hostile {program}", ("wrong",))
        monkeypatch.setattr(attack, "read_attacks", lambda: (AttackClass("a class", (one,)),))
        monkeypatch.setattr(attack, "read_honest", lambda: ())
        monkeypatch.setitem(EXECUTORS, "leaky", lambda sandbox, workers: kind(act))  # type: ignore[call-overload]
        return run_attacks(Sandbox("leaky", 1), seed=1)

    return play


def test_a_sandbox_that_holds(played) -> None:
    report = played(lambda given, program: said("0\n"))
    assert report.ok
    assert report.rows == [AttackRow("a class", attacks=1)]


def test_a_reward_is_seen(played) -> None:
    report = played(lambda given, program: answer(given))
    assert not report.ok
    assert report.rows[0].rewarded == ["probe"]


def test_another_reason_than_expected_is_a_note(played) -> None:
    report = played(lambda given, program: said(status="memory"))
    assert report.ok
    assert report.rows[0].unexpected == ["probe: memory, expected wrong"]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda given, program: said(os.environ["ARCHER_DRILL_SECRET"]), "it read a secret of the host's"),
        (lambda given, program: said(value=Path(program.split()[2]).read_text()), "it read a secret of the host's"),
        (lambda given, program: said(str(Path(program.split()[1]).touch())), r"the file .*escaped exists"),
        (lambda given, program: said(str(call(program, 3))), r"a message came to \('127.0.0.1', \d+\)"),
        (lambda given, program: said(str(call(program, 4))), r"a message came to b'\\x00drill"),
        (lambda given, program: said(str(call(program, 5))), r"a message came to '/.*socket'"),
    ],
)
def test_what_an_attack_reaches_is_seen(played, act, message) -> None:
    report = played(act, "{{marker}} {{secret_file}} {{port}} {{abstract}} {{unix_path}}")
    assert not report.ok
    [effect] = {one for one in report.rows[0].effects if "escaped" in one or one == report.rows[0].effects[0]}
    assert re.fullmatch(f"probe: {message}.*", effect)


def call(program: str, place: int) -> None:
    address = program.split()[place]
    if place == 3:
        socket.create_connection(("127.0.0.1", int(address))).close()
    else:
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(f"\0{address}" if place == 4 else address)


def test_a_hidden_answer_is_seen(played) -> None:
    answers = [test["expected"].strip() for test in TASKS["sum"].problem("probe", Random("1/probe")).gold["tests"]]
    report = played(lambda given, program: said(f"{answers[1]}\n"))
    assert report.rows[0].effects == ["probe: it told the expected output of a hidden test"]
    assert played(lambda given, program: answer(given, " or so")).ok  # worked out, and spoilt


def test_the_host_s_time_is_seen(played, monkeypatch) -> None:
    monkeypatch.setattr(attack, "SLOW_SECONDS", 0.05)
    assert played(lambda given, program: time.sleep(0.1) or said(seconds=0.1)).ok
    report = played(lambda given, program: time.sleep(0.1) or said())
    assert re.fullmatch(r"probe: it took 0\.\d s of the host's time", report.rows[0].effects[0])


def test_a_setting_of_the_host_is_seen_once(played, monkeypatch) -> None:
    found = [{"/dev/full": "20666"}, {"/dev/full": "20777"}, {"/dev/full": "20777"}]
    monkeypatch.setattr(decoys, "settings", lambda: found.pop(0))
    assert played(lambda given, program: said()).rows[0].effects == ["probe: /dev/full of the host became 20777"]


def test_the_host_s_settings_can_be_looked_at() -> None:
    found = decoys.settings()
    assert found["/dev/null"].startswith("20666 0 0")
    assert "/proc/sys/kernel/core_pattern" in found


class Stateful(Leaky):
    """The next program finds what an attack left, or is no longer judged right."""

    def run(self, job: ProgramJob, given: Input) -> ProgramRun:
        found = super().run(job, given)
        return said('{"files": ["state"]}') if self.seen and job.program == CANARY else found


def test_what_is_left_for_the_next_program_is_seen(played) -> None:
    report = played(lambda given, program: said(), kind=Stateful)
    assert report.rows[0].effects == [
        "probe: the next program found another world: files: [] became ['state']"
    ]  # fmt: skip


class Spoilt(Leaky):
    def run(self, job: ProgramJob, given: Input) -> ProgramRun:
        return super().run(job, given) if job.program == CANARY or "hostile" in job.program else said("0\n")


def test_an_honest_program_that_is_not_right_is_seen(played) -> None:
    report = played(lambda given, program: said(), kind=Spoilt)
    assert report.rows[0].effects == ["probe: an honest program before it was judged wrong"]


def test_what_remains_on_the_host_is_seen(played) -> None:
    opened = list[int]()
    report = played(lambda given, program: opened.append(os.open("/", os.O_RDONLY)) or said())
    os.close(opened[0])
    assert "descriptors and sandboxes were" in report.host[0]

    def start(given: Input, program: str) -> ProgramRun:
        children.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", program]))
        return said()

    children = list[subprocess.Popen[bytes]]()
    report = played(start, "{{token}}")
    children[0].kill()
    children[0].wait()
    assert report.host[0] == f"the process {children[0].pid} remains"
    assert "descriptors and sandboxes were" in report.host[1]


def test_worlds_that_cannot_be_read_differ() -> None:
    assert difference("{}", "{}") == ""
    assert difference('{"a": 1, "b": 2}', '{"a": 1, "b": 3}') == "b: 2 became 3"
    assert difference("{}", "error: no memory") == "'{}' became 'error: no memory'"


# ---- who may be attacked, and what is told


def test_a_machine_without_isolation_is_never_attacked(monkeypatch) -> None:
    monkeypatch.setitem(EXECUTORS, "process", lambda sandbox, workers: pytest.fail("it was opened"))  # type: ignore[call-overload]
    with pytest.raises(UserError, match="`process` isolates nothing"):
        run_attacks(Sandbox("process", 1, unisolated=True))


def test_an_unknown_class_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"--only 'networks': no class .*; known: leave before the tests; "):
        run_attacks(Sandbox("bubblewrap", 1), "networks")


REPORT = AttackReport(
    "bubblewrap",
    [
        AttackRow("network", 20),
        AttackRow("files", 30, rewarded=["a"], effects=["b: the file exists"], unexpected=["c: memory"]),
    ],
    honest=66,
    rejected=["d: error: NameError"],
    host=["the process 7 remains"],
)


def test_a_report_as_text() -> None:
    assert [" ".join(line.split()) for line in render(REPORT).splitlines()] == [
        "bubblewrap attacks rewards effects unexpected",
        "network 20 0 0 0",
        "files 30 1 1 1",
        "all 50 1 1 1",
        "honest programs accepted: 65 of 66",
        "rewarded: a",
        "effect: b: the file exists",
        "note: c: memory",
        "rejected: d: error: NameError",
        "host: the process 7 remains",
    ]


def test_the_command_fails_where_the_sandbox_does(monkeypatch) -> None:
    monkeypatch.setattr(attack, "run_attacks", lambda sandbox, only: REPORT)
    assert CliRunner().invoke(app, ["attack"]).exit_code == 1
    monkeypatch.setattr(
        attack, "run_attacks", lambda sandbox, only: AttackReport("bubblewrap", [AttackRow("network", 20)], honest=66)
    )
    assert CliRunner().invoke(app, ["attack"]).exit_code == 0
