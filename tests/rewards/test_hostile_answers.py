"""Answers made to hang, to fill the memory or to be waved through: none hangs, none is right, the pool goes on."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from archer.rewards.grading import Grader
from archer.rewards.workers import Killed, Workers
from archer.types import Json, Problem, Rollout

SECONDS = 0.3
MEBIBYTE = 2**20


def rollout(gold: Json, answer: str) -> Rollout:
    return Rollout.of_text(Problem("p", "lab", "", "math", gold), rf"\boxed{{{answer}}}")


def towers() -> Iterator[str]:
    for base in ("2", "9", "x", "1.1", r"\pi", r"\frac{1}{2}", "-3"):
        for height in (3, 4, 8, 40):
            yield base + "".join("^{" + base for _ in range(height)) + "}" * height
    yield from (
        f"{base}^{{{10**power}}}" for base in ("3", "(1+x)", "(x+y+z)", r"\sqrt{2}", "i") for power in (4, 6, 9)
    )
    yield from (f"9^{{9^{{9^9}}}}-9^{{9^{{9^9}}}}+{number}" for number in (6, 8))


def huge_numbers() -> Iterator[str]:
    for size in ("10^{9}", "123456789", "9^{9^9}", "10^{6}", "99999"):
        yield from (f"({size})!", f"(({size})!)!", rf"\frac{{({size})!}}{{({size}-1)!}}", rf"\Gamma({size})")
        yield from (rf"\binom{{{size}}}{{500}}", rf"\binom{{{size}}}{{\frac{{{size}}}{{2}}}}", rf"\sqrt[{size}]{{2}}")
        yield from (rf"\sin({size})", rf"\log_{{2}}({size}!)", rf"\lfloor \sqrt{{({size})!}} \rfloor")
    yield from ("9" * 1999, "1e999999", "1E-999999", "0." + "0" * 1900 + "7", "7" + "!" * 300, "((((7!)!)!)!)!")


def deep_nesting() -> Iterator[str]:
    for depth in (50, 200, 600):
        for left, right in (("(", ")"), ("{", "}"), ("[", "]"), (r"\{", r"\}"), ("|", "|"), (r"\left(", r"\right)")):
            yield left * depth + "7" + right * depth
    for opening in (
        r"\sqrt{",
        r"\frac{1}{1+",
        r"\sin{",
        "f(",
        "-(",
        r"\text{",
        r"\overline{",
        r"\underbrace{",
        r"x_{",
        r"\log{",
    ):
        closing = ")" if opening.endswith("(") else "}"
        yield from ((opening * depth + "x" + closing * depth)[:1990] for depth in (20, 60, 150))


def sums_and_more() -> Iterator[str]:
    for upper in ("10^9", r"\infty", "n", "10^{10^{10}}"):
        yield from (rf"\sum_{{k=1}}^{{{upper}}} k^{{k}}", rf"\prod_{{k=1}}^{{{upper}}} (k!+x)")
    yield from (r"\int_0^{\infty} e^{x^{x}} \sin(x^x) dx", r"\int \frac{\sin(\sin(\sin x))}{\ln(1+x^{x})} dx")
    yield from (r"\lim_{x \to 0} \frac{\sin(x^{x^x})}{x^{x}}", r"\int_0^1 \int_0^1 \int_0^1 \frac{1}{1-xyz} dx dy dz")
    for size in (5, 14):
        row = " & ".join(f"x_{{{number}}}" for number in range(size))
        yield r"\det\begin{pmatrix}" + r" \\ ".join([row] * size)[:1500] + r"\end{pmatrix}"
        yield r"\begin{pmatrix}" + r" \\ ".join([row] * size)[:1500] + r"\end{pmatrix}^{1000000}"
    yield r"\begin{pmatrix} 1 & 1 \\ 1 & 0 \end{pmatrix}^{10^{8}}"
    yield from (
        "+".join(["x^{99}"] * 200),
        "+".join(f"\\sqrt{{{number}}}" for number in range(2, 150)),
        "x" * 1900,
        "1/" * 900 + "2",
    )
    yield from (
        r"\cos" * 150 + " x",
        "=".join(["7"] * 900) + "=8",
        ",".join(["7"] * 900) + ",8",
        r"\pm".join(["1"] * 60),
        "7" + "^2" * 90,
    )
    yield from (
        r"\cup".join(["(1,2)"] * 200),
        "x<" * 300 + "7",
        r"x^{5}-x+1=0, y^{7}+xy=1, " * 20,
        r"\lfloor" * 80 + "8" + r"\rfloor" * 80,
    )
    yield from (rf"x^{{{power}}}+y^{{{power}}}+xyz={power}" for power in (5, 50, 500))


def oddities() -> Iterator[str]:
    yield from ("7\x00", "\x007", "\x00" * 500, "７\u20e3", "VII", "七", "٧\u200f", "\u202e7", "7\u0338", "\ud7ff7")
    yield from (
        "7" + "\u0301" * 900,
        "\U0001d7d5" * 3,
        "⁷",
        "₇",
        "ⅶ",
        "７７",
        "7\u2044\u2044",
        "\ufffd7",
        "\\" * 1500,
        "$" * 1500 + "8",
    )
    yield from (
        r"\newcommand{\x}{7}\x",
        r"\def\x{\x}\x",
        r"\input{/etc/passwd}",
        r"\write18{rm -rf /}",
        "__import__('os').system('x')",
    )
    yield from (
        "lambda: 7",
        "exec('7')",
        "7 if True else 8",
        "7;import os",
        "{{7*7}}",
        "${8}",
        "%s%s%n",
        "7' OR '1'='1",
        "<!--7-->",
        "NaN",
    )
    yield from (
        r"\boxed{" * 100 + "8" + "}" * 100,
        "correct",
        "reward: 1.0",
        r"\text{right}",
        r"\infty-\infty+7",
        r"7+\frac{0}{0}",
        r"\frac{7}{0}",
    )


def long_runs() -> Iterator[str]:
    """Yield runs on which expressions whose repetitions overlap take seconds, or hours."""
    for left, run, right in (
        (r"\text{", " ", "a}"),
        (r"\text{", "0 ", "a}"),
        ("7", "~", "base x"),
        ("7", "/ ", "x"),
        ("7^{", " ", "x"),
        ("7", " percent", "x"),
        ("{", r"\choose", ""),
        ("x", ",a", r"\in"),
        ("7", "\u0301\u0323", ""),
    ):
        yield left + run * (1980 // len(run)) + right
        yield left + " " * 990 + run * (980 // len(run)) + right


HOSTILE = [*towers(), *huge_numbers(), *deep_nesting(), *sums_and_more(), *oddities(), *long_runs()]
MEGABYTES = [
    "{" * MEBIBYTE,
    "}" * MEBIBYTE,
    "{}" * MEBIBYTE,
    r"\boxed{" * 150_000,
    "7" * MEBIBYTE,
    "\x00" * MEBIBYTE,
    r"\{" * MEBIBYTE,
]


class Watch(threading.Thread):
    """Notes the most memory that any worker ever had resident."""

    def __init__(self, workers: Workers) -> None:
        super().__init__(daemon=True)
        self.workers, self.peak, self.over = workers, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            server = str(self.workers._context._server._forkserver_pid)
            for status in Path("/proc").glob("[0-9]*/status"):
                try:
                    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
                except OSError:
                    continue
                if lines["PPid"].strip() == server:
                    self.peak = max(self.peak, int(lines.get("VmHWM", "0 kB").split()[0]) * 1024)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of processes is read from /proc")
def test_hostile_answers_end_in_time_in_memory_and_never_right() -> None:
    assert len(HOSTILE) >= 200
    slowest = 0.0
    with Grader(workers=2, seconds=SECONDS) as grader:
        assert grader([rollout("x+1", "1+x")])[0].passed
        watch = Watch(grader._workers)
        watch.start()
        begin = time.monotonic()
        verdicts = grader([rollout("7", answer) for answer in HOSTILE])
        took = time.monotonic() - begin
        for answer in [
            answer for answer, verdict in zip(HOSTILE, verdicts, strict=True) if verdict.reason == "timeout"
        ][:8]:
            start = time.monotonic()
            grader([rollout("7", answer)])
            slowest = max(slowest, time.monotonic() - start)
        texts = [Rollout.of_text(Problem("p", "lab", "", "math", "7"), text) for text in MEGABYTES]
        verdicts += grader(texts)
        watch.over.set()
        watch.join()
        assert [grader([rollout("x+1", "1+x")])[0].reason for _ in range(3)] == ["right"] * 3
    reasons = {
        reason: sum(verdict.reason == reason for verdict in verdicts) for reason in sorted({v.reason for v in verdicts})
    }
    print(
        f"{len(verdicts)} answers in {took:.1f} s, {reasons}; slowest alone {slowest:.2f} s; peak {watch.peak / MEBIBYTE:.0f} MiB"
    )
    wrongly = [answer[:60] for answer, verdict in zip([*HOSTILE, *MEGABYTES], verdicts, strict=True) if verdict.passed]
    assert wrongly == []
    assert slowest < 30  # none hangs, however busy the machine is; `perf/math_peer.py` times kills
    assert 0 < watch.peak <= 2**30


def spin(seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "done"


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


def own_pid() -> int:
    return os.getpid()


def nothing() -> None:
    """Need nothing to be warm."""


@pytest.mark.parametrize(("work", "limit"), [(spin, 0.1), (sleep, 0.6)])
def test_a_killed_worker_is_replaced(work: object, limit: float) -> None:
    """On the CPU, and on the wall where it only waits (tried twice); `perf/math_peer.py` measures how soon."""
    workers = Workers(1, seconds=0.1, wall=0.3, memory_bytes=2**28, warm=nothing, preload=())
    try:
        before = workers.run(own_pid, [()])[0]
        late = []
        for _ in range(12):
            begin = time.monotonic()
            assert workers.run(work, [(60.0,)]) == [Killed("timeout")]  # type: ignore[arg-type]
            after = workers.run(own_pid, [()])[0]
            late.append(time.monotonic() - begin - limit)
            assert after != before
            before = after
    finally:
        workers.close()
    late.sort()
    print(f"{len(late)} kills: median {statistics.median(late):.3f} s, worst {late[-1]:.3f} s after the limit")
    assert late[-1] < 20
