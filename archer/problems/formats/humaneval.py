"""HumanEval: functions to complete from signature and docstring, with a ``check(candidate)`` of assertions.

https://github.com/openai/human-eval. In the assertions ``candidate`` is renamed to the entry point, which is
the name that the program defines. A check of any other form stays whole and is replayed together with the
prompt's code, which defines its helpers.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Mapping
from typing import Any

from archer.errors import DataError
from archer.problems.formats.shaped import ShapedRow, parsed, source, value
from archer.rewards.assertions import split


def shape(row: Mapping[str, Any]) -> ShapedRow:
    """Return a row's parts; the prompt is also the gold's prefix, so programs may use its imports and helpers."""
    name, code = value(row, "task_id", str), value(row, "prompt", str)
    function, test = value(row, "entry_point", str), value(row, "test", str)
    texts = _assertions(test, _check(test), function)
    tests = [{"check": f"{code}\n{test}"}] if texts is None else [{"assert": text} for text in texts]
    if not tests:
        raise DataError(f"test: its check asserts nothing: {test[:80]!r}")
    return ShapedRow(name, ask(code), {"function": function, "prefix": code, "tests": tests})


def ask(code: str) -> str:
    """Return the prompt for a signature with its docstring."""
    return (
        "Complete this Python function. Answer with the whole function, in one code block marked python.\n\n"
        f"```python\n{code.strip()}\n```"
    )


def reference(row: Mapping[str, Any]) -> str:
    """Return the data set's own solution."""
    return value(row, "prompt", str) + value(row, "canonical_solution", str)


def _check(test: str) -> ast.FunctionDef:
    for node in parsed(test, "test").body:
        if isinstance(node, ast.FunctionDef) and node.name == "check" and len(node.args.args) == 1:
            return node
    raise DataError(f"test: expected a function check(candidate), found {test[:80]!r}")


def _assertions(test: str, check: ast.FunctionDef, function: str) -> list[str] | None:
    """Return the check's assertions, or None if it holds anything but assertions that can be split."""
    texts = []
    for node in check.body:
        match node:
            case ast.Expr(value=ast.Constant() | ast.Name() | ast.Call(func=ast.Name(id="print"))):
                pass  # a docstring, words for the reader, or (129) a print that calls nothing
            case ast.Assert(test=ast.Constant(value=true)) if true:
                pass
            case ast.Assert():
                text = _renamed(source(test, node), check.args.args[0].arg, function)
                if split(text, function) is None:
                    return None
                texts.append(text)
            case _:
                return None
    return texts


def _renamed(text: str, old: str, new: str) -> str:
    """Rename an identifier, leaving strings alone."""
    lines = text.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    for token in reversed(tokens):  # from the end, so that positions stay valid
        if token.type == tokenize.NAME and token.string == old:
            (row, start), (_, end) = token.start, token.end
            lines[row - 1] = lines[row - 1][:start] + new + lines[row - 1][end:]
    return "".join(lines)
