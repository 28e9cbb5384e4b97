"""AIME, AMC, MATH-500, Minerva and GSM8K: one problem, one answer.

Rows without a name that all copies share are numbered. AIME's are numbered in the order of their text,
because copies disagree about which of a year's two contests comes first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from archer.errors import DataError
from archer.problems.formats.shaped import ShapedRow
from archer.problems.formats.statements import answer, column, contest, integer, problem, statement
from archer.rewards.math import boxed

ANSWER = ("answer", "expected_answer", "Answer", "final_answer")


def aime(row: Mapping[str, Any]) -> ShapedRow:
    """Return a row's parts; the answer is a whole number from 0 to 999.

    https://huggingface.co/datasets/HuggingFaceH4/aime_2024 and others.
    """
    gold = integer(_answer_or_box(row))
    if not 0 <= int(gold) <= 999:
        raise DataError(f"answer: expected a whole number from 0 to 999, found {gold}")
    return problem(row, gold, cluster=contest(row))


def aime_order(row: Mapping[str, Any]) -> str:
    """Return the text by which AIME's rows are ordered."""
    return statement(row)


def amc(row: Mapping[str, Any]) -> ShapedRow:
    """Return a row's parts, for the 40 problems of 2023 whose answer is a whole number.

    https://huggingface.co/datasets/math-ai/amc23.
    """
    return problem(row, integer(column(row, ANSWER)), cluster=contest(row))


def math500(row: Mapping[str, Any]) -> ShapedRow:
    """Return a row's parts, named ``precalculus/807`` for ``test/precalculus/807.json``."""
    name = str(row.get("unique_id") or "").removeprefix("test/").removesuffix(".json")
    return problem(row, answer(column(row, ANSWER)), name)


def minerva(row: Mapping[str, Any]) -> ShapedRow:
    r"""Return a row's parts; the gold is the solution's last ``\boxed``, or ``answer`` without a solution.

    Some copies list several spellings of the answer, made later and not all right; the first one is taken.
    """
    gold = boxed(str(row["solution"])) if row.get("solution") else None
    if gold is None:
        gold = column(row, ANSWER)
        gold = gold[0] if isinstance(gold, list) and gold else gold
    return problem(row, answer(gold))


def minerva_order(row: Mapping[str, Any]) -> int | None:
    """Return ``idx``, by which rows are ordered; None for copies without it, which keep their order."""
    return int(row["idx"]) if str(row.get("idx", "")).isdecimal() else None


def gsm8k(row: Mapping[str, Any]) -> ShapedRow:
    """Return a row's parts; the answer follows ``####``, with thousands separated."""
    text = str(column(row, ANSWER))
    match = re.search(r"####\s*(\S+)\s*$", text)
    if match is None:
        raise DataError(f"answer: expected '#### 18' at its end, found {text[-80:]!r}")
    return problem(row, integer(match[1]))


def _answer_or_box(row: Mapping[str, Any]) -> Any:
    if any(row.get(name) is not None for name in ANSWER):
        return column(row, ANSWER)
    content = boxed(str(column(row, (*ANSWER, "solution"))))
    if content is None:
        raise DataError("solution: expected the answer in its last \\boxed{}")
    return content
