"""Answers judged a second, archer (worker processes included) beside bare math-verify; and where they differ.

    python perf/math_peer.py --data DATA --record
    python perf/math_peer.py --disagree OUT/samples/aime24.jsonl --rows aime24=AIME24.jsonl    # of `archer eval`
    python perf/math_peer.py --disagree RESPONSES.jsonl                                      # rows with their gold

Responses are made of real ones: worked solutions and golds of the benchmarks, each also put to another problem's gold.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from common import keep, peers

from archer.evaluation.loaded import load_benchmark, read_data
from archer.rewards.grading import Grader
from archer.rewards.math import MathReward, boxed
from archer.system import cores
from archer.types import Problem, Rollout

Pair = tuple[Any, str]  # a gold and a response


def main() -> None:
    """Measure, or report disagreements."""
    options = read_options()
    if options.disagree:
        print(disagreements(list(stored(options.disagree, golds(options.rows))), options.examples))
        return
    if not options.data:
        raise SystemExit("name the folder with math/ and verdicts/ by --data")
    record = measure(options)
    print(page(record))
    if options.record:
        print(f"\nRecord: {keep('math', record)}")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="the folder that has math/ and verdicts/")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--count", type=int, default=1500, help="responses a round; no round repeats one")
    parser.add_argument("--record", action="store_true", help="write leaderboards/perf/")
    parser.add_argument("--disagree", type=Path, help="stored samples, or rows with gold and text or answer")
    parser.add_argument("--rows", action="append", default=[], help="what samples are of: NAME=PATH, or a lab NAME")
    parser.add_argument("--examples", type=int, default=3, help="of each kind of disagreement")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Let both judge each round's responses, in turn; the first part of the responses warms them up."""
    works = {
        "responses": parts(responses(Path(options.data)), options),
        "no plain numbers": parts([pair for pair in responses(Path(options.data)) if not is_plain(pair)], options),
        "plain numbers": parts(numbers((options.rounds + 1) * options.count), options),
    }
    record: dict[str, Any] = {
        "workers": options.workers, "rounds": options.rounds, "cores": cores(),
        "peer": f"math-verify {peers('math-verify')['math-verify']}, one process", "measurements": [],
    }  # fmt: skip
    record["kills"] = kills()
    with Grader(options.workers, seconds=3) as grader, ProcessPoolExecutor(1) as peer:
        for work, rounds in works.items():
            for number, pairs in enumerate(rounds):
                for who, rates in (
                    ("archer", ours(grader, pairs)),
                    ("math-verify", peer.submit(theirs, pairs).result()),
                ):
                    one = {"round": number, "work": work, "who": who, "of": len(pairs), **rates}
                    if number:
                        record["measurements"].append(one)
                        print(json.dumps(one), flush=True)
    return record


def kills(count: int = 100, limit: float = 0.2) -> dict[str, float]:
    """Return how long after its limit an answer's worker is dead and another has judged the next answer, in seconds."""
    late = []
    with Grader(1, limit) as grader:
        grader([rollout("x", "\\boxed{x+0}")])
        for number in range(count):
            begin = time.perf_counter()
            bomb = grader([rollout("7", f"\\boxed{{\\binom{{{10**8 + number}}}{{{5 * 10**7}}}}}")])
            after = grader([rollout("x+1", f"\\boxed{{x+{number + 2}-{number + 1}}}")])
            assert (bomb[0].reason, after[0].reason) == ("timeout", "right"), (bomb, after)
            late.append(time.perf_counter() - begin - limit)
    late.sort()
    return {"count": count, "median": statistics.median(late), "p99": late[-2], "worst": late[-1]}


def rollout(gold: Any, text: str) -> Rollout:
    """Return a response as an engine would."""
    return Rollout.of_text(Problem("p", "s", "", "math", gold), text)


