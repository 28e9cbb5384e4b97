"""Mathematics problems as the paper's sources publish them: each function turns a row into its parts. All pure."""

from __future__ import annotations

import json
import re

from archer.errors import DataError
from archer.problems.formats.mathematics import ANSWER
from archer.problems.formats.released import asked
from archer.problems.formats.shaped import value
from archer.problems.formats.statements import answer, column, statement, tidy
from archer.tools.data.parts import ParsedRow, Row, UnfitRow, text

# The instruction around DAPO's problems, and the one at the end of others'; the pipeline's own replaces them.
DAPO = re.compile(
    r"\ASolve the following math problem step by step\.[^\n]*\n+(?P<problem>.*?)\n+Remember to put[^\n]*\Z", re.DOTALL
)
BOXED = re.compile(r"\s*(?:Let's think|Please reason|Please solve|Think)[^\n]*\\boxed\{[^\n]*\Z")


def problem_answer(row: Row) -> ParsedRow | UnfitRow:
    """https://huggingface.co/datasets/agentica-org/DeepScaleR-Preview-Dataset, and others of problem and answer."""
    return _parts(statement(row), column(row, ANSWER))


def skywork(row: Row) -> ParsedRow | UnfitRow:
    """https://huggingface.co/datasets/Skywork/Skywork-OR1-RL-Data: the answer is a JSON list of one text."""
    gold = _gold(row)
    try:
        answers = json.loads(gold)
    except ValueError:
        answers = gold
    if isinstance(answers, list) and len(answers) != 1:
        return UnfitRow("several answers", str(answers)[:80])
    return _parts(tidy(BOXED.sub("", asked(row)[1])), answers[0] if isinstance(answers, list) else gold)


def dapo(row: Row) -> ParsedRow | UnfitRow:
    """https://huggingface.co/datasets/BytedTsinghua-SIA/DAPO-Math-17k: the prompt is wrapped, the answer a number."""
    prompt = asked(row)[1].strip()
    match = DAPO.match(prompt)
    if match is None:
        raise DataError(f"prompt: expected the instruction of DAPO around the problem, found {prompt[:80]!r}")
    return _parts(tidy(match["problem"]), _gold(row))


def _gold(row: Row) -> str:
    try:
        return text(value(row, "reward_model", dict), "ground_truth")
    except DataError as error:
        raise DataError(f"reward_model: {error}") from error


def _parts(problem: str, gold: object) -> ParsedRow | UnfitRow:
    if not problem:
        raise DataError("problem: it is empty")
    if isinstance(gold, list | dict | bool):
        raise DataError(f"answer: expected a text or a number, found {str(gold)[:80]!r}")
    return ParsedRow(problem, answer(gold))
