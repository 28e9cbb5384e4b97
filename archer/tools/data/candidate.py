"""A problem on its way into a training set, and what is said of one that does not get there. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from archer.errors import RunFolderError
from archer.problems.formats.shaped import ask_for_function, ask_for_program
from archer.types import Json, Problem


@dataclass(frozen=True)
class Candidate:
    """One problem. ``statement`` says nothing of how to answer; ``starter`` is code to complete, where there is some.

    A ``prompt`` is taken as it is, for rows that are published as whole prompts.
    """

    id: str
    source: str
    statement: str
    gold: Json
    starter: str = ""
    prompt: str = ""

    def line(self) -> str:
        """Return the candidate as a line of JSON, in ASCII: texts may hold what is no Unicode."""
        return json.dumps(asdict(self)) + "\n"


@dataclass(frozen=True)
class Drop:
    """A candidate that goes no further: ``reason`` in a few words, counted; ``detail`` names what was found."""

    id: str
    reason: str
    detail: str = ""

    def line(self) -> str:
        """Return the drop as a line of JSON."""
        return json.dumps(asdict(self)) + "\n"


@dataclass(frozen=True)
class Candidates:
    """The candidates of some files that nothing has dropped so far; read anew, a line at a time, by each iteration."""

    files: tuple[Path, ...]
    dropped: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[Candidate]:
        for file in self.files:
            with file.open(encoding="ascii") as lines:
                for line in lines:
                    one = Candidate(**json.loads(line))
                    if one.id not in self.dropped:
                        yield one


Ask = Callable[[Candidate], Problem]


def problems(reward: str, instruction: str) -> Ask:
    """Return what makes a candidate the problem that a model is given.

    Programs are asked for in the words of the benchmarks, as functions where there is code to complete; other
    answers by ``instruction``, which holds ``{prompt}``.
    """

    def ask(one: Candidate) -> Problem:
        own = asked_program(one) if reward == "code" else instruction.replace("{prompt}", one.statement)
        prompt = one.prompt or own
        return Problem(one.id, one.source, prompt, reward, one.gold)

    return ask


def asked_program(one: Candidate) -> str:
    """Return a prompt for a function, where the tests call one, else for a program with standard input and output."""
    function = one.gold.get("function")
    if one.starter.strip():
        return ask_for_function(one.statement, one.starter)
    if not function:
        return ask_for_program(one.statement)
    first = one.gold["tests"][0].get("arguments", ())
    return ask_for_function(one.statement, f"def {function}({', '.join(f'arg{n}' for n in range(1, len(first) + 1))}):")


def read_drops(file: Path) -> Iterator[Drop]:
    """Yield the drops of a file. Raises RunFolderError naming a damaged line."""
    with file.open(encoding="ascii") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield Drop(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise RunFolderError(
                    f"{file}: line {number}: damaged ({error}); delete the file, it is made anew"
                ) from error
