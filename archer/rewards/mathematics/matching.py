r"""Compares an answer with a gold: both are split as text, and only single values go to the algebra."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from archer.rewards.mathematics.answers import both_signs, enclosed, members, sides, split
from archer.rewards.mathematics.plain import plain_equal
from archer.rewards.mathematics.statements import (
    THOUSANDS,
    aligned,
    bare_name,
    in_radians,
    is_closed,
    is_name,
    joined,
    numbered,
    refused,
    stated,
    unqualified,
)
from archer.rewards.mathematics.values import Value, endless, has_base, readings, value
from archer.rewards.mathematics.wording import TEXT, is_phrase, phrase, poses, spoken, squeezed, tidy, without_lead

if TYPE_CHECKING:
    from archer.rewards.mathematics.equality import Scale

Reason = Literal["right", "wrong", "unparsed"]

_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_FUNCTION = re.compile(r"([a-zA-Z])\(([a-zA-Z])\)")
_RELATION = re.compile(r"[<>]|\\(?:le|ge|ne)(?![a-zA-Z])")


def shortcut(gold: str, answer: str) -> bool | None:
    """Return whether gold and answer are equal if that needs no algebra (same text, plain numbers), else None."""
    equal = plain_equal(gold, answer)
    if equal is not None:
        return equal
    return True if answer.strip() and squeezed(answer) == squeezed(gold) else None


@dataclass(frozen=True)
class Matcher:
    """Compares answers with golds, by the tolerances of ``scale``."""

    scale: Scale

    def reason(self, gold: str, answer: str) -> Reason:
        """Compare an answer with one gold, which may itself be a list."""
        equal = shortcut(gold, answer)
        if equal is not None:
            return "right" if equal else "wrong"
        gold, answer = tidy(gold), without_lead(tidy(answer))
        if not answer:
            return "unparsed"
        if refused(gold, answer):
            return "wrong"
        if gold_words := phrase(gold):
            if gold_words == spoken(answer):
                return "right"
            if is_phrase(gold):
                return "wrong"
        if squeezed(TEXT.sub(r"\1", answer)) == squeezed(gold):
            return "right"
        return self._layout(*aligned(*unqualified(gold, answer)))

    def all(self, golds: list[str], answer: str) -> Reason:
        """Compare an answer with a list of golds, all of which it must name; a gold may hold several values."""
        items = [item for gold in golds for item in members(tidy(gold))]
        answer = without_lead(tidy(answer))
        if refused(" ".join(golds), answer):
            return "wrong"
        return self._list(items, both_signs(answer))

    def _layout(self, gold: str, answer: str) -> Reason:
        """Compare by layout: a list, a set, a tuple, one value."""
        gold, answer = both_signs(gold), both_signs(answer)
        gold_items, items = distinct(members(joined(gold))), distinct(members(joined(answer)))
        gold_conditions, conditions = (_are_conditions(parts) for parts in (gold_items, items))
        several = (gold_conditions and len(gold_items) > 1) or (conditions and len(items) > 1)
        if several and self._conditions(gold_items, items):
            return "right"
        brackets, bare = enclosed(answer), gold != "" and enclosed(gold) is None
        if len(gold_items) > 1:
            if brackets and brackets[0] == "()" and bare and ";" not in gold:  # (1, 2) for 1, 2: in order
                return self._ordered(gold_items, split(brackets[1], ",;"))
            return self._list(distinct(members(gold)), answer)
        if len(items) > 1:
            tuple_ = enclosed(gold)
            if _DECIMAL_COMMA.fullmatch(answer) and "." in gold:
                return self._single(gold, answer.replace(",", "."))
            if tuple_ and tuple_[0] in ("()", "{}") and not brackets:
                return self._ordered(split(tuple_[1], ",;"), split(answer, ",;"))
            if brackets and brackets[0] == "{}" and tuple_:
                return self._ordered(split(tuple_[1], ",;"), split(brackets[1], ",;"))
            return "wrong"
        return self._single(gold_items[0], items[0]) if gold_items and items else "unparsed"

    def _conditions(self, golds: list[str], parts: list[str]) -> bool:
        from archer.rewards.mathematics.equality import conditions, equal

        try:
            return equal(conditions(golds, given=False), conditions(parts, given=True), self.scale)
        except MemoryError:
            raise
        except Exception:  # sympy raises many kinds; what it cannot compare is not shown to be right
            return False

    def _list(self, golds: list[str], answer: str) -> Reason:
        """Match every gold with a member of the answer, and every member with a gold."""
        brackets = enclosed(answer)
        if brackets and brackets[0] in ("()", "[]") and len(golds) > 1:
            return "wrong"  # a tuple or an interval is not a list of values
        parts = distinct(members(brackets[1] if brackets and brackets[0] == "{}" else answer))
        if len(parts) < len(golds) or (THOUSANDS.search(answer) and len(parts) != len(golds)):
            parts = distinct(members(joined(answer)))
        names = [sides(gold)[0] for gold in golds if len(sides(gold)) > 1]
        named = len(set(names)) == len(golds) > 1 and not numbered(names)
        if named and all(len(sides(part)) == 1 for part in parts):  # AB = 4, CD = 5: in order
            return self._ordered(golds, parts)
        reasons = [[self._single(gold, part) for gold in golds] for part in parts]
        if (
            reasons
            and all("right" in row for row in reasons)
            and all("right" in column for column in zip(*reasons, strict=True))
        ):
            return "right"
        return "unparsed" if any(set(row) == {"unparsed"} for row in reasons) or not reasons else "wrong"

    def _ordered(self, golds: list[str], parts: list[str]) -> Reason:
        if len(golds) != len(parts):
            return "wrong"
        return _worst([self._single(*pair) for pair in zip(golds, parts, strict=True)])

    def _single(self, gold: str, answer: str) -> Reason:
        """Compare a single gold with a single answer, either of which may be an equation."""
        gold, answer = stated(gold), stated(answer)
        gold_sides, answer_sides = sides(gold), sides(answer)
        name = any(is_name(side) for side in gold_sides[:-1])
        if len(gold_sides) > 1:
            if len(answer_sides) == 1:
                return self._value(gold_sides[-1], answer) if name else "wrong"
            if name and is_name(answer_sides[0]):
                return self._named(gold_sides, answer_sides)
            if name and is_closed(gold_sides[-1]) and not any(map(is_name, answer_sides)):
                return "wrong"  # 2x + 3 = 11 for x = 4: unsolved
            return self._value(gold, answer)
        if len(answer_sides) > 1:
            return self._chain(gold, answer_sides)
        return self._value(gold, answer)

    def _named(self, gold: list[str], answer: list[str]) -> Reason:
        """Compare two equations whose left sides are names; f(n) = n and f(x) = x are equal."""
        gold_call, answer_call = _FUNCTION.fullmatch(gold[0]), _FUNCTION.fullmatch(answer[0])
        last = answer[-1]
        if gold_call and answer_call and gold_call[1] == answer_call[1]:
            last = re.sub(rf"(?<![\\a-zA-Z]){answer_call[2]}(?![a-zA-Z])", gold_call[2], last)
        elif bare_name(gold[0]) != bare_name(answer[0]) and self.scale.same_names:
            return self._value(f"{gold[0]}={gold[-1]}", f"{answer[0]}={last}")
        return self._value(gold[-1], last)

    def _chain(self, gold: str, chain: list[str]) -> Reason:
        """Compare a value with the last side of an equation; its other values must equal the gold too."""
        if is_name(chain[-1]) and not is_closed(chain[-1]) and is_closed(chain[0]):
            chain = chain[::-1]
        for side in chain[:-1]:
            if is_closed(side) and self._value(gold, side) != "right":
                return "wrong"
        return self._value(gold, chain[-1])

    def _value(self, gold: str, answer: str) -> Reason:
        """Compare two values together with what follows them: percent, degrees, units, bases."""
        gold_value, answer_value = value(gold), value(answer)
        if gold_value.base or answer_value.base:
            return self._based(gold_value, answer_value)
        if has_base(answer) and not has_base(gold):
            return "wrong"
        reasons = [self._bare(*pair) for pair in readings(gold, answer)] or ["wrong"]
        return "right" if "right" in reasons else reasons[0]

    def _based(self, gold: Value, answer: Value) -> Reason:
        """Compare numerals: the same digits in the gold's base, or the gold's value in any."""
        if gold.base:
            same = answer.text.replace(" ", "").lstrip("0").lower() == gold.text.lstrip("0").lower()
            return "right" if same and answer.base in (0, gold.base) else "wrong"
        try:
            return self._bare(gold.text, str(int(answer.text, answer.base)))
        except ValueError:
            return "unparsed"

    def _bare(self, gold: str, answer: str) -> Reason:
        """Compare two values without units: as numbers, brackets, ratios, unions, and at last by algebra."""
        equal = shortcut(gold, answer)
        if equal is not None:
            return "right" if equal else "wrong"
        if (numbers := endless(answer)) is not None:
            return "right" if any(self._bare(gold, number) == "right" for number in numbers) else "wrong"
        if numbers := endless(gold):
            return "right" if any(self._bare(number, answer) == "right" for number in numbers) else "wrong"
        gold_brackets, answer_brackets = enclosed(gold), enclosed(answer)
        if gold_brackets and answer_brackets and len(split(gold_brackets[1], ",;")) > 1:
            same = gold_brackets[0] == answer_brackets[0] or {gold_brackets[0], answer_brackets[0]} <= {"()", "{}"}
            return self._ordered(split(gold_brackets[1], ",;"), split(answer_brackets[1], ",;")) if same else "wrong"
        if ":" in gold and ":" in answer:
            parts = split(gold, ":"), split(answer, ":")
            if self._ordered(*parts) == "right" or re.search(r":0[0-9]|:[0-9]{3}|[0-9]:00", gold):
                return self._ordered(*parts)
        unions = [re.split(r"\\cup(?![a-zA-Z])", text) for text in (gold, answer)]
        if len(unions[0]) == len(unions[1]) > 1:
            rows = [[self._value(a.strip(), b.strip()) for a in unions[0]] for b in unions[1]]
            if all("right" in row for row in rows) and all("right" in column for column in zip(*rows, strict=True)):
                return "right"
        return self.algebra(gold, answer)

    def algebra(self, gold: str, answer: str) -> Reason:
        """Parse both and compare their expressions. Slow: call it only in a worker."""
        from archer.rewards.mathematics.equality import equal
        from archer.rewards.mathematics.numeric import UndecidedError
        from archer.rewards.mathematics.reading import UnreadableError, parsed, read

        gold, answer = in_radians(gold), in_radians(answer)
        if not poses(parsed(answer)) <= poses(parsed(gold)):
            return "wrong"
        letters = set(re.sub(r"\\[a-zA-Z]+", "", gold))
        cased = any(letter.swapcase() in letters for letter in letters if letter.isalpha())
        try:
            answer_expression = read(answer, cased)
        except UnreadableError:
            return "unparsed"
        try:
            gold_expression = read(gold, cased)
            return "right" if equal(gold_expression, answer_expression, self.scale) else "wrong"
        except MemoryError:
            raise
        except UndecidedError:
            return "unparsed"
        except Exception:  # sympy raises many kinds; what it cannot compare is not shown to be right
            return "wrong"


def _are_conditions(items: list[str]) -> bool:
    return any(map(_RELATION.search, items)) and all(_RELATION.search(item) or "=" in item for item in items)


def distinct(items: list[str]) -> list[str]:
    """Return the items without repetitions, in order."""
    return list(dict.fromkeys(items))


def _worst(reasons: list[Reason]) -> Reason:
    return "wrong" if "wrong" in reasons else "unparsed" if "unparsed" in reasons else "right"
