"""OlympiadBench's open-ended text-only English mathematics.

https://github.com/OpenBMB/OlympiadBench. ``final_answer`` is a list of one text. If ``is_multiple_answer``
is set, the text holds several answers with commas between, all of them required; the gold is their list.
The unit, which only eight rows have, is not part of the gold.
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
    """Return a row's parts, named by the number in ``id``."""
    texts = column(row, ("final_answer", "answer"))
    texts = texts if isinstance(texts, list) else [texts]
    if len(texts) != 1:
        raise DataError(f"final_answer: expected a list of one text, found {len(texts)} of them: {str(texts)[:80]!r}")
    parts = members(str(texts[0])) if row.get("is_multiple_answer") else [str(texts[0])]
    golds = [answer(part) for part in parts]
    gold: Json = golds if len(golds) > 1 else golds[0]
    meta = {key: row[key] for key in ("subfield", "unit", "error") if row.get(key)}
    return problem(row, gold, str(row["id"]) if row.get("id") is not None else "", **meta)


def members(text: str) -> list[str]:
    r"""Split at the commas that no bracket encloses: ``$(1,8), (2,7)$`` and ``$69$,$84$`` hold two each.

    If words other than "and" and "or" stand between the formulas, the text is a sentence: one answer.
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
