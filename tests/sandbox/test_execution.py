"""Executors: batches, lost workers, what remains, and who may open one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.programs import BENIGN, HOSTILE, TIGHT, run

from archer.errors import DataError, MissingError, SandboxError, UserError
from archer.sandbox import Sandbox, open_executor
from archer.sandbox.base import (
    Call,
    Expression,
    Input,
    Limits,
    Outcome,
    ProgramJob,
    ProgramRun,
    Script,
    Stdin,
    Trusted,
    in_order,
)
from archer.sandbox.child import ChildLink
from archer.sandbox.doubt import Shortage
from archer.sandbox.gate import Gate
from archer.sandbox.guest import Guest, GuestLost, Link
from archer.sandbox.limits import default_limits, load_limits
from archer.sandbox.pool import Pool
from archer.sandbox.process import ProcessExecutor

ONCE = in_order(Stdin(""))


@pytest.fixture(scope="module")
def process() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(1, unisolated=True) as executor:
        yield executor


# ---- batches


def numbers_until_two() -> Script:
    for number in range(5):
        result = yield Stdin(str(number))
        if result.stdout == "2\n":
            return


def test_a_script_decides_how_far_a_job_goes(sandbox) -> None:
    [(_, outcome)] = sandbox.execute([ProgramJob("print(input())", numbers_until_two, TIGHT)])
    assert [result.stdout for result in outcome.runs] == ["0\n", "1\n", "2\n"]
    assert list(sandbox.execute([])) == []
    assert [outcome.runs for _, outcome in sandbox.execute([ProgramJob("", in_order(), TIGHT)])] == [()]


def broken() -> Script:
    yield Stdin("")
    raise ValueError("mine")


def test_a_script_that_raises_reaches_the_caller(sandbox) -> None:
    with pytest.raises(ValueError, match="mine"):
        list(sandbox.execute([ProgramJob("", broken, TIGHT)]))
    assert run(sandbox, "print(1)").stdout == "1\n"


def test_jobs_are_drawn_as_results_are_taken(sandbox) -> None:
    drawn = []

    def endless() -> Iterator[ProgramJob]:
        while True:
            drawn.append(1)
            yield ProgramJob("print(1)", ONCE, TIGHT)

    results = sandbox.execute(endless())
    for _ in range(10):
        next(results)
    results.close()
    assert len(drawn) <= 10 + 4 * 2


def test_several_threads_share_the_workers(sandbox) -> None:
    found: dict[int, list[str]] = {}

    def ask(thread: int) -> None:
        jobs = [ProgramJob(f"print({thread} * 100 + {index})", ONCE, TIGHT) for index in range(12)]
        found[thread] = [outcome.runs[0].stdout for _, outcome in sorted(sandbox.execute(jobs))]

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {t: [f"{t * 100 + index}\n" for index in range(12)] for t in range(4)}


# ---- inputs


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (Call("f", ((1, 2), {"a": {3}})), ((1, 2), {"a": {3}}, 1)),
        (Call("f", (b"x", 1j)), (b"x", 1j, 1)),
        (Call("C.f", (4,)), [4]),
        (Expression("f(x, g)[:2]", "x = C().f(2)\ng = len(x)"), ([2], 1)),
        (Trusted("def f(*a): return [a, 'own']", "f", (5,)), [(5,), "own"]),
    ],
)
def test_values_come_back_as_they_were(sandbox, given: Input, value: object) -> None:
    program = "class C:\n    def f(self, x): return [x]\ndef f(a, b): return a, b, 1\n"
    result = run(sandbox, program, given)
    assert (result.value, result.status) == (value, "ok")


# Looks for secret-NUMBER in all that a process can read of its memory, its server's remains included.
LOOK = """
import re
found = set()
with open('/proc/self/mem', 'rb', 0) as memory:
    for line in open('/proc/self/maps'):
        low, high = (int(part, 16) for part in line.split()[0].split('-'))
        if ' rw' in line:
            memory.seek(low)
            found.update(re.findall(rb'secret-([0-9]+)', memory.read(high - low)))
