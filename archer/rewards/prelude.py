"""What a program and a check find imported before their first line, and the names that this grants."""

from __future__ import annotations

import ast
import importlib
import symtable
from functools import cache

# The imports that LiveCodeBench puts before programs, in its order: a later name replaces an equal earlier one,
# so pow and open are the built-ins, and datetime is the module.
# fmt: off
MODULES = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics", "itertools",
    "functools", "operator", "io", "sys", "json",
)
# fmt: on
PRELUDE = "".join(
    [f"from {module} import *\n" for module in (*MODULES, "builtins", "typing")]
    + [f"import {module}\n" for module in MODULES]
)


@cache
def granted(prelude: str) -> frozenset[str]:
    """Return the names that a prelude defines. It is not run, but modules of which it imports all names are imported.

    Raises ImportError for such a module that this machine does not have.
    """
    symbols = symtable.symtable(prelude, "prelude", "exec").get_symbols()
    names = {one.get_name() for one in symbols if one.is_assigned() or one.is_imported()}
    for node in ast.walk(ast.parse(prelude)):
        if isinstance(node, ast.ImportFrom) and node.module and node.names[0].name == "*":
            module = importlib.import_module(node.module)
            public = [name for name in vars(module) if not name.startswith("_")]
            names.update(getattr(module, "__all__", public))
    return frozenset(names)