def parts(pairs: list[Pair], options: argparse.Namespace) -> list[list[Pair]]:
    """Deal the responses to the rounds, one more than are counted."""
    random.Random(0).shuffle(pairs)
    size = min(options.count, len(pairs) // (options.rounds + 1))
    return [pairs[at * size : (at + 1) * size] for at in range(options.rounds + 1)]


def responses(data: Path) -> list[Pair]:
    """Return real golds with real responses: as many right as wrong ones."""
    solved = [(boxed(row["solution"]), row["solution"]) for row in rows(data / "math" / "minerva.jsonl")]
    for name, column in (("aime24", "reference_solution"), ("aime25", "reference_solution")):
        solved += [(row["expected_answer"], row[column]) for row in rows(data / "math" / f"{name}.jsonl")]
    for name in ("math500.json", "math_train.json"):
        solved += [
            (row["answer"], f"{row['problem']}\n\\boxed{{{row['answer']}}}") for row in rows(data / "math" / name)
        ]
    olympiad = rows(data / "math" / "olympiadbench.jsonl")
    solved += [(row["final_answer"][0], f"{row['question']}\n\\boxed{{{row['final_answer'][0]}}}") for row in olympiad]
    pairs = rows(data / "verdicts" / "math_verify_pairs.jsonl")
    told = [(row["gold"], row["pred"]) for row in pairs if "boxed" in row["pred"] and len(row["gold"]) < 200]
    solved = [(gold, text) for gold, text in solved if gold and boxed(text) is not None]
    others = random.Random(1).sample(solved, len(solved))
    return [*solved, *told, *((gold, text) for (gold, _), (_, text) in zip(solved, others, strict=True))]


def rows(path: Path) -> list[dict[str, Any]]:
    """Read JSON or JSON lines."""
    text = path.read_text()
    table: list[dict[str, Any]] = (
        json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    )
    return table


def numbers(count: int) -> list[Pair]:
    """Return plain golds with plain answers, half of them right."""
    draw = random.Random(2)
    golds = [draw.choice((str(n), f"-{n}", f"{n}/7", f"{n}.25", f"{n},{n % 900 + 100}")) for n in range(1, count + 1)]
    return [(gold, f"So it is \\boxed{{{gold if draw.random() < 0.5 else draw.choice(golds)}}}.") for gold in golds]


def is_plain(pair: Pair) -> bool:
    """Say whether the verdict needs no worker."""
    return MathReward().is_plain(pair[0], MathReward().extract(pair[1]))


def ours(grader: Grader, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Judge as training does."""
    rollouts = [rollout(gold, text) for gold, text in pairs]
    begin = time.perf_counter()
    verdicts = grader(rollouts)
    took = time.perf_counter() - begin
    reasons = dict(Counter(verdict.reason for verdict in verdicts))
    return {"per_second": len(pairs) / took, "right": reasons.get("right", 0), "reasons": reasons}


def theirs(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Judge with math-verify alone, in this process's main thread, time-outs as it sets them."""
    begin = time.perf_counter()
    right = sum(bare(gold, text) for gold, text in pairs)
    return {"per_second": len(pairs) / (time.perf_counter() - begin), "right": right}


def bare(gold: Any, text: str) -> bool:
    """Ask math-verify, the gold in dollars where it has none."""
    from math_verify import parse, verify

    golds = ", ".join(gold) if isinstance(gold, list) else gold
    return bool(verify(parse(golds if "$" in golds or "boxed" in golds else f"${golds}$"), parse(text)))


def page(record: dict[str, Any]) -> str:
    """Return medians over rounds, as markdown."""
    late = record["kills"]
    lines = [
        f"{late['count']} kills: median {late['median']:.2f} s, p99 {late['p99']:.2f} s, worst {late['worst']:.2f} s",
        "",
        "| work | archer/s (range) | math-verify/s (range) | right of judged: archer, math-verify |",
        "|---|---|---|---|",
    ]
    for work in dict.fromkeys(one["work"] for one in record["measurements"]):
        cells, right = [], []
        for who in ("archer", "math-verify"):
            found = [one for one in record["measurements"] if (one["work"], one["who"]) == (work, who)]
            rates = [one["per_second"] for one in found]
            cells.append(f"{statistics.median(rates):.0f} ({min(rates):.0f}-{max(rates):.0f})")
            right.append(str(sum(one["right"] for one in found)))
        lines.append(f"| {work} | {cells[0]} | {cells[1]} | {', '.join(right)} of {sum(one['of'] for one in found)} |")
    return "\n".join(lines)


def golds(rows: Sequence[str]) -> dict[str, Any]:
    """Return the golds of benchmarks' problems by their ids; those of the lab need no path."""
    data = read_data([row for row in rows if "=" in row])
    names = [row.partition("=")[0] for row in rows]
    return {problem.id: problem.gold for name in names for problem in load_benchmark(name, data=data).problems}


def stored(path: Path, known: Mapping[str, Any]) -> Iterator[Pair]:
    """Yield golds and responses of stored rows; an ``answer`` without a text is put in a box.

    A sample of `archer eval` names its problem, whose gold is known. Exits where a row has no gold.
    """
    for number, row in enumerate(rows(path), 1):
        if "problem" not in row and "gold" not in row:
            continue  # the line that says what drew the samples after it
        if "gold" not in row and row["problem"] not in known:
            raise SystemExit(f"{path}: row {number}: no gold of {row['problem']}; name its rows by --rows NAME=PATH")
        text = row.get("text", row.get("response", row.get("pred")))
        gold = row["gold"] if "gold" in row else known[row["problem"]]
        yield gold, text if text is not None else f"\\boxed{{{row['answer']}}}"


def disagreements(pairs: list[Pair], examples: int) -> str:
    """Return, as markdown, how often string match, fast path, math-verify and archer differ, with examples."""
    kinds: dict[tuple[str, ...], list[Pair]] = {}
    for gold, text in pairs:
        kinds.setdefault(opinions(gold, text), []).append((gold, text))
    lines = [
        f"{len(pairs)} responses",
        "",
        "| string match | fast path | math-verify | archer | responses | for example: gold, answer |",
    ]
    lines.append("|---|---|---|---|---|---|")
    for kind, found in sorted(kinds.items(), key=lambda item: -len(item[1])):
        shown = "; ".join(
            f"`{str(gold)[-40:]}`, `{(boxed(text) or text[-40:])[:40]}`" for gold, text in found[:examples]
        )
        differ = len(set(kind) - {"-"}) > 1
        lines.append(f"| {' | '.join(kind)} | {len(found)} | {shown.replace('|', chr(92) + '|') if differ else ''} |")
    return "\n".join(lines)


def opinions(gold: Any, text: str) -> tuple[str, ...]:
    """Return the four verdicts: right, wrong, or - where the fast path leaves it to the algebra."""
    judge, answer = MathReward(), MathReward().extract(text)
    fast = judge.judge(gold, answer).passed if judge.is_plain(gold, answer) else None
    same = answer is not None and str(gold).strip().strip("$") == answer.strip().strip("$")
    names = {True: "right", False: "wrong", None: "-"}
    return tuple(names[verdict] for verdict in (same, fast, bare(gold, text), judge.judge(gold, answer).passed))


if __name__ == "__main__":
    main()
