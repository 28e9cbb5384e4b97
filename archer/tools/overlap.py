"""What a training file shares with the benchmarks: runs of words, near-duplicates, equal answers.

Texts are compared as lower-case words, so that spacing, punctuation and dollar signs do not hide a copy. A problem and
a row overlap if they share ``n`` consecutive words (13, as is usual in the field). A problem shorter than that, but of
at least ``SHORTEST`` words, overlaps with a row that contains all of it. Phrases that many problems of one benchmark
share are ignored; phrases of a whole contest (``where m and n are relatively prime positive integers``) are not, so
shared words alone show little: near-duplicates do.

This finds copies, and problems with changed numbers or names that keep ``n`` words between the changes. It misses
paraphrases, translations, and problems of few words.
"""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from archer.errors import DataError
from archer.evaluation.benchmark import Benchmark
from archer.problems.formats.statements import column
from archer.problems.rows import local_files, read_json
from archer.problems.streams import read_problems
from archer.rewards.math import boxed, plain_equal
from archer.types import Json, Problem

N = 13
SHORTEST = 6  # fewest words of a problem that is compared as a whole
NEAR = 0.8  # share of words, in order, that makes two texts near-duplicates
COMMON = 0.02  # a phrase in more than three problems and this share of a benchmark's is boilerplate
WORD = re.compile(r"[^\W_]+")
TEXTS = ("problem", "question", "prompt", "query", "text", "instruction", "question_content")
ANSWERS = ("answer", "expected_answer", "final_answer", "gold", "solution", "completion", "response")
KEYS = ("problem", "file", "row", "alike", "same_answer", "shared")
Gram = tuple[str, ...]


@dataclass(frozen=True)
class TrainingRow:
    """One row of training data: its number in its file, its words, its answer (empty if it has none), the file."""

    number: int
    words: tuple[str, ...]
    answer: str
    file: str = ""


@dataclass(frozen=True)
class OverlapPair:
    """A problem and a training row that share words; ``alike`` is the share of equal words in order, 1 for a copy."""

    problem: str
    row: int
    shared: str
    alike: float
    same_answer: bool
    file: str = ""

    @property
    def near(self) -> bool:
        """Whether the two are near-duplicates."""
        return self.alike >= NEAR


@dataclass(frozen=True)
class Overlap:
    """What a training file shares with one benchmark. ``short`` counts problems with too few words to be compared."""

    benchmark: str
    problems: int
    short: int
    pairs: tuple[OverlapPair, ...]

    def count(self, near: bool = False, same_answer: bool = False) -> int:
        """Return how many problems have a pair; ``near`` and ``same_answer`` count only such pairs."""
        counted = [pair for pair in self.pairs if (pair.near or not near) and (pair.same_answer or not same_answer)]
        return len({pair.problem for pair in counted})


def words_of(text: str) -> tuple[str, ...]:
    """Return a text's words in lower case; a word is a run of letters and digits."""
    return tuple(WORD.findall(unicodedata.normalize("NFKC", text).lower()))


def read_training(path: Path, text: str = "", answer: str = "") -> list[TrainingRow]:
    """Return the rows of a JSON file or folder; ``text`` and ``answer`` name columns with unusual names.

    The text may be a chat's messages, of which the user's are used. Raises DataError naming the row.
    """
    rows = list[TrainingRow]()
    for file in local_files(path):
        for number, row in enumerate(read_json(file), 1):
            if not isinstance(row, Mapping):
                raise DataError(f"{file}: row {number}: expected columns and values, found {str(row)[:80]!r}")
            try:
                cell = column(row, (text,) if text else TEXTS)
                rows.append(TrainingRow(number, words_of(_asked(cell)), _answer(row, answer), file.name))
            except DataError as error:
                raise DataError(f"{file}: row {number}: {error}; name its column with --text") from error
    if not rows:
        raise DataError(f"{path}: no rows")
    return rows


def _asked(cell: Any) -> str:
    if isinstance(cell, list):
        if not all(isinstance(message, Mapping) for message in cell):
            raise DataError(f"expected a text or a chat's messages, found {str(cell)[:80]!r}")
        return "\n".join(str(message.get("content", "")) for message in cell if message.get("role") == "user")
    return str(cell)


def _answer(row: Mapping[str, Any], name: str) -> str:
    names = [candidate for candidate in ((name,) if name else ANSWERS) if row.get(candidate) is not None]
    if not names:
        return ""
    text = str(row[names[0]])
    return boxed(text) or (text.rpartition("####")[2] if "####" in text else text).strip()


