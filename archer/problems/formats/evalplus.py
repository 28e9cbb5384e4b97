"""HumanEval+ and MBPP+: the same tasks with many more tests, as EvalPlus publishes them.

https://huggingface.co/datasets/evalplus/humanevalplus and .../mbppplus. A row's ``test`` is a program: it
lists ``inputs`` and ``results``, and asserts in a loop that the function gives them. Each pair becomes an
assertion of its own, decided outside the sandbox. If the loop computes what it expects, each of its iterations
becomes a check of its own, so that the time stays linear in their number. numpy, which the program imports to
compare floating-point numbers, is not needed: :func:`~archer.rewards.assertions.split` knows ``allclose``.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from archer.errors import DataError
from archer.problems.formats.humaneval import ask
from archer.problems.formats.mbpp import shape as mbpp
from archer.problems.formats.shaped import ShapedRow, parsed, value
from archer.types import Json

CLOSE = 1e-6  # EvalPlus's absolute tolerance for floating-point numbers if a task sets none; the relative one is 1e-7
PLAIN = "{call} == {exp}"
KINDS = {  # the comparing statement in a row's own `assertion`, and the test that replaces it
    "exact_match = out == exp": PLAIN,
    "exact_match = set(out) == set(exp)": "set({call}) == set({exp})",
    "exact_match = exp == (out is not None)": "{exp} == ({call} is not None)",
}
# For checks that stay whole: `assertion` without numpy.
ASSERTION = textwrap.dedent("""
    import math as _math


    def _close(out, exp, atol):
        if isinstance(exp, (list, tuple)):
            return len(out) == len(exp) and all(_close(one, other, atol) for one, other in zip(out, exp))
        return _math.isclose(out, exp, rel_tol=0, abs_tol=atol + 1e-7 * abs(exp))


    def assertion(out, exp, atol):
        floats = isinstance(exp, float) or isinstance(exp, (list, tuple)) and all(isinstance(i, float) for i in exp)
        atol = atol or (1e-6 if floats else 0)
        assert out == exp or atol and _close(out, exp, atol)
""")


def humanevalplus(row: Mapping[str, Any]) -> ShapedRow:
    """Return the parts of a HumanEval row, with the tests of EvalPlus."""
    test, function = value(row, "test", str), value(row, "entry_point", str)
    code = value(row, "prompt", str)
    prompt = ask(code)
    program = _read(test, function)
    gold: dict[str, Json] = {"function": function, "prefix": code, "tests": _tests(program, function, code)}
    return ShapedRow(value(row, "task_id", str), prompt, gold)


def mbppplus(row: Mapping[str, Any]) -> ShapedRow:
    """Return the parts of an MBPP row, whose three assertions are shown, with the tests of EvalPlus after them."""
    setup = "\n".join(value(row, "test_imports", list)) if row.get("test_imports") else ""
    plain = {**row, "text": value(row, "prompt", str), "test_setup_code": setup}
    shown = mbpp(plain)
    function = shown.gold["function"]
    tests = [*shown.gold["tests"], *_tests(_read(value(row, "test", str), function), function, setup)]
    return replace(shown, gold={**shown.gold, "tests": tests})


@dataclass(frozen=True)
class _Program:
    """A row's test program, split into the lists, the loop over them, and the functions around."""

    around: tuple[ast.stmt, ...]
    lists: Mapping[str, ast.expr]
    loop: ast.For