print(b'%d' in found)
"""


def sees(sandbox: Pool, number: int, before: ProgramJob) -> set[bool]:
    """Whether programs find secret-<number> in their memory after ``before`` ran in the same sandbox."""
    found = set()
    for _ in range(4):
        outcomes = list(sandbox.execute([before] * 2))
        assert all(outcome.runs[0].status == "ok" for _, outcome in outcomes)
        for _, outcome in sandbox.execute([ProgramJob(LOOK % number, ONCE, default_limits())] * 2):
            [result] = outcome.runs
            found.add({"True\n": True, "False\n": False}[result.stdout])
    return found


@pytest.mark.parametrize(
    ("program", "given"),
    [
        ("", Trusted("def f(): return 'secret-4711'", "f", ())),
        ("'secret-4711'", Stdin("")),  # another sample's program
        ("print('secret-' + str(4711))", Stdin("")),  # and what it printed, which may be the right answer
        ("def f(x): return x", Call("f", ("secret-4711",))),
    ],
    ids=["trusted", "program", "output", "call"],
)
def test_nothing_of_other_jobs_is_in_a_program_s_memory(sandbox, program: str, given: Input) -> None:
    assert sees(sandbox, 4711, ProgramJob(program, in_order(given), default_limits())) == {False}


def test_what_a_program_holds_itself_is_found(process) -> None:
    assert run(process, LOOK % 4711 + "# secret-4711", limits=default_limits()).stdout == "True\n"


@pytest.mark.parametrize(
    ("program", "status", "stdout"),
    [
        ("", "ok", ""),
        ("# " + "x" * 10_000_000 + "\nprint(1)", "ok", "1\n"),
        ("x = '\ud800'", "error", ""),
        ("print(1)\0", "error", ""),
        ("raise ValueError('\\ud800 \\xff \\0 \\n')", "error", ""),
        ("import sys\nsys.exit('\\udcff')", "error", ""),
        ("import os\nif os.fork() == 0: raise KeyError\nos.wait()\nprint(1)", "ok", "1\n"),
        ("class E(Exception):\n    def __str__(self): raise KeyboardInterrupt\nraise E", "error", ""),
    ],
    ids=[
        "empty",
        "ten-megabytes",
        "no-utf-8",
        "nul",
        "odd-message",
        "odd-exit",
        "child-that-raises",
        "message-that-raises",
    ],
)
def test_odd_programs(sandbox, program: str, status: str, stdout: str) -> None:
    result = run(sandbox, program, limits=default_limits())
    assert (result.status, result.stdout) == (status, stdout), result.detail


# ---- load


class Starved:
    """A link to no guest: every first ask runs out of time as one that waited for a core for ``waited`` seconds."""

    def __init__(self, waited: float | None) -> None:
        self.waited, self.answers = waited, ["wall_timeout", "ok"]

    def ask(self, header: object, body: bytes, seconds: float) -> tuple[dict[str, object], bytes]:
        header = {"status": self.answers.pop(0), "detail": "", "code": 0, "seconds": 1.0, "cpu": 0.1}
        return header | {"waited": self.waited, "spent": False, "sizes": [0, 0, 0]}, b""

    asked = 0

    def prepare(self, prelude: str) -> None: ...

    def done(self) -> None: ...

    def stop(self) -> None: ...

    def interrupt(self) -> None: ...


# The limit on elapsed time is 0.8 s and that on CPU time 0.3 s, for which its own processes may have kept it from a core.
@pytest.mark.parametrize(("waited", "status"), [(0.5, "ok"), (None, "ok"), (0.3, "wall_timeout")])
def test_a_program_that_waited_for_a_core_gets_a_second_chance(waited: float | None, status: str) -> None:
    with Pool(lambda: Starved(waited), 1) as pool:  # type: ignore[arg-type, return-value]
        assert run(pool, "").status == status


def test_a_second_chance_is_had_alone(process) -> None:
    order: list[str] = []
    gate = process._workers[0]._gate

    def beside() -> None:
        with gate.beside_others():
            order.append("beside")
            time.sleep(0.05)
            order.append("beside ends")

    with gate.beside_others():
        alone = threading.Thread(target=lambda: [order.append("alone") for _ in [0] if enter(gate, order)])
        alone.start()
        time.sleep(0.05)
        later = threading.Thread(target=beside)
        later.start()
        time.sleep(0.05)
        assert order == []  # one waits for us, the other for the one that waits
    alone.join()
    later.join()
    assert order == ["alone starts", "alone ends", "alone", "beside", "beside ends"]


def enter(gate, order: list[str]) -> bool:
    with gate.alone():
        order.append("alone starts")
        time.sleep(0.05)
        order.append("alone ends")
    return True


def test_load_fails_no_correct_program(sandbox) -> None:
    # 0.2 s of work, 0.8 s of time, and four busy processes on this machine's cores.
    work = "import time\nwhile time.process_time() < 0.2: pass\nprint(1)"
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * len(os.sched_getaffinity(0)))
    ]
    try:
        limits = Limits(cpu_seconds=2.0, wall_seconds=0.8)
        statuses = [outcome.runs[0].status for _, outcome in sandbox.execute([ProgramJob(work, ONCE, limits)] * 6)]
    finally:
        for one in busy:
            one.kill()
            one.wait()
    assert statuses.count("ok") >= 5, statuses  # alone means beside no other program, not beside no other process


# ---- lost workers, and what remains


def kill_inside(guest: Guest) -> None:
    """Kill a guest's sandbox from outside, as a crash would."""
    link: Link = guest.link
    if isinstance(link, ChildLink):
        os.kill(link.pid, signal.SIGKILL)
    else:
        link._client.api.kill(link.id)  # type: ignore[attr-defined]


