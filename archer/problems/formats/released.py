"""The training set that the Archer paper's authors released (https://huggingface.co/datasets/Fate-Zero/Archer-Code-1.5B).

A row has ``data_source``, ``prompt`` (a chat, taken as it is), ``reward_model.ground_truth`` (JSON in a text) and
``extra_info.index``. The ground truth holds ``inputs`` and ``outputs`` of programs, or ``functional``: code whose
``check(candidate)`` asserts what a method of ``class Solution`` gives. This was written from the rows' description
alone, without the rows; a row that departs from it raises an error that names the difference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from archer.errors import DataError
from archer.problems.formats.leetcode import shape as called
from archer.problems.formats.shaped import ShapedRow, value
from archer.types import Json

CHECKED = re.compile(r"\s*check\((?P<candidate>(?:Solution\(\)\.)?(?P<name>\w+))\)\s*\Z")


def shape(row: Mapping[str, Any]) -> ShapedRow:
    """Return a row's parts; rows are named by their number, since several of their sources count from 0."""
    system, prompt = asked(row)
    model = value(row, "reward_model", dict)
    try:
        truth = json.loads(value(model, "ground_truth", str))
    except DataError as error:
        raise DataError(f"reward_model: {error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"reward_model: ground_truth: not JSON: {error}") from error
    info = row.get("extra_info")
    index = info.get("index") if isinstance(info, Mapping) else None
    meta: dict[str, Json] = {"data_source": str(row.get("data_source") or ""), "index": index}
    return ShapedRow("", prompt, _gold(truth, prompt), meta, system)


def asked(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return the system's and the user's message of a row's ``prompt``. Raises DataError for any other chat."""
    chat = value(row, "prompt", list)
    roles = [message.get("role") if isinstance(message, Mapping) else None for message in chat]
    if roles not in (["user"], ["system", "user"]):
        raise DataError(f"prompt: expected a user's message, perhaps after a system's, found {str(chat)[:80]!r}")
    texts = [value(message, "content", str) for message in chat]
    if not texts[-1].strip():
        raise DataError("prompt: the user's message is empty")
    return (texts[0] if len(texts) == 2 else ""), texts[-1]


def _gold(truth: Any, prompt: str) -> dict[str, Json]:
    where = "reward_model: ground_truth"
    if not isinstance(truth, Mapping) or not {"functional", "inputs"} & set(truth):
        raise DataError(f"{where}: expected inputs and outputs, or functional, found {str(truth)[:80]!r}")
    try:
        return _called(value(truth, "functional", str), prompt) if "functional" in truth else _printed(truth)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _printed(truth: Mapping[str, Any]) -> dict[str, Json]:
    inputs, outputs = value(truth, "inputs", list), value(truth, "outputs", list)
    if len(inputs) != len(outputs) or not inputs:
        raise DataError(f"expected an output for each input, found {len(inputs)} and {len(outputs)}")
    if truth.get("fn_name"):
        raise DataError(f"fn_name: {truth['fn_name']!r}: calls are expected under functional")
    for index, text in enumerate([*inputs, *outputs]):
        if not isinstance(text, str):
            raise DataError(f"inputs and outputs: expected texts, found {str(text)[:80]!r} (number {index + 1})")
    return {"tests": [{"stdin": given, "expected": result} for given, result in zip(inputs, outputs, strict=True)]}


def _called(code: str, prompt: str) -> dict[str, Json]:
    """Return plain calls if the assertions can be split, else the whole check, which is replayed."""
    try:
        gold: dict[str, Json] = called({"problem": prompt, "tests": {"functional": code}}).gold
        return gold
    except DataError as error:
        match = CHECKED.search(code)
        if match is None or "def check(" not in code:
            raise DataError(f"functional: {error}; and it does not end with check(...)") from error
        gold = {"function": match["name"], "tests": [{"check": code[: match.start()] + "\n"}]}
        method = match["candidate"] != match["name"]  # so that calls by its bare name find it
        return {**gold, "setup": f"{match['name']} = {match['candidate']}"} if method else gold
