"""Splits an assertion into calls that the program evaluates and a test of their results, decided outside. Pure.

``assert tuple(f([2, 1])) == (1, 2)`` asks the program for ``f([2, 1])``; the rest is decided here, over
plain values, by a small evaluator of literals, arithmetic, comparisons and a few built-ins. So no expected
value runs beside the program, and nothing that it returns is ever executed.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from archer.errors import DataError

MOST_BITS = 4096  # of an integer in arithmetic: products of longer ones cost time
MOST_ELEMENTS = 10_000  # of a set built from an answer: elements chosen to collide make it quadratic
MOST_COMPARED = 5 * 10**8  # such elements times the parts of all of them
FAULTS = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError, MemoryError)


def allclose(actual: Any, expected: Any, tolerance: float) -> bool:
    """Return whether values are equal, or numbers (also in lists of one shape) within tolerance + 1e-7 |expected|.

    This is EvalPlus's rule, which is numpy's; assertions that call numpy by name do not use it.
    """
    if isinstance(expected, list | tuple) and isinstance(actual, list | tuple):
        return len(actual) == len(expected) and all(map(allclose, actual, expected, [tolerance] * len(expected)))
    if actual == expected:
        return True
    return math.isclose(actual, expected, rel_tol=0, abs_tol=tolerance + 1e-7 * abs(expected))


# fmt: off
CALLS: dict[str, Callable[..., Any]] = {
    "abs": abs, "all": all, "allclose": allclose, "any": any, "bool": bool, "dict": dict, "float": float,
    "frozenset": frozenset, "int": int, "isclose": math.isclose, "len": len, "list": list, "max": max, "min": min,
    "round": round, "set": set, "sorted": sorted, "str": str, "sum": sum, "tuple": tuple,
    "math.fabs": math.fabs, "math.isclose": math.isclose, "math.sqrt": math.sqrt,
}
COLLECTING = ("list", "tuple", "set", "frozenset", "sorted", "dict")
KEYWORDS = {"sorted": {"reverse"}, "isclose": {"rel_tol", "abs_tol"}, "math.isclose": {"rel_tol", "abs_tol"}}
SECOND_IS_LITERAL = ("round", "sum", "int")  # round(7, -10**9) computes 10**10**9, sum(lists, []) is quadratic
CONSTANTS = {"math.pi": math.pi, "math.e": math.e, "math.inf": math.inf, "math.nan": math.nan}
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
    ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Invert: operator.inv, ast.Not: operator.not_,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda item, items: item in items, ast.NotIn: lambda item, items: item not in items,
}
# fmt: on
NODES = (ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare)
PARTS = (*NODES, ast.And, ast.Or, ast.Load, *OPERATORS)
SEQUENCES = (ast.List, ast.Tuple, ast.Set, ast.Dict)


@dataclass(frozen=True)
class Assertion:
    """The statement ``text``, split into ``calls`` to evaluate in the program's namespace and a ``test`` of them."""

    text: str
    calls: tuple[str, ...]
    test: ast.expr = field(compare=False, repr=False)  # each call replaced by a name: its index in ``calls``

    def holds(self, values: Sequence[Any]) -> bool:
        """Return whether the assertion holds for the calls' values; False if it cannot be computed with them."""
        try:
            return bool(_value(self.test, values))
        except FAULTS:
            return False


@lru_cache(maxsize=4096)
def split(text: str, function: str) -> Assertion | None:
    """Split an assert statement, ignoring its message.

    The program evaluates each call of ``function`` with all its arguments, and what is read from its result:
    an index, an attribute, a method without arguments, ``list(...)`` and the like. Returns None if nothing is
    asked of the program, or if the evaluator does not know the rest, which would have to run beside the program.
    Raises DataError for anything but one assert statement.
    """
    try:
        [statement] = ast.parse(text.strip()).body
    except (SyntaxError, ValueError) as error:
        raise DataError(f"expected one assert statement, found {text!r}: {error}") from error
    if not isinstance(statement, ast.Assert):
        raise DataError(f"expected one assert statement, found {text!r}")
    parts = _Parts(function)
    try:
        test = parts.visit(statement.test)
    except _Undecidable:
        return None
    return Assertion(text, tuple(parts.calls), test) if parts.calls else None


class _Undecidable(Exception):
    """The test holds something that the evaluator does not know."""


class _Parts(ast.NodeTransformer):
    """Replaces the program's calls in a test, outermost first. Raises _Undecidable for what is not known here."""

    def __init__(self, function: str) -> None:
        self.function = function
        self.calls: list[str] = []

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.expr) and _asks(node, self.function):
            self.calls.append(ast.unparse(node))
            return ast.Name(str(len(self.calls) - 1))
        if _dotted(node) in CONSTANTS:
            return ast.Constant(CONSTANTS[_dotted(node)])
        if isinstance(node, ast.Call):
            return self._known_call(node)
        if not _known(node):
            raise _Undecidable
        return self.generic_visit(node)

    def _known_call(self, node: ast.Call) -> ast.Call:
        name = _dotted(node.func)
        literal = name not in SECOND_IS_LITERAL or all(_is_small(argument) for argument in node.args[1:])
        keywords = {keyword.arg for keyword in node.keywords}
        if name not in CALLS or not literal or not keywords <= KEYWORDS.get(name, set()):
            raise _Undecidable
        arguments = [self.visit(argument) for argument in node.args]
        named = [ast.keyword(keyword.arg, self.visit(keyword.value)) for keyword in node.keywords]
        return ast.Call(node.func, arguments, named)