def test_killed_worker_is_replaced_and_nothing_lost(sandbox) -> None:
    program = "import time\ntime.sleep(0.05)\nprint(input())"
    jobs = [ProgramJob(program, in_order(Stdin(str(index))), TIGHT) for index in range(16)]
    results = sandbox.execute(jobs)
    found = [next(results)]
    for guest in sandbox.guests:
        kill_inside(guest)
    found += list(results)
    assert {index: outcome.runs[0].stdout for index, outcome in found} == {index: f"{index}\n" for index in range(16)}


def test_nothing_remains_after_close(isolating: Sandbox) -> None:
    descriptors, before = len(os.listdir("/proc/self/fd")), threading.active_count()
    executor = open_executor(isolating)
    assert isinstance(executor, Pool)
    daemon = "import os, time\nif os.fork() == 0:\n    os.setsid(); time.sleep(61.5)"
    jobs = [ProgramJob(daemon, ONCE, TIGHT)] * 4 + [
        ProgramJob("import time\ntime.sleep(62.5)", ONCE, default_limits())
    ] * 2
    results = executor.execute(jobs)
    next(results)
    links = [guest.link for guest in executor.guests]
    started = time.monotonic()
    executor.close()
    executor.close()
    assert time.monotonic() - started < 3
    with pytest.raises(SandboxError, match="closed"):
        list(results)
    with pytest.raises(SandboxError, match="closed"):
        list(executor.execute(jobs))
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == (descriptors, before)
    assert [link for link in links if remains(link, isolating)] == []


def remains(link: Link, sandbox: Sandbox) -> bool:
    if isinstance(link, ChildLink):
        return Path(f"/proc/{link.pid}").exists()
    from archer.sandbox.docker import connect

    with contextlib.closing(connect(sandbox.docker_hosts[0])) as client:
        return link.id in [one.id for one in client.containers.list(all=True)]  # type: ignore[attr-defined]


HOST = """
import sys, time
from archer.sandbox import Sandbox, open_executor
from archer.sandbox.base import *
executor = open_executor(Sandbox(sys.argv[1], 2, tuple(sys.argv[2:])))
executor.execute([ProgramJob('while True: pass', in_order(Stdin('')), Limits())] * 2)
time.sleep(0.5)
print(*[getattr(guest.link, "pid", None) or guest.link.id for guest in executor.guests], flush=True)
time.sleep(60)
"""


def test_nothing_outlives_a_killed_host(isolating: Sandbox) -> None:
    command = [sys.executable, "-c", HOST, isolating.executor, *isolating.docker_hosts]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        names = host.stdout.readline().split()
        inside = [process for name in names for process in processes_of(name)]
        host.kill()
    assert len(names) == 2
    assert len(inside) >= 2
    deadline = time.monotonic() + 5
    while any(alive(pid) for pid in inside) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in inside if alive(pid)] == []


