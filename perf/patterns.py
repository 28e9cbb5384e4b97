"""How long the slowest text keeps each regular expression that meets a response, and what calls them in the host.

    python perf/patterns.py                                # at 1 MB: about a minute
    python perf/patterns.py --only wording --size 65536

The texts are those of `attack_strings.py`. All are tried at some length, and the slowest of them at greater ones.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

from attack_strings import Attack, attacks, fragments
from common import keep, table
from expressions import expressions

from archer.algorithms.shaping import repetition_ratio
from archer.rewards.choice import ChoiceReward
from archer.rewards.code import last_program
from archer.rewards.countdown import CountdownReward
from archer.rewards.exact import ExactReward
from archer.rewards.format import thinks
from archer.rewards.last_number import LastNumberReward
from archer.rewards.math import MathReward
from archer.rewards.mathematics.answers import boxed, last_boxed, members
from archer.rewards.mathematics.wording import squeezed, tidy
from archer.types import Problem

MEGABYTE = 2**20
SECONDS = 10.0  # of CPU, at most for MEGABYTE: ten times what a linear expression needs; one that is not needs hours
FEWEST = 4096  # characters: for fewer, the limit is that of so many, as a call may be interrupted
KEPT = {720: 60, 5760: 8, 46080: 1}  # characters of each round but the last, and how many of the slowest go on
WORDS = (
    "`", "```", "```python\n", "x", " ", "\t", "\n", "0", "1,000", "{", "}", "(", ")", "\\", r"\{", r"\boxed{",
    r"\boxed", r"\text{", r"\frac{", "<think>", "</think>", "$", ",", ";", " and ", "=", "^", ".", "½", "~",
)  # fmt: skip
Call = Callable[[str], object]
FRAMES = (("", ""), (r"\text{", "a}"))
REWARD, ANY = MathReward(), MathReward(find=("box", "latex", "expr"))


def plain(gold: str | list[str], answer: str) -> None:
    """Judge an answer as the host does: only if it is plain."""
    if REWARD.is_plain(gold, answer):
        REWARD.judge(gold, answer)


def problem(gold: str) -> Problem:
    """Return a problem that has only a gold."""
    return Problem("p", "perf", "", "", gold)


def squeezed_anew(text: str) -> str:
    """Squeeze, and tidy, a text that is in no cache."""
    tidy.cache_clear()
    return squeezed.__wrapped__(text)


RESPONSES: dict[str, Call] = {  # what the host does with a whole response
    "code: last_program": last_program,
    "math: boxed": boxed,
    "math: extract, find all": ANY.extract,
    "countdown: last_boxed": last_boxed,
    "shaping: repetition_ratio": repetition_ratio,
    "choice": lambda text: ChoiceReward()(problem("B"), text),
    "last_number": lambda text: LastNumberReward()(problem("7"), text),
    "exact": lambda text: ExactReward()(problem("x"), text),
    "format: thinks": thinks,
}
ANSWERS: dict[str, Call] = {  # and with an answer, which has `longest` characters at most
    "wording: squeezed": squeezed_anew,
    "answers: members": members,
    "math: is_plain, judge": lambda text: plain("7", text),
    "math: is_plain, judge, two golds": lambda text: plain(["7", "8"], text),
    "countdown: judge": lambda text: CountdownReward().judge({"numbers": [3, 4], "target": 7}, text),
}


def main() -> None:
    """Measure everything and print, or record, the seconds."""
    options = read_options()
    rows = [
        (name, *found.attack, found.size, round(found.seconds, 3))
        for name, act, tries, size in measured(options.size)
        if options.only in name
        for found in [slowest(act, tries, size)]
    ]
    head = ("where", "slowest: head", "runs of", "tail", "characters", "seconds")
    print(table(head, [[cell if type(cell) in (int, float) else ascii(cell) for cell in row] for row in rows]))
    if options.record:
        print(f"Record: {keep('patterns', {'rows': [dict(zip(head, row, strict=True)) for row in rows]})}")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=MEGABYTE, help="characters")
    parser.add_argument("--only", default="", help="part of the names to measure")
    parser.add_argument("--record", action="store_true", help="write leaderboards/perf/")
    return parser.parse_args()


def measured(size: int) -> Iterator[tuple[str, Call, Iterable[Attack], int]]:
    """Yield name, call, texts and length of everything that is measured."""
    found = list(expressions())  # imports what the first answer would wait for
    for name, act in RESPONSES.items():
        yield name, act, fragments(WORDS, FRAMES), size
    for name, act in ANSWERS.items():
        yield name, act, fragments((*WORDS, "\u0301", "\u0323"), FRAMES), min(size, REWARD.longest)
    for expression in found:
        yield expression.name, expression.act, attacks(expression.pattern), size


class Slow(NamedTuple):
    """The slowest attack that was found, with its CPU seconds at ``size`` characters."""

    attack: Attack
    size: int
    seconds: float


def slowest(act: Call, tries: Iterable[Attack], size: int) -> Slow:
    """Return the slowest attack at ``size`` characters, or the first that takes longer, at fewer, than it may."""
    tries = list(tries)
    left, waiting = ([attack for attack in tries if attack.simple == simple] for simple in (False, True))
    for length in (*(length for length in KEPT if length < size), size):
        limit = SECONDS * max(length, FEWEST) / MEGABYTE
        timed = []
        for attack in left:
            seconds = took(act, attack.text(length), limit)
            if seconds > limit:  # once may be an accident
                seconds = took(act, attack.text(length), limit)
            if seconds > limit:
                return Slow(attack, length, seconds)
            timed.append(Slow(attack, length, seconds))
        timed.sort(key=lambda slow: -slow.seconds)
        left = [slow.attack for slow in timed[: KEPT.get(length, 1)]] + waiting
        waiting = []  # as the least growth shows in simple ones, all of them go to the second round
    return timed[0]


def took(act: Call, text: str, limit: float) -> float:
    """Return the CPU seconds of a call, infinity if it was interrupted at twice the limit."""
    begin = time.process_time()
    try:
        with interrupted(2 * limit):
            act(text)
    except TimeoutError:
        return float("inf")
    return time.process_time() - begin


@contextmanager
def interrupted(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the body after ``seconds`` of CPU: matching lets signals in."""
    before = signal.signal(signal.SIGPROF, _over)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _over(number: int, frame: FrameType | None) -> None:
    raise TimeoutError


if __name__ == "__main__":
    main()