def _asks(node: ast.expr, function: str) -> bool:
    """Return whether only the program can evaluate this: the function's call, or what is read from its result."""
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return name == function
        case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in COLLECTING:
            return _asks(inner, function)  # the result may be a generator, which is not a plain value
        case ast.Call(func=ast.Attribute(value=inner), args=[], keywords=[]):
            return _asks(inner, function)
        case ast.Attribute(value=inner) | ast.Subscript(value=inner):
            return _asks(inner, function)
    return False


def _dotted(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return f"{module}.{name}"
    return ""


def _known(node: ast.AST) -> bool:
    match node:
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _is_small(left) and _is_small(right)
        case ast.BinOp(left=left, op=op, right=right):
            texts = any(
                isinstance(side, ast.Constant) and isinstance(side.value, str | bytes) for side in (left, right)
            )
            lists = any(isinstance(side, SEQUENCES) for side in (left, right))
            return isinstance(op, ast.Add) or not (texts or lists)
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = zip([left, *others], ops, others, strict=False)
            return all(_is_single(a) or _is_single(b) for a, op, b in sides if isinstance(op, ast.Is | ast.IsNot))
        case ast.Dict(keys=keys):
            return None not in keys  # {**other}
    return isinstance(node, PARTS)


def _is_single(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool))


def _is_small(node: ast.expr) -> bool:
    """Return whether this is a number literal, small enough as a base, an exponent or a count of digits."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        node = node.operand
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value <= 100


def _value(node: ast.expr | None, answers: Sequence[Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=index):
            return answers[int(index)]
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
            return kind([_value(item, answers) for item in items])
        case ast.Dict(keys=keys, values=values):
            return {_value(key, answers): _value(value, answers) for key, value in zip(keys, values, strict=True)}
        case ast.UnaryOp(op=op, operand=operand):
            return OPERATORS[type(op)](_value(operand, answers))
        case ast.BinOp(left=left, op=op, right=right):
            return _arithmetic(OPERATORS[type(op)], _value(left, answers), _value(right, answers))
        case ast.BoolOp(op=op, values=sides):
            return _joined(isinstance(op, ast.Or), sides, answers)
        case ast.Compare(left=left, ops=ops, comparators=others):
            return _compared(_value(left, answers), ops, others, answers)
        case ast.Call(func=function, args=arguments, keywords=keywords):
            named = {str(keyword.arg): _value(keyword.value, answers) for keyword in keywords}
            return _called(CALLS[_dotted(function)], [_value(argument, answers) for argument in arguments], named)
    raise AssertionError(f"not a node that can be decided: {node!r}")  # _Parts lets nothing else through


def _arithmetic(apply: Callable[..., Any], left: Any, right: Any) -> Any:
    """Compute with numbers of bounded size; texts, lists and tuples can be joined, but not repeated."""
    sides = (left, right)
    joined = apply is operator.add and type(left) is type(right) and isinstance(left, str | list | tuple)
    if not joined and not all(isinstance(side, int | float | complex) and _is_short(side) for side in sides):
        raise TypeError("not numbers of a bounded size")
    return apply(left, right)


def _joined(until: bool, sides: Sequence[ast.expr], answers: Sequence[Any]) -> Any:
    """``or`` ends at the first side that is true, ``and`` at the first that is false."""
    value: Any = None
    for side in sides:
        value = _value(side, answers)
        if bool(value) is until:
            break
    return value


def _compared(left: Any, ops: Sequence[ast.cmpop], others: Sequence[ast.expr], answers: Sequence[Any]) -> bool:
    for op, other in zip(ops, others, strict=True):
        right = _value(other, answers)
        if not OPERATORS[type(op)](left, right):
            return False
        left = right
    return True


def _called(function: Callable[..., Any], arguments: Sequence[Any], named: Mapping[str, Any]) -> Any:
    if not all(map(_is_short, arguments)):
        raise ValueError("a number too long to compute with")
    if function in (set, frozenset, dict) and any(map(_is_slow, arguments)):
        raise ValueError("too many elements for a set")
    return function(*arguments, **named)


def _is_slow(elements: Any) -> bool:
    """Return whether a set of these may cost seconds, all their hashes being the same."""
    layer, left = elements, MOST_COMPARED // max(1, len(elements))
    if len(elements) > MOST_ELEMENTS:
        return True
    while layer:
        inner = [part for part in layer if isinstance(part, list | tuple | frozenset)]
        left -= len(layer)
        if sum(map(len, inner)) > left:
            return True
        layer = [item for part in inner for item in part]
    return False


def _is_short(value: Any) -> bool:
    return not isinstance(value, int) or value.bit_length() <= MOST_BITS