def processes_of(name: str) -> list[str]:
    """The host's numbers of the processes in a bubblewrap sandbox, or in a container on this machine."""
    if name.isdigit():
        return Path(f"/proc/{name}/task/{name}/children").read_text().split()
    found = []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):
            if name in path.read_text():
                found.append(path.parent.name)
    return found


def alive(pid: int | str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"  # init reaps in its own time
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_program_that_ends_its_sandbox_is_a_violation(process) -> None:
    result = run(process, "import os, time\nos.kill(os.getppid(), 9)\ntime.sleep(9)")
    assert (result.status, result.detail[:38]) == (
        "violation",
        "the program ended its sandbox twice; it"[:38],
    )
    assert run(process, "print(1)").stdout == "1\n"


def test_a_guest_is_replaced_at_the_end_of_its_life(process, monkeypatch) -> None:
    monkeypatch.setattr("archer.sandbox.pool.LIFE", 3)
    seen = [str(process.guests[0].link.pid) for _ in range(7) if run(process, "print(1)").stdout and process.guests]
    assert 1 < len(set(seen)) < 7


# ---- ours or the program's


class Played(Starved):
    """A link to no guest that answers as told: a status with an exit code, or an error to raise."""

    def __init__(self, *answers: tuple[str, int] | Exception) -> None:
        self.left, self.waited = list(answers), 0.0

    def ask(self, header: object, body: bytes, seconds: float) -> tuple[dict[str, object], bytes]:
        answer = self.left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, code = answer
        return {
            "status": status, "detail": "", "code": code, "seconds": 1.0, "cpu": 0.1, "waited": self.waited,
            "spent": False, "sizes": [2 * (status == "ok"), 0, 0],
        }, b"1\n" * (status == "ok")  # fmt: skip


def play(*starts: Played | Exception) -> ProgramRun:
    """Run a program in a pool whose sandboxes start as told, one after another."""
    left = list(starts)

    def spawn() -> Played:
        start = left.pop(0)
        if isinstance(start, Exception):
            raise start
        return start

    with Pool(spawn, 1) as pool:  # type: ignore[arg-type]
        return run(pool, "hostile")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archer.sandbox.pool.PAUSES", (0.0, 0.0, 0.0))


OK, LOST, BUSY = ("ok", 0), GuestLost("died"), GuestLost("host busy")


@pytest.mark.usefixtures("at_once")
def test_sandboxes_that_do_not_start_are_not_held_against_a_program() -> None:
    assert play(Played(LOST), BUSY, OSError("no descriptors"), Played(OK)).status == "ok"
    with pytest.raises(SandboxError, match="no sandbox starts, at 3 tries; the last one host busy"):
        play(Played(LOST), OSError("no descriptors"), RuntimeError("odd"), BUSY)
    with pytest.raises(SandboxError, match="the last one odd"):  # and no worker is silently missing
        play(*[RuntimeError("odd")] * 6)


@pytest.mark.usefixtures("at_once")
def test_only_a_sandbox_that_runs_a_trivial_program_tells_a_violation() -> None:
    assert play(Played(LOST), Played(LOST), Played(OK)).status == "violation"
    assert play(Played(LOST), Played(LOST), Played(LOST), BUSY, Played(OK)).status == "violation"
    with pytest.raises(
        SandboxError, match="trivial program does not run in a fresh sandbox, which ended it with error"
    ):
        play(Played(LOST), Played(LOST), Played(("error", 1), ("error", 1)))


def test_a_kill_from_outside_is_tried_again() -> None:
    assert play(Played(("error", -9), OK)).status == "ok"
    assert play(Played(("error", -9), ("error", -9))).exit_code == -9
    assert play(Played(("error", -11))).exit_code == -11


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def chance(gate: Gate, clock: Clock, seconds: float) -> bool:
    """Take a second chance of so many seconds; return whether it was had alone."""
    with gate.second_chance() as alone:
        clock.now += seconds
    return alone


def test_lone_runs_take_a_fifth_of_the_time() -> None:
    clock = Clock()
    gate = Gate(clock)
    assert chance(gate, clock, 54.0)
    for _ in range(5):
        assert not chance(gate, clock, 40.0)  # 200 s in all
    clock.now += 15.9
    assert not chance(gate, clock, 0.0)
    clock.now += 0.2  # 216 s after a lone run of 54 s
    assert chance(gate, clock, 1.0)
    assert not chance(gate, clock, 0.0)
    clock.now += 10_000.0  # time without any saves nothing up
    assert [chance(gate, clock, 25.0) for _ in range(5)] == [True] + [False] * 4


def test_of_a_burst_one_is_promised_a_lone_run() -> None:
    gate, modes, asked = Gate(), list[bool](), threading.Semaphore(0)

    def ask() -> None:
        asked.release()
        with gate.second_chance() as alone:
            modes.append(alone)

    with gate.beside_others():  # all 8 ask before any can run
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in threads:
            asked.acquire()
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    assert sorted(modes) == [False] * 7 + [True]


def test_a_lone_run_does_not_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archer.sandbox.gate.MOST_WAIT", 0.05)
    gate = Gate()
    with gate.beside_others(), gate.second_chance() as alone:
        assert alone


def test_second_runs_that_come_to_nothing_are_bounded() -> None:
    gate = Gate()
    for _ in range(9):
        assert gate.grants_more
        gate.count_wasted(3.0)  # 27 times the limit on elapsed time
    assert not gate.grants_more
    gate.count_first(12.0)
    assert gate.grants_more
    for _ in range(9):
        gate.count_first(1000.0)
    gate.count_wasted(24.1)  # first runs save nothing up
    assert not gate.grants_more


def test_a_burst_of_hogs_gets_no_more_than_the_bound() -> None:
    hogs = [Played(*[("wall_timeout", 0)] * 1000) for _ in range(8)]
    for hog in hogs:
        hog.waited = 0.7
    left, limits = list(hogs), Limits(cpu_seconds=0.3, wall_seconds=1.0)
    with Pool(left.pop, 8) as pool:  # type: ignore[arg-type]
        ended = [outcome.runs[0].status for _, outcome in pool.execute([ProgramJob("", ONCE, limits)] * 200)]
    assert ended == ["wall_timeout"] * 200
    # Each run takes 1 s, the limit: a quarter of the 200 first runs, 24 more, and what 8 workers had begun.
    assert 25 <= sum(1000 - len(hog.left) for hog in hogs) - 200 <= 50 + 24 + 8


@pytest.mark.parametrize(("kernel", "alone"), [("oom_kill 3\n", []), ("oom_kill 4\n", [True])])
def test_who_kills_himself_does_not_run_alone(kernel: str, alone: list[bool], monkeypatch, tmp_path) -> None:
    counters, modes = tmp_path / "vmstat", list[bool]()
    counters.write_text("nr_free_pages 9\noom_kill 3\n")
    monkeypatch.setattr("archer.sandbox.pool.Shortage", lambda: Shortage(counters))
    real = Gate.second_chance

    @contextlib.contextmanager
    def noted(gate: Gate) -> Iterator[bool]:
        with real(gate) as mode:
            modes.append(mode)
            yield mode

    monkeypatch.setattr(Gate, "second_chance", noted)
    left = [Played(("error", -9), OK)]
    with Pool(left.pop, 1) as pool:  # type: ignore[arg-type]
        counters.write_text(f"nr_free_pages 9\n{kernel}")
        assert run(pool, "hostile").status == "ok"
    assert modes == alone


def test_a_shortage_is_told_once(tmp_path) -> None:
    counters = tmp_path / "vmstat"
    counters.write_text("oom_kill 3\n")
    shortage = Shortage(counters)
    assert not shortage.is_new()
    counters.write_text("oom_kill 5\n")
    assert [shortage.is_new(), shortage.is_new()] == [True, False]
    assert not Shortage(tmp_path / "no such file").is_new()


def test_a_second_run_that_loses_its_sandbox_is_not_repeated() -> None:
    lost = play(Played(("error", -9), LOST), Played(OK))
    assert (lost.status, lost.exit_code) == ("error", -9)


def test_a_broken_prelude_and_an_oversized_input_are_ours(sandbox) -> None:
    with pytest.raises(SandboxError, match="does not run in a fresh sandbox|no sandbox starts"):
        run(sandbox, "print(1)", prelude="import not_there")
    with pytest.raises(
        DataError, match="an input of 33554433 bytes for standard input; a sandbox takes 33554432 at most"
    ):
        run(sandbox, "print(1)", "x" * (32 * 2**20 + 1))
    assert run(sandbox, "print(1)").stdout == "1\n"


class Mute:
    """A link on which a guest says that it is not isolated."""

    def __init__(self) -> None:
        text = b'{"python": "3.11.2", "isolated": false, "filtered": true}'
        self.left = struct.pack(">II", len(text), 0) + text

    def read_into(self, view: memoryview, deadline: float) -> int:
        view[:], self.left = self.left[: len(view)], self.left[len(view) :]
        return len(view)

    def end(self) -> None: ...


def test_a_guest_that_is_not_isolated_is_refused() -> None:
    with pytest.raises(GuestLost, match="is not process 1 of its sandbox, or its system calls are not filtered"):
        Guest(Mute())  # type: ignore[arg-type]
    assert Guest(Mute(), isolating=False).python == "3.11.2"  # type: ignore[arg-type]


def test_runs_need_not_be_kept(sandbox) -> None:
    job = ProgramJob("print(input())", numbers_until_two, TIGHT, keep_runs=False)
    assert [outcome for _, outcome in sandbox.execute([job])] == [Outcome((), None)]


# ---- Docker hosts


class Relay:
    """A Docker host that can go away: a socket that hands everything on to a real one."""

    def __init__(self, path: Path, host: str) -> None:
        self.url, self._target = f"unix://{path}", host.removeprefix("unix://")
        self._open: list[socket.socket] = []
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(path))
        self._door.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._door.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._target)
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(2**16):
                sink.sendall(chunk)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def die(self) -> None:
        for one in [self._door, *self._open]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


