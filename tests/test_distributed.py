"""Two real processes: what travels, what disagrees, and how long a lost one is waited for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from archer.distributed import Ranks

SCRIPT = """
import os, sys, time
from contextlib import ExitStack
from archer.engines.scripted import ScriptedEngine
from archer.engines.over_ranks import GeneratorOverRanks
from archer.engines.queue import FixedQueue, closed_after
from archer.errors import ArcherError
from archer.distributed import join_ranks
from archer.types import Request, Problem, Sampling

with ExitStack() as stack:
    ranks = join_ranks(float(os.environ["SECONDS"]), stack)
    ranks.where = "step 3"
    try:
        {work}
    except ArcherError as error:
        print(type(error).__name__, error)
"""


def run(work: str, seconds: float = 60.0) -> list[str]:
    """What each of two ranks prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(work=work.replace("\n", "\n        "))],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
                 "MASTER_PORT": str(port), "SECONDS": str(seconds), "OMP_NUM_THREADS": "1"},
        )
        for rank in (0, 1)
    ]  # fmt: skip
    return [process.communicate(timeout=120)[0].strip() for process in processes]


def test_objects_travel_in_the_order_of_ranks() -> None:
    told = run("print(ranks.gather('x', {'a': ranks.rank}), ranks.broadcast('y', 7 + ranks.rank), ranks.main)")
    assert told == ["[{'a': 0}, {'a': 1}] 7 True", "[{'a': 0}, {'a': 1}] 7 False"]


def test_ranks_that_were_started_with_other_values_are_told_so_on_each() -> None:
    told = run("ranks.agree('a run', {'seed': ranks.rank}, 'start the same command on every rank')")
    assert (
        told
        == ["UserError rank 1 has a run {'seed': 1}, rank 0 has {'seed': 0}; start the same command on every rank"] * 2
    )


def test_a_rank_that_does_not_come_is_named_with_where_it_stands() -> None:
    waiting, sleeping = run(
        "if ranks.rank: ranks.report_position('sleeping'); time.sleep(8)\nelse: ranks.barrier('groups')", 3.0
    )
    assert waiting.startswith("RankError rank 0 of 2: step 3: groups: failed after 3.")
    assert "rank 1: step 3: sleeping, for 3 s" in waiting
    assert "The same command goes on from the last checkpoint" in waiting
    assert sleeping == ""


def test_a_rank_that_died_is_noticed_at_once() -> None:
    left, _ = run("if ranks.rank: os._exit(9)\nelse: ranks.barrier('groups')")
    assert left.startswith("RankError rank 0 of 2: step 3: groups: failed after ")
    assert "of at most 60 s" in left


def test_an_evaluation_is_shared_and_each_sample_answered_once() -> None:
    work = (
        "asks = [Request(Problem(str(n), 's', 'p', 'math', '1'), k, 5) for n in range(3) for k in range(3)]\n"
        "spread = GeneratorOverRanks(ScriptedEngine(lambda problem, sample: f'{problem.id}.{sample} by rank {ranks.rank}'), ranks)\n"
        "heard = spread.lead(lambda engine: list(engine.generate(FixedQueue(asks), Sampling()))) or []\n"
        "print(sorted(one.text for one in heard))"
    )
    expected = [f"{n // 3}.{n % 3} by rank {n % 2}" for n in range(9)]
    assert run(work) == [str(expected), "[]"]


def test_an_evaluation_that_stops_early_lets_the_other_ranks_go_on() -> None:
    work = (
        "asks = [Request(Problem('p', 's', 'p', 'math', '1'), k, 5) for k in range(8)]\n"
        "spread = GeneratorOverRanks(ScriptedEngine(lambda problem, sample: str(sample)), ranks)\n"
        "def twice(engine):\n"
        "    with closed_after(engine.generate(FixedQueue(asks), Sampling())) as rollouts:\n"
        "        first = next(rollouts)\n"
        "    return first.text, sorted(one.text for one in engine.generate(FixedQueue(asks), Sampling()))\n"
        "print(spread.lead(twice))"
    )
    assert run(work) == [str(("0", [str(k) for k in range(8)])), "None"]


def test_one_process_needs_nobody() -> None:
    alone = Ranks()
    assert (alone.gather("x", 1), alone.broadcast("x", 2), alone.main) == ([1], 2, True)
    with alone.deadline("x"), pytest.raises(RuntimeError, match="own"):
        raise RuntimeError("its own error stays what it is: own")
