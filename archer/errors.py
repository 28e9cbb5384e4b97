"""The error tree.

    ArcherError
    |-- UserError               what was asked cannot be done as asked; the command exits with code 2
    |   |-- RecipeError         a recipe: unknown key, wrong type, contradictory values
    |   |-- DataError           a data set or benchmark: missing file, wrong count, bad row
    |   |-- ModelError          a model folder: missing, no chat template, unusable head
    |   |-- RunFolderError      a run folder: made by another recipe, damaged, not writable
    |   `-- MissingError        a program or package that is not installed
    `-- OurError                something of ours broke; never scored as the model's; exit code 1
        |-- SandboxError        an executor died, or broke its own protocol
        |-- GraderError         the grading workers or a reward broke (a slow answer is a verdict, not this)
        |-- JudgeError          a judge's server failed, or did not answer in a readable way
        |-- EngineError         an engine died, or returned what it should not
        `-- RankError           a process of a run of several did not come to a call of all

Every message names the file or key, the value found, and the next step.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable


class ArcherError(Exception):
    """Root of every error this package raises on purpose."""


class UserError(ArcherError):
    """The request cannot be carried out as given."""


class RecipeError(UserError):
    """A recipe has an unknown key, a wrong type or contradictory values."""


class DataError(UserError):
    """A data set or benchmark is missing, short or malformed."""


class ModelError(UserError):
    """A model folder is missing, incomplete or unusable."""


class RunFolderError(UserError):
    """A run folder belongs to another recipe, is damaged or cannot be written."""


class MissingError(UserError):
    """A program or package is not installed; the message says how to install it."""


class OurError(ArcherError):
    """A failure on our side. Never turned into a reward."""


class SandboxError(OurError):
    """The executor failed; says nothing about the program."""


class GraderError(OurError):
    """The grading workers or a reward failed; says nothing about the answer."""


class JudgeError(OurError):
    """The server of a model-based judge failed; says nothing about the response."""


class EngineError(OurError):
    """A rollout engine failed; says nothing about the model."""


class RankError(OurError):
    """A process of a run of several died, or did not come in time to a call that all make."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says; its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def raised(error: BaseException) -> str:
    """Return an error of somebody's own code with the line that raised it: ``KeyError('a') in mine.py, line 3``."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} in {error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    return f"{error!r}" + (f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else "")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the closest known word, else the list of known words."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(names)})"