JOBS = [ProgramJob("import time\ntime.sleep(0.05)\nprint(input())", in_order(Stdin(str(n))), TIGHT) for n in range(24)]


@pytest.mark.docker
def test_a_docker_host_that_goes_away_leaves_its_work_to_the_others(docker_host, tmp_path) -> None:
    relay = Relay(tmp_path / "relay", docker_host)
    executor = open_executor(Sandbox("docker", 2, (relay.url, docker_host)))
    try:
        results = executor.execute(JOBS)
        found = [next(results)]
        relay.die()
        found += list(results)
    finally:
        executor.close()
    assert {index: outcome.runs[0].stdout for index, outcome in found} == {n: f"{n}\n" for n in range(24)}


@pytest.mark.docker
def test_the_last_docker_host_that_goes_away_is_our_error(docker_host, tmp_path) -> None:
    relay = Relay(tmp_path / "relay", docker_host)
    executor = open_executor(Sandbox("docker", 2, (relay.url,)))
    try:
        results = executor.execute(JOBS)
        next(results)
        relay.die()
        with pytest.raises(SandboxError, match=r"no sandbox starts, at 3 tries; the last one .*relay"):
            list(results)
    finally:
        executor.close()


@pytest.mark.docker
def test_containers_are_hardened(docker_host) -> None:
    from archer.sandbox.docker import DockerExecutor

    with DockerExecutor(1, (docker_host,)) as executor:
        [guest] = wait_for_guests(executor)
        seen = guest.link._client.api.inspect_container(guest.link.id)
    host = seen["HostConfig"]
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (
        "none",
        True,
        ["ALL"],
        False,
    )
    assert (host["PidsLimit"], host["Memory"], host["MemorySwap"]) == (64, 704 * 2**20, 704 * 2**20)
    assert "no-new-privileges" in host["SecurityOpt"][0]
    assert {"/sys", "/proc/sys", "/proc/stat", "/proc/1/stat", "/dev/zero"} < set(host["MaskedPaths"])
    assert (seen["Config"]["User"], seen["Mounts"]) == ("65534:65534", [])


