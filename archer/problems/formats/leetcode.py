"""LeetCode problems: a method of ``class Solution`` and assertions about it, in two published shapes.

DeepSeek-Coder's rows hold ``test``, statements that set ``test_input`` and assert what the method gives for
it. rllm's rows hold ``tests``, a function ``check(candidate)`` whose assertions name their arguments. Both
become positional arguments in the order of the starter code, as LiveCodeBench calls such methods.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archer.errors import DataError
from archer.problems.formats.shaped import ShapedRow, ask_for_function, literal, parsed, source, value
from archer.types import Json

STARTER = re.compile(r"```python\n(.*?)\n?```", re.DOTALL)


def shape(row: Mapping[str, Any]) -> ShapedRow:
    """Return the parts of a row of either shape; rllm's has the key ``tests``."""
    return _with_check(row) if "tests" in row else _with_inputs(row)


def reference(row: Mapping[str, Any]) -> str | None:
    """Return the data set's own solution, which only rllm's rows have."""
    return value(row, "completion", str) if "completion" in row else None


@dataclass(frozen=True)
class _Starter:
    """The method that the starter code asks for, and the code before its class."""

    method: str
    parameters: tuple[str, ...]
    before: str

    def arguments(self, named: Mapping[str, Json], key: str) -> list[Json]:
        """Put named arguments into the order of the method's parameters."""
        if sorted(named) != sorted(self.parameters):
            raise DataError(f"{key}: {self.method} takes {list(self.parameters)}, found {sorted(named)}")
        return [named[name] for name in self.parameters]


def _read_starter(code: str, key: str) -> _Starter:
    tree = parsed(f"{code.rstrip()}\n            pass\n", key)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Solution":
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    parameters = tuple(argument.arg for argument in method.args.args[1:])
                    before = "\n".join(code.splitlines()[: node.lineno - 1]).strip()
                    return _Starter(method.name, parameters, before)
    raise DataError(f"{key}: expected a class Solution with a method, found {code[:80]!r}")


def _equality(node: ast.stmt, key: str) -> tuple[ast.Call, ast.expr]:
    match node:
        case ast.Assert(test=ast.Compare(left=ast.Call() as call, ops=[ast.Eq()], comparators=[expected])):
            return call, expected
    raise DataError(f"{key}: expected `assert call == value`, found {ast.unparse(node)[:200]!r}")


# ---- rllm: {"problem": ..., "completion": ..., "tests": {"functional": "def check(candidate): ..."}}


def _with_check(row: Mapping[str, Any]) -> ShapedRow:
    problem, code = value(row, "problem", str), value(value(row, "tests", dict), "functional", str)
    blocks = STARTER.findall(problem)
    if not blocks:
        raise DataError(f"problem: expected starter code in a block marked python, found {problem[-80:]!r}")
    starter = _read_starter(blocks[-1], "problem")
    check = next(iter(parsed(code, "tests: functional").body), None)
    if not isinstance(check, ast.FunctionDef) or not code.rstrip().endswith(f"check(Solution().{starter.method})"):
        raise DataError(f"tests: functional: expected a check of Solution().{starter.method}, found {code[:80]!r}")
    tests = [_named_test(node, starter, index) for index, node in enumerate(check.body)]
    return ShapedRow("", problem.strip(), {"function": starter.method, "tests": tests})


def _named_test(node: ast.stmt, starter: _Starter, index: int) -> dict[str, Json]:
    key = f"tests: functional: statement {index + 1}"
    call, expected = _equality(node, key)
    if call.args or not all(keyword.arg for keyword in call.keywords):
        raise DataError(f"{key}: expected named arguments, found {ast.unparse(call)[:200]!r}")
    named = {str(keyword.arg): literal(keyword.value, key) for keyword in call.keywords}
    return {"arguments": starter.arguments(named, key), "expected": literal(expected, key)}


