"""Texts on which a regular expression is slow, made from the expression itself.

A backtracking matcher takes long on a long run of what a repetition takes, after what leads to that repetition and
before something that does not fit. All of these are in the parsed expression: heads (what leads to each repetition),
pumps (a character of each kind that its repetitions tell apart, what they repeat, what stands between them) and tails.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, product
from re import _parser  # type: ignore[attr-defined]  # there is no public parser of expressions
from typing import Any, NamedTuple

ALPHABET = "a0 {}\\(),.;:=^_-+/*|[]<>$&%!?'\"`~#@\n\t\u00e9\u00b2\u2212" + string.ascii_letters + string.digits
REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")
TESTS = ("LITERAL", "NOT_LITERAL", "IN", "ANY")
CATEGORIES = {"SPACE": r"\s", "NOT_SPACE": r"\S", "DIGIT": r"\d", "NOT_DIGIT": r"\D", "WORD": r"\w", "NOT_WORD": r"\W"}
TAILS = ("\x01", "a", "}", "", " .")
MOST_HEADS, MOST_WORDS, MOST_SAMPLES = 16, 60, 4
Node = tuple[Any, Any]


class Attack(NamedTuple):
    """A text of any length: a head, a run of each pump, a tail."""

    head: str
    pumps: tuple[str, ...]
    tail: str

    @property
    def simple(self) -> bool:
        """Whether it is one run from the beginning."""
        return not self.head and len(self.pumps) == 1

    def text(self, length: int) -> str:
        """Return the text, of about ``length`` characters."""
        share = max(length - len(self.head) - len(self.tail), 0) // len(self.pumps)
        return self.head + "".join(pump * (share // len(pump)) for pump in self.pumps) + self.tail


def attacks(pattern: re.Pattern[str]) -> Iterator[Attack]:
    """Yield what may make an expression slow: each pump, and each two, between every head and tail."""
    nodes = list(_parser.parse(pattern.pattern, pattern.flags))
    heads = list(islice(dict.fromkeys(["", *_heads(nodes)]), MOST_HEADS))
    repeated = list(_repeated(nodes))
    kinds = _kinds([test for body in repeated for test in _tests(body)])
    samples = dict.fromkeys(sample for body in repeated for sample in _samples(body) if len(sample) > 1)
    words = dict.fromkeys([*samples, *heads, *_samples(nodes), *islice(dict.fromkeys(_words(nodes)), MOST_WORDS)])
    for head, pump, tail in product(heads, filter(None, [*kinds, *words]), TAILS):
        yield Attack(head, (pump,), tail)
    for pump, tail in product(filter(None, words), kinds):
        yield Attack("", (pump,), tail)
    for head, pumps, tail in product(heads, product([*kinds, *samples], repeat=2), TAILS[:3]):
        if pumps[0] != pumps[1]:
            yield Attack(head, pumps, tail)


def fragments(words: Sequence[str], frames: Iterable[tuple[str, str]]) -> Iterator[Attack]:
    """Yield runs of each word, of each two in turn, and of one after the other, in each frame of head and tail."""
    for (head, tail), left, right in product(frames, words, words):
        if left == right:
            yield Attack(head, (left,), tail)
        else:
            yield Attack(head, (left + right,), tail)
            yield Attack(head, (left, right), tail)
            yield Attack(head + left, (right,), left + tail)


def _heads(nodes: list[Node], before: tuple[str, ...] = ("",)) -> Iterator[str]:
    """Yield samples of what leads to each repetition."""
    for node in nodes:
        if str(node[0]) in REPEATS:
            yield from before
        for part in _parts(node):
            yield from _heads(part, before)
        before = tuple(dict.fromkeys(head + sample for head in before for sample in _samples([node])))[:MOST_SAMPLES]


def _words(nodes: list[Node]) -> Iterator[str]:
    """Yield samples of what stands between two repetitions, alone and with one of them."""
    begin = 0
    for index, node in enumerate(nodes):
        for part in _parts(node, around=True):
            yield from _words(part)
        if repeats := any(_repeats([node])):
            yield from _samples(nodes[begin:index])
        if repeats or index + 1 == len(nodes):
            yield from _samples(nodes[begin : index + 1])
            begin = index + 1


def _parts(node: Node, around: bool = False) -> list[list[Node]]:
    """Return the parts of a node; ``around``: also of one that only looks ahead or behind."""
    match str(node[0]), node[1]:
        case ("MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT", (_, _, body)) | ("SUBPATTERN", (_, _, _, body)):
            return [list(body)]
        case ("ATOMIC_GROUP", body):
            return [list(body)]
        case ("ASSERT" | "ASSERT_NOT", (_, body)) if around:
            return [list(body)]
        case ("BRANCH", (_, bodies)):
            return [list(body) for body in bodies]
    return []


def _repeats(nodes: list[Node]) -> Iterator[Node]:
    """Yield the repetitions, also those within others and in what only looks ahead or behind."""
    for node in nodes:
        if str(node[0]) in REPEATS:
            yield node
        for part in _parts(node, around=True):
            yield from _repeats(part)


def _repeated(nodes: list[Node]) -> Iterator[list[Node]]:
    """Yield what is repeated without a small bound."""
    yield from (list(node[1][2]) for node in _repeats(nodes) if node[1][1] > 9)


def _tests(nodes: list[Node]) -> Iterator[Node]:
    """Yield what tests one character."""
    for node in nodes:
        if str(node[0]) in TESTS:
            yield node
        for part in _parts(node, around=True):
            yield from _tests(part)


def _kinds(tests: list[Node]) -> list[str]:
    """Return one character of each kind that the tests tell apart."""
    found: dict[tuple[bool, ...], str] = {}
    for character in [*ALPHABET, *(literal for test in tests for literal in _literals(test))]:
        found.setdefault(tuple(_passes(character, test) for test in tests), character)
    return list(found.values())


def _passes(character: str, test: Node) -> bool:
    match str(test[0]), test[1]:
        case "LITERAL", code:
            return ord(character) == code
        case "NOT_LITERAL", code:
            return ord(character) != code
        case "RANGE", (low, high):
            return bool(low <= ord(character) <= high)
        case "CATEGORY", category:
            return re.fullmatch(CATEGORIES[str(category).removeprefix("CATEGORY_")], character) is not None
        case "IN", members:
            negated = str(members[0][0]) == "NEGATE"
            return any(_passes(character, member) for member in members[negated:]) != negated
    return character != "\n"  # ANY


def _literals(test: Node) -> list[str]:
    """Return characters that a test names."""
    match str(test[0]), test[1]:
        case "LITERAL", code:
            return [chr(code)]
        case "RANGE", (low, _):
            return [chr(low)]
        case "IN", members if str(members[0][0]) != "NEGATE":
            return [literal for member in members for literal in _literals(member)]
    return []


def _samples(nodes: list[Node]) -> list[str]:
    """Return a few texts that the nodes match, with what has to stand before them; what must not is not looked at."""
    texts = [""]
    for node in nodes:
        parts = [sample for part in _parts(node) for sample in _samples(part)]
        match str(node[0]), node[1]:
            case name, _ if name in TESTS:
                parts = [next(character for character in [*_literals(node), *ALPHABET] if _passes(character, node))]
            case "ASSERT", (-1, body):
                parts = _samples(list(body))
            case name, (low, _, _) if name in REPEATS:
                parts = [sample * low for sample in parts] if low else ["", *parts]
        texts = [text + part for text in texts for part in parts or [""]][:MOST_SAMPLES]
    return texts
