"""Looks at a check's code when its gold is read: what would run a reply as code, and what can never work. Pure.

What fails here is the data set's fault. Later, whatever a check does with a reply is the reply's doing.
"""

from __future__ import annotations

import ast
import builtins
import symtable
from functools import lru_cache

from archer.errors import DataError
from archer.rewards.prelude import granted

RUNNING = {  # run what they are given, or give a function by its name
    "eval", "exec", "compile", "__import__", "__builtins__", "globals", "locals", "vars",
}  # fmt: skip
READING = {"getattr": 1, "attrgetter": 0, "methodcaller": 0}  # which argument names what they read
MODULES = {
    "builtins", "code", "codeop", "ctypes", "importlib", "marshal", "pickle", "runpy", "shelve", "subprocess", "timeit",
}  # fmt: skip
OF_MODULES = {"__name__", "__file__", "__doc__"}
MEND = "a reply would decide what runs; write it without"


@lru_cache(maxsize=4096)
def check_code(code: str, function: str, prelude: str) -> None:
    """Look at a check of ``function`` that runs after ``prelude``.

    Raises DataError where it could run a reply as code (``eval`` and the like), is no Python, has no function
    ``check``, or uses a name that nothing defines.
    """
    try:
        tree, scopes = ast.parse(code), symtable.symtable(code, "check", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"check: {type(error).__name__}: {error}; mend the data set's code") from None
    bound, used = _names(scopes)
    if "check" not in bound:
        raise DataError("check: it defines no function `check`; mend the data set's code")
    outside = used - bound - {function}
    for name in _powerful(tree, outside):
        raise DataError(f"check: it uses `{name}`: {MEND}")
    if unknown := sorted(outside - _known(tree, prelude)) if _is_told(tree) else []:
        raise DataError(f"check: name {unknown[0]!r} is not defined; mend the data set's code")


def _names(top: symtable.SymbolTable) -> tuple[set[str], set[str]]:
    """Return the names that a module defines, and those that it looks up among them or the built-ins."""
    bound, used, scopes = set[str](), set[str](), [top]
    for scope in scopes:
        for one in scope.get_symbols():
            outer = scope is top or one.is_global()
            bound |= {one.get_name()} if outer and (one.is_assigned() or one.is_imported()) else set()
            used |= {one.get_name()} if outer and one.is_referenced() else set()
        scopes += scope.get_children()
    return bound, used


def _powerful(tree: ast.Module, outside: set[str]) -> list[str]:
    """List what would let a reply decide what runs: functions that run text, attributes named by a value, modules."""
    named = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and _names_literally(node)}
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) if name in outside and (name in RUNNING or name in READING):
                found += [name] if id(node) not in named else []
            case ast.Attribute(attr=name) if name in (RUNNING - {"compile"}) or name in READING:
                found += [name] if id(node) not in named else []
            case ast.Import(names=names):
                found += [one.name for one in names if one.name.partition(".")[0] in MODULES]
            case ast.ImportFrom(module=str(module)):
                found += [module] if module.partition(".")[0] in MODULES else []
    return found


def _names_literally(call: ast.Call) -> bool:
    """Return whether a call of ``getattr`` or the like says in the code what it reads."""
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    if name not in READING or len(call.args) <= READING[name]:
        return False
    return isinstance(call.args[READING[name]], ast.Constant)


def _is_told(tree: ast.Module) -> bool:
    """Return whether all names that the code imports are in it: ``from os import *`` does not say."""
    return not any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(tree))


def _known(tree: ast.Module, prelude: str) -> set[str]:
    """Return the names that are there without being defined in the code; all names where the prelude's are unknown."""
    try:
        return {*dir(builtins), *OF_MODULES, *granted(prelude)}
    except ImportError:
        return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