def wait_for_guests(executor: Pool) -> tuple[Guest, ...]:
    run(executor, "print(1)")
    return executor.guests


@pytest.mark.docker
def test_limits_above_the_containers_are_refused(docker_host) -> None:
    from archer.sandbox.docker import DockerExecutor

    message = r"a job's limit of processes 200 is above its containers' 16; raise it in sandbox/limits.yaml"
    with DockerExecutor(1, (docker_host,)) as executor, pytest.raises(UserError, match=message):
        run(executor, "print(1)", limits=Limits(processes=200))


@pytest.mark.docker
def test_missing_docker_hosts_and_images_say_what_to_do(docker_host, tmp_path) -> None:
    from archer.sandbox.docker import DockerExecutor

    with pytest.raises(
        MissingError, match=r"Docker host unix:///nowhere.* does not answer .*apt-get install docker.io"
    ):
        open_executor(Sandbox("docker", 1, ("unix:///nowhere/docker.sock",)))
    with pytest.raises(MissingError, match=r"no image 'archer-nothing'; build it with `archer sandbox image`"):
        DockerExecutor(1, (docker_host,), image="archer-nothing")
    from archer.sandbox.image import build_image

    with pytest.raises(UserError, match=r"has no usr/bin/python3; make it with `debootstrap"):
        build_image(docker_host, tmp_path)


