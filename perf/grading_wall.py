"""How long grading a whole evaluation takes: 30 x 64 AIME answers, 279 x 8 programs of LiveCodeBench.

    python perf/grading_wall.py --aime AIME24.jsonl --problems LCB.jsonl --programs PROGRAMS.jsonl --record

AIME: half of each problem's responses are worked solutions with its own answer, half those of other problems.
Programs: one real program for each problem (rows with question_id and code), each sample its own text, so that none is
graded once for all; the tests are those that the problems' rows hold.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from common import keep

from archer.evaluation.benchmark import read_benchmark
from archer.evaluation.loaded import located
from archer.problems.rows import read_json
from archer.problems.streams import read_problems
from archer.rewards.grading import Grader
from archer.sandbox import Sandbox, open_executor
from archer.types import Json, Problem, Rollout


def main() -> None:
    """Grade both and print, or record, the wall time."""
    options = read_options()
    record: dict[str, Json] = {"measurements": []}
    with Grader(options.workers, 5, open_executor(Sandbox("bubblewrap", options.workers))) as grader:
        for name, rollouts in (
            ("aime24", aime(options.aime)),
            ("lcb-v5", programs(options.problems, options.programs)),
        ):
            begin = time.perf_counter()
            verdicts = grader(rollouts)
            seconds = time.perf_counter() - begin
            reasons = Counter(verdict.reason for verdict in verdicts)
            one = {"benchmark": name, "graded": len(rollouts), "seconds": round(seconds, 2), "reasons": dict(reasons)}
            record["measurements"].append(one)
            print(json.dumps(one), flush=True)
    if options.record:
        print(f"Record: {keep('grading', record)}")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aime", type=Path, required=True, help="AIME 2024 with worked solutions")
    parser.add_argument("--problems", type=Path, required=True, help="LiveCodeBench rows")
    parser.add_argument("--programs", type=Path, required=True, help="rows of question_id and code")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--record", action="store_true", help="write leaderboards/perf/")
    return parser.parse_args()


def aime(path: Path) -> list[Rollout]:
    """Return 64 responses a problem; every wrong one has an answer of its own."""
    benchmark = located("aime24", {"aime24": path})
    problems = read_problems(benchmark.data, benchmark.problems)
    thoughts = [row["reference_solution"] for row in read_json(path)]
    found = []
    for place, problem in enumerate(problems):
        for sample in range(benchmark.samples):
            answer = problem.gold if sample % 2 else str((int(problem.gold) + sample + 1) % 1000)
            text = f"<think>\n{thoughts[(place + sample) % len(thoughts)]}\n</think>\nIt is \\boxed{{{answer}}}."
            found.append(rollout(problem, sample, text))
    return found


def programs(problems: Path, solutions: Path) -> list[Rollout]:
    """Return the real program of each problem of the window, 8 times."""
    benchmark = read_benchmark("lcb-v5")
    source = replace(benchmark.data, path=str(problems), files=())
    codes = {str(row["question_id"]): row["code"] for row in read_json(solutions)}
    return [
        rollout(problem, sample, f"```python\n{codes[problem.id.split('/', 1)[1]]}\n# sample {sample}\n```")
        for problem in read_problems(source, benchmark.problems)
        for sample in range(benchmark.samples)
    ]


def rollout(problem: Problem, sample: int, text: str) -> Rollout:
    """Return a response as an engine would."""
    return Rollout.of_text(problem, text, sample=sample)


if __name__ == "__main__":
    main()