# ---- DeepSeek-Coder: {"task_id": ..., "prompt": '"""statement"""\nstarter', "test": "my_solution = Solution() ..."}


def _with_inputs(row: Mapping[str, Any]) -> ShapedRow:
    name, prompt, code = value(row, "task_id", str), value(row, "prompt", str), value(row, "test", str)
    before, quotes, starter_code = prompt.rpartition('"""')
    statement = before.strip().removeprefix('"""')
    if not quotes:
        raise DataError(f"prompt: expected a statement in triple quotes, then code, found {prompt[:80]!r}")
    starter = _read_starter(starter_code.strip("\n"), "prompt")
    helpers, pairs = _statements(code)
    if helpers:
        gold = _through_helpers(code, starter, helpers, pairs)
    else:
        gold = {"function": starter.method, "tests": [_plain_test(starter, *pair) for pair in pairs]}
    if starter.before:
        gold["prefix"] = starter.before
    return ShapedRow(name, ask_for_function(statement, starter_code), gold)


def _statements(code: str) -> tuple[list[ast.stmt], list[tuple[ast.Dict, ast.stmt]]]:
    """Return the helpers, and each assertion with the input set before it."""
    helpers, pairs = list[ast.stmt](), list[tuple[ast.Dict, ast.stmt]]()
    given: ast.Dict | None = None
    for node in parsed(code, "test").body:
        match node:
            case ast.Assign(targets=[ast.Name(id="my_solution")]):
                pass
            case ast.Assign(targets=[ast.Name(id="test_input")], value=ast.Dict() as inputs):
                given = inputs
            case ast.Assign(targets=[ast.Name()]):
                helpers.append(node)
            case ast.Assert() if given is not None:
                pairs.append((given, node))
            case _:
                raise DataError(f"test: expected an input or an assertion, found {ast.unparse(node)[:200]!r}")
    if not pairs:
        raise DataError(f"test: it asserts nothing: {code[:80]!r}")
    return helpers, pairs


def _named(given: ast.Dict) -> dict[str, ast.expr]:
    """Return the inputs by name."""
    named = dict[str, ast.expr]()
    for key, item in zip(given.keys, given.values, strict=True):
        if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
            raise DataError(f"test: test_input: expected names written out, found {ast.unparse(given)[:200]!r}")
        named[key.value] = item
    return named


def _plain_test(starter: _Starter, given: ast.Dict, node: ast.stmt) -> dict[str, Json]:
    call, expected = _equality(node, "test")
    if ast.unparse(call) != f"my_solution.{starter.method}(**test_input)":
        raise DataError(f"test: expected a call of {starter.method}(**test_input), found {ast.unparse(call)[:200]!r}")
    named = {name: literal(item, "test") for name, item in _named(given).items()}
    return {"arguments": starter.arguments(named, "test"), "expected": literal(expected, "test")}


def _through_helpers(
    code: str, starter: _Starter, helpers: list[ast.stmt], pairs: list[tuple[ast.Dict, ast.stmt]]
) -> dict[str, Json]:
    """Return the gold of a method whose arguments and result pass through helpers, as linked lists do.

    Helpers run beside the program, so the assertions call the outermost one, with the input written into each.
    """
    outer, tests = "", list[Json]()
    for given, node in pairs:
        call, expected = _equality(node, "test")
        outer = ast.unparse(call.func)
        if ast.unparse(call) != f"{outer}(my_solution.{starter.method}(**test_input))":
            raise DataError(f"test: expected a helper around {starter.method}, found {ast.unparse(call)[:200]!r}")
        named = ", ".join(f"{name}={source(code, item)}" for name, item in _named(given).items())
        asked = f"{outer}(Solution().{starter.method}({named}))"
        tests.append({"assert": f"assert {asked} == {source(code, expected)}"})
    return {"function": outer, "setup": "\n".join(source(code, node) for node in helpers), "tests": tests}