def statements(benchmark: Benchmark) -> list[Problem]:
    """Return a benchmark's problems, their prompts without the instruction that all share."""
    return read_problems(replace(benchmark.data, instruction="{prompt}"), benchmark.problems)


def compare(name: str, problems: Sequence[Problem], rows: Sequence[TrainingRow], n: int = N) -> Overlap:
    """Return every row that shares ``n`` consecutive words with a problem. Raises DataError for ``n`` below 2."""
    if n < 2:
        raise DataError(f"--n: expected 2 or more words, found {n}")
    texts = [words_of(problem.prompt) for problem in problems]
    index = _index(texts, n)
    short = sum(len(words) < min(n, SHORTEST) for words in texts)
    pairs = list[OverlapPair]()
    for row in rows:
        for number, gram in _hits(row.words, index).items():
            alike = SequenceMatcher(None, texts[number], row.words, autojunk=False).ratio()
            same = _same_answer(problems[number].gold, row.answer)
            pairs.append(OverlapPair(problems[number].id, row.number, " ".join(gram), round(alike, 3), same, row.file))
    return Overlap(name, len(problems), short, tuple(sorted(pairs, key=lambda pair: (pair.problem, -pair.alike))))


def _index(texts: Sequence[tuple[str, ...]], n: int) -> dict[int, dict[Gram, list[int]]]:
    """Return, by length, the word runs of problems with the problems that have them; a short problem is one run."""
    by_length: dict[int, dict[Gram, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, words in enumerate(texts):
        size = min(n, len(words))
        if size >= min(n, SHORTEST):
            for gram in dict.fromkeys(grams(words, size)):
                by_length[size][gram].append(number)
    most = max(3, COMMON * len(texts))
    return {size: {gram: ids for gram, ids in by.items() if len(ids) <= most} for size, by in by_length.items()}


def grams(words: Sequence[str], n: int) -> Iterable[Gram]:
    """Yield every run of ``n`` consecutive words."""
    return zip(*(words[start:] for start in range(n)), strict=False)


def _hits(words: Sequence[str], index: Mapping[int, Mapping[Gram, list[int]]]) -> dict[int, Gram]:
    """Return the problems that share a run with these words, each with the first run that is shared."""
    hits = dict[int, Gram]()
    for size, by in index.items():
        for gram in grams(words, size):
            for number in by.get(gram, ()):
                hits.setdefault(number, gram)
    return hits


def _same_answer(gold: Json, answer: str) -> bool:
    if not answer or isinstance(gold, Mapping):  # a program's tests are not an answer
        return False
    text = ", ".join(map(str, gold)) if isinstance(gold, list) else str(gold)
    if plain_equal(text, answer):
        return True
    return re.sub(r"[\s$]|\\left|\\right|\\[,;! ]", "", text) == re.sub(r"[\s$]|\\left|\\right|\\[,;! ]", "", answer)


def summary(overlap: Overlap) -> str:
    """Return one benchmark's overlap as a line of text."""
    return (
        f"{overlap.benchmark:14} {overlap.problems:>5} problems: "
        f"{overlap.count():>4} ({overlap.count() / overlap.problems:.1%}) share words, "
        f"{overlap.count(near=True):>4} ({overlap.count(near=True) / overlap.problems:.1%}) near-duplicates, "
        f"{overlap.count(same_answer=True):>4} with the same answer "
        f"({overlap.count(near=True, same_answer=True)} of the "
        f"near-duplicates)" + (f"; {overlap.short} too short to compare" if overlap.short else "")
    )


def as_rows(overlaps: Iterable[Overlap]) -> list[dict[str, Json]]:
    """Return every pair as a row of plain values, for a file."""
    return [
        {"benchmark": overlap.benchmark, **{key: getattr(pair, key) for key in KEYS}, "near": pair.near}
        for overlap in overlaps
        for pair in overlap.pairs
    ]


def check_out(path: Path | None) -> None:
    """Raise DataError for a file that :func:`write` cannot write: not .json or .csv, or in a missing folder."""
    if path is not None and path.suffix not in (".json", ".csv"):
        raise DataError(f"--out {path}: expected .json or .csv")
    if path is not None and not path.parent.is_dir():
        raise DataError(f"--out {path}: no folder {path.parent}; make it first")


def write(overlaps: Iterable[Overlap], path: Path) -> None:
    """Write every pair as JSON or CSV. Raises DataError as :func:`check_out`."""
    check_out(path)
    rows = as_rows(overlaps)
    if path.suffix == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ("benchmark", *KEYS, "near"))
        table.writeheader()
        table.writerows(rows)
