"""A problem that may become part of a training set, and the record of one that does not. Pure."""

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
    """One problem. ``statement`` does not tell how to answer; ``starter`` is code to complete, if there is some.

    A ``prompt`` is used unchanged, for rows that are published as whole prompts.
    """

    id: str
    source: str
    statement: str
    gold: Json
    starter: str = ""
    prompt: str = ""

    def line(self) -> str:
        """Return the candidate as a line of JSON in ASCII, because texts may hold invalid Unicode."""
        return json.dumps(asdict(self)) + "\n"


@dataclass(frozen=True)
class Drop:
    """A dropped candidate: ``reason`` in a few words, which is counted; ``detail`` names what was found."""

    id: str
    reason: str
    detail: str = ""

    def line(self) -> str:
        """Return the drop as a line of JSON."""
        return json.dumps(asdict(self)) + "\n"


@dataclass(frozen=True)
class Candidates:
    """The candidates of some files that are not ``dropped``; each iteration reads the files again, line by line."""

    files: tuple[Path, ...]
    dropped: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[Candidate]:
        for file in self.files:
            with file.open(encoding="ascii") as lines:
                for line in lines:
                    candidate = Candidate(**json.loads(line))
                    if candidate.id not in self.dropped:
                        yield candidate


Ask = Callable[[Candidate], Problem]


def problems(reward: str, instruction: str) -> Ask:
    """Return the function that makes a candidate the problem that a model is given.

    Programs are asked for in the benchmarks' words, as functions if there is code to complete; other answers with
    ``instruction``, which contains ``{prompt}``.
    """

    def ask(candidate: Candidate) -> Problem:
        own = asked_program(candidate) if reward == "code" else instruction.replace("{prompt}", candidate.statement)
        prompt = candidate.prompt or own
        return Problem(candidate.id, candidate.source, prompt, reward, candidate.gold)

    return ask


def asked_program(candidate: Candidate) -> str:
    """Return a prompt for a function if the tests call one, else for a program with standard input and output."""
    function = candidate.gold.get("function")
    if candidate.starter.strip():
        return ask_for_function(candidate.statement, candidate.starter)
    if not function:
        return ask_for_program(candidate.statement)
    first = candidate.gold["tests"][0].get("arguments", ())
    return ask_for_function(
        candidate.statement, f"def {function}({', '.join(f'arg{n}' for n in range(1, len(first) + 1))}):"
    )


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
