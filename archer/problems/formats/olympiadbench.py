"""OlympiadBench's open-ended text-only English mathematics.

https://github.com/OpenBMB/OlympiadBench. ``final_answer`` is a list of one text. Where ``is_multiple_answer``
is set, it holds several answers with commas between, of which all are asked; the gold is their list.
The unit, which only eight rows have, is no part of the gold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from archer.errors import DataError
from archer.problems.formats.shaped import ShapedRow
from archer.problems.formats.statements import answer, column, problem
from archer.types import Json


def shape(row: Mapping[str, Any]) -> ShapedRow:
    """Rows name themselves by a number."""
    found = column(row, ("final_answer", "answer"))
    found = found if isinstance(found, list) else [found]
    if len(found) != 1:
        raise DataError(f"final_answer: expected a list of one text, found {len(found)} of them: {str(found)[:80]!r}")
    parts = members(str(found[0])) if row.get("is_multiple_answer") else [str(found[0])]
    golds = [answer(part) for part in parts]
    gold: Json = golds if len(golds) > 1 else golds[0]
    meta = {key: row[key] for key in ("subfield", "unit", "error") if row.get(key)}
    return problem(row, gold, str(row["id"]) if row.get("id") is not None else "", **meta)


def members(text: str) -> list[str]:
    r"""Split at the commas that no bracket encloses: ``$(1,8), (2,7)$`` and ``$69$,$84$`` hold two each.

    Where words stand between the formulas (``where``), the commas are a sentence's, which is one answer.
    """
    between = re.sub(r"\$[^$]*\$", "", text) if "$" in text else ""
    if set(re.findall("[A-Za-z]+", between)) - {"and", "or"}:
        return [text.replace("$", "")]
    parts, depth = [""], 0
    for character in text.replace("$", ""):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0 and not parts[-1].endswith("\\"):  # "\," is a space
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]