# ---- without a sandbox


@pytest.mark.parametrize(
    "attack", ["loop", "sleep", "memory", "flood", "segfault", "syntax", "exit_code", "stop_itself"]
)
def test_process_keeps_limits(process, attack) -> None:
    program, expected = HOSTILE[attack]
    assert run(process, program).status == expected
    assert run(process, "print(input())", "hello", default_limits()).stdout == "hello\n"


@pytest.mark.parametrize("style", ["input", "open0", "os_exit", "thread", "atexit", "file"])
def test_process_honest_program(process, style) -> None:
    result = run(process, BENIGN[style], "3 4\n5\n", default_limits())
    assert (result.status, result.stdout.strip()) == ("ok", "12")


def test_process_ends_daemons(process) -> None:
    program = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(63.5)\n    os._exit(0)\nos.wait()\nprint(1)"
    assert run(process, program).stdout == "1\n"
    lines = subprocess.run(
        ["ps", "-ww", "-eo", "ppid=,stat=,args="], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    [watcher] = [line for line in lines if line.split()[0] == str(process.guests[0].link.pid)]
    assert "runner.py" in watcher  # of the next job; no program is left


# ---- opening


def test_process_needs_consent() -> None:
    with pytest.raises(UserError, match=r"sandbox: process: .*--allow-unisolated"):
        open_executor(Sandbox("process", 1))


def test_unknown_executor() -> None:
    with pytest.raises(UserError, match="unknown executor 'bubblewarp' .did you mean 'bubblewrap'"):
        open_executor(Sandbox("bubblewarp", 1))
    with pytest.raises(UserError, match="at least one worker, or 0 for one a core, found -1"):
        open_executor(Sandbox("bubblewrap", -1))


def test_missing_bubblewrap(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="apt-get install bubblewrap"):
        open_executor(Sandbox("bubblewrap", 1))


def test_forbidden_namespaces(monkeypatch, tmp_path) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(MissingError, match=r"No permissions.*user namespaces are disabled.*sysctl"):
        open_executor(Sandbox("bubblewrap", 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cpu_second: 1", "unknown key 'cpu_second' .did you mean 'cpu_seconds'"),
        ("cpu_seconds: fast", "cpu_seconds: expected a positive float, found 'fast'"),
        ("processes: 1.5", "processes: expected a positive int, found 1.5"),
        ("processes: -1", "processes: expected a positive int, found -1"),
        ("- 1", "expected keys and numbers"),
    ],
)
def test_limits_file(tmp_path, text, message) -> None:
    (tmp_path / "limits.yaml").write_text(text)
    with pytest.raises(UserError, match=f"limits.yaml: {message}"):
        load_limits(tmp_path / "limits.yaml")


def test_limits_shipped_are_the_defaults() -> None:
    assert default_limits() == Limits()


def test_importing_is_light() -> None:
    code = "import sys, archer.sandbox; print([m for m in ('torch', 'yaml', 'numpy') if m in sys.modules])"
    python = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert python.stdout == "[]\n"