def _read(test: str, function: str) -> _Program:
    body = parsed(test, "test").body
    check = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == "check"]
    inner = check[0].body if check else body
    loops = [node for node in inner if isinstance(node, ast.For)]
    lists = {
        node.targets[0].id: node.value
        for node in inner
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    if len(loops) != 1 or not isinstance(lists.get("inputs"), ast.List):
        raise DataError(f"test: expected a list `inputs` and one loop over it, found {test[:80]!r}")
    loop = loops[0]
    if check and not check[0].args.args:
        raise DataError(f"test: expected `check` to take the function, found {ast.unparse(check[0])[:80]!r}")
    if check:
        loop = _Renamed({check[0].args.args[0].arg: function}).visit(loop)
    around = [node for node in body if not _is_loop_part(node) and node not in check]
    return _Program(tuple(around), lists, loop)


def _is_loop_part(node: ast.stmt) -> bool:
    """Return whether a statement is the loop, one of its lists, a call of ``check``, or numpy's import."""
    match node:
        case ast.For() | ast.Expr():
            return True
        case ast.Assign(targets=[ast.Name(id="inputs" | "results")]):
            return True
        case ast.Import(names=[ast.alias(name="numpy")]):
            return True
    return False


class _Renamed(ast.NodeTransformer):
    """Replaces names by expressions."""

    def __init__(self, names: Mapping[str, str | ast.expr]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        replacement = self.names.get(node.id, node)
        return ast.Name(replacement, node.ctx) if isinstance(replacement, str) else replacement


def _tests(program: _Program, function: str, setup: str) -> list[dict[str, Json]]:
    inputs, results = program.lists["inputs"], program.lists.get("results")
    assert isinstance(inputs, ast.List)
    kind = _comparison(program)
    if kind and isinstance(results, ast.List) and _is_plain_loop(program.loop, function):
        if len(inputs.elts) != len(results.elts):
            raise DataError(f"test: {len(inputs.elts)} inputs and {len(results.elts)} results")
        atol = _tolerance(program.loop)
        pairs = zip(inputs.elts, results.elts, strict=True)
        return [{"assert": _assertion(function, given, exp, kind, atol)} for given, exp in pairs]
    return [{"check": _turn(program, function, setup, index)} for index in range(len(inputs.elts))]


def _comparison(program: _Program) -> str | None:
    """Return the test of ``KINDS`` that the row's ``assertion`` makes; None for a comparison of its own."""
    for node in program.around:
        if isinstance(node, ast.FunctionDef) and node.name == "assertion":
            statements = [ast.unparse(part) for part in ast.walk(node) if isinstance(part, ast.Assign)]
            kinds = [KINDS[text] for text in statements if text in KINDS]
            exact = [text for text in statements if text.startswith("exact_match")]
            return kinds[0] if len(kinds) == len(exact) == 1 else None
    return None


def _call(loop: ast.For) -> ast.Call | None:
    match loop.body:
        case [ast.Expr(value=ast.Call(func=ast.Name(id="assertion"), args=[_, _, _]) as call)]:
            return call
    return None


def _is_plain_loop(loop: ast.For, function: str) -> bool:
    """Return whether each turn is ``assertion(function(*inp), exp, atol)``."""
    call = _call(loop)
    return call is not None and [ast.unparse(part) for part in call.args[:2]] == [f"{function}(*inp)", "exp"]


def _tolerance(loop: ast.For) -> float:
    call = _call(loop)
    assert call is not None
    tolerance = ast.literal_eval(call.args[2])
    if not isinstance(tolerance, int | float) or tolerance < 0:
        raise DataError(f"test: expected a tolerance of 0 or more, found {tolerance!r}")
    return float(tolerance)


def _assertion(function: str, given: ast.expr, exp: ast.expr, kind: str, atol: float) -> str:
    if not isinstance(given, ast.List | ast.Tuple):
        raise DataError(f"test: inputs: expected lists of arguments, found {ast.unparse(given)[:80]!r}")
    call = f"{function}({', '.join(map(ast.unparse, given.elts))})"
    tolerance = atol or (CLOSE if _is_floats(exp) else 0)
    named = {name: ast.parse(f"math.{name}", mode="eval").body for name in ("inf", "nan")}
    text = ast.unparse(_Renamed(named).visit(exp))
    exact = kind.format(call=call, exp=text)
    if not tolerance:
        return f"assert {exact}"
    close = f"allclose({call}, {text}, {tolerance})"
    return f"assert {close}" if kind == PLAIN else f"assert {exact} or {close}"


def _is_floats(node: ast.expr) -> bool:
    """Return whether this is a floating-point number or a list of nothing else, as EvalPlus asks."""
    if isinstance(node, ast.List | ast.Tuple):
        return all(map(_is_float, node.elts))
    return _is_float(node)


def _is_float(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    is_named = isinstance(node, ast.Name) and node.id in ("inf", "nan")
    return is_named or (isinstance(node, ast.Constant) and isinstance(node.value, float))


def _turn(program: _Program, function: str, setup: str, index: int) -> str:
    """Return one iteration of the loop as a check of its own, for a loop that computes the expected value."""
    own = [node for node in program.around if not isinstance(node, ast.FunctionDef) or node.name != "is_floats"]
    around = [ast.unparse(node) for node in own if getattr(node, "name", "") != "assertion" or not _comparison(program)]
    lines = [f"{name} = {ast.unparse(_element(node, index))}" for name, node in program.lists.items()]
    turn = "\n".join([*lines, ast.unparse(program.loop)])
    code = "\n".join([setup, ASSERTION, *around])
    return f"{code}\n\n\ndef check(candidate):\n{textwrap.indent(turn, '    ')}\n"


def _element(node: ast.expr, index: int) -> ast.expr:
    if isinstance(node, ast.List) and index < len(node.elts):
        return ast.List([node.elts[index]], ast.Load())
    return node
