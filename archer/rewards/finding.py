"""From a reward's name and options to the reward: a shipped one, or a class, an instance or a function of one's own."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, ClassVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from archer.errors import RecipeError, UserError, did_you_mean
from archer.parts import find_part
from archer.recipe.config import merged
from archer.rewards.base import AnyReward, ProgramReward, Response, Reward, RunsIn, TextReward
from archer.types import Json, Problem, Verdict

Scorer = Callable[..., "float | bool | Verdict"]


def make_reward(name: str, options: Mapping[str, Json], shipped: Mapping[str, AnyReward]) -> AnyReward:
    """Return the reward ``name`` with these options.

    What ``name`` leads to is a class, made with the options; an instance of a frozen dataclass, whose fields they
    replace; or a function ``(problem, text) -> float | bool | Verdict``, whose further arguments they are.
    Raises UserError where there is no such part, where it is no reward, and for options that it does not have.
    """
    found: Any = find_part("rewards", name, shipped)
    where = f"reward: {name}"
    if isinstance(found, type):
        found = _of_class(found, options, where)
    elif is_dataclass(found):
        found = merged(found, options, where) if options else found
    elif options and not inspect.isroutine(found):
        raise RecipeError(f"{where}: has no options, found {', '.join(options)}; make it a frozen dataclass")
    if isinstance(found, Reward | TextReward | ProgramReward):
        return found
    if callable(found):
        return FunctionReward(found, _arguments(found, options, where) if inspect.isroutine(found) else {})
    raise UserError(
        f"{where}: {type(found).__name__} is no reward: give it a method grade_batch(items) -> list of Verdict, or "
        "name a function (problem, text) -> score"
    )


@dataclass(frozen=True)
class FunctionReward:
    """A function ``(problem, text, **options) -> float | bool | Verdict`` as a reward.

    A number is the score; 1 and more passes. The attributes ``runs_in`` and ``rules`` of the function count as those of
    a reward do.
    """

    function: Scorer
    options: Mapping[str, Json]
    group: ClassVar[bool] = False

    @property
    def runs_in(self) -> RunsIn:
        """Where the function runs."""
        where: RunsIn = getattr(self.function, "runs_in", "inline")
        return where

    @property
    def rules(self) -> int:
        """The version of the function's rules."""
        return int(getattr(self.function, "rules", 1))

    def grade_batch(self, items: Sequence[Response]) -> list[Verdict]:
        """Return the function's verdicts."""
        return [self._verdict(item.problem, item.text) for item in items]

    def _verdict(self, problem: Problem, text: str) -> Verdict:
        value = self.function(problem, text, **self.options)
        if isinstance(value, Verdict):
            return value
        if isinstance(value, str):
            raise ValueError(f"the score is a text: {value!r}")
        score = float(value)
        if math.isnan(score):
            raise ValueError(f"the score is {score}")
        passed = score >= 1
        return Verdict(score, passed, "right" if passed else "partly" if score > 0 else "wrong")


def _of_class(kind: type, options: Mapping[str, Json], where: str) -> Any:
    """Make an instance, the options checked against the fields of a dataclass. Raises RecipeError."""
    if not is_dataclass(kind):
        _refuse_unknown(options, list(inspect.signature(kind).parameters), where)
        return kind(**options)
    own = [one for one in fields(kind) if one.init]
    _refuse_unknown(options, [one.name for one in own], where)
    for one in own:
        if one.name not in options and one.default is MISSING and one.default_factory is MISSING:
            raise RecipeError(f"{where}: missing option {one.name!r}")
    hints = get_type_hints(kind)
    values = {key: _checked(hints[key], value, f"{where}: {key}") for key, value in options.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from error


def _checked(hint: Any, value: Json, where: str) -> Any:
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        raise RecipeError(f"{where}: {error.errors()[0]['msg']} (found {value!r})") from error


def _arguments(function: Scorer, options: Mapping[str, Json], where: str) -> Mapping[str, Json]:
    parameters = inspect.signature(function).parameters.values()
    if not any(one.kind is one.VAR_KEYWORD for one in parameters):
        _refuse_unknown(options, [one.name for one in parameters][2:], where)
    return dict(options)


def _refuse_unknown(options: Mapping[str, Json], known: Sequence[str], where: str) -> None:
    for key in options:
        if key not in known:
            raise RecipeError(f"{where}: unknown option {key!r}{did_you_mean(key, known)}")
