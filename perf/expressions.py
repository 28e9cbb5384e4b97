"""Every regular expression that meets a response, found in the modules of the rewards, inside functions too."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections import defaultdict
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import archer.rewards

ELSEWHERE = ("archer.terminal",)  # what shows responses
METHODS = ("search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer")
Found = tuple[str, re.Pattern[str], set[str]]  # name, expression, the methods that are called


class Expression(NamedTuple):
    """A regular expression; ``anchored``: it is only asked about a text's beginning, not about every place in it."""

    name: str
    pattern: re.Pattern[str]
    anchored: bool

    def act(self, text: str) -> None:
        """Apply it to the whole text."""
        if self.anchored:
            self.pattern.match(text)
            self.pattern.fullmatch(text)
        else:
            for _ in self.pattern.finditer(text):
                pass


def expressions() -> Iterator[Expression]:
    """Yield each expression of the rewards once. Raises ValueError for one that only a function's variables tell."""
    modules = [importlib.import_module(name) for name in _names()]
    uses, seen = _uses(modules), set[tuple[str, int]]()
    for module in modules:
        for name, pattern, methods in [*_constants(module, uses), *_inline(module)]:
            if (pattern.pattern, pattern.flags) not in seen:
                seen.add((pattern.pattern, pattern.flags))
                anchored = bool(methods) and methods <= {"match", "fullmatch"}
                yield Expression(f"{module.__name__.removeprefix('archer.rewards.')}.{name}", pattern, anchored)


def _names() -> list[str]:
    found = pkgutil.walk_packages(archer.rewards.__path__, "archer.rewards.")
    names = [module.name for module in found if not module.name.endswith(".warmed")]  # which parses samples on import
    return [*names, *ELSEWHERE]


def _constants(module: ModuleType, uses: dict[str, set[str]]) -> Iterator[Found]:
    for name, value in vars(module).items():
        if isinstance(value, re.Pattern):
            yield name, value, uses[name]
        elif isinstance(value, list):
            pairs = [item for item in value if isinstance(item, tuple) and isinstance(item[0], re.Pattern)]
            yield from ((f"{name}[{index}]", pair[0], {"sub"}) for index, pair in enumerate(pairs))


def _inline(module: ModuleType) -> Iterator[Found]:
    """Yield the expressions that functions hand to :mod:`re`."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr=method), args=[text, *_]) if (
                method in METHODS
            ):
                yield f"line {node.lineno}", re.compile(_text(text, module)), {method}


def _text(node: ast.expr, module: ModuleType) -> str:
    """Return an expression's text; a part that only the function knows is taken to be a letter."""
    texts = []
    for part in node.values if isinstance(node, ast.JoinedStr) else [node]:
        try:
            texts.append(
                str(eval(ast.unparse(part.value if isinstance(part, ast.FormattedValue) else part), vars(module)))
            )
        except NameError as error:
            if part is node:
                where = f"{module.__name__}, line {node.lineno}: {ast.unparse(node)}"
                raise ValueError(f"{where}: make this expression a constant of the module") from error
            texts.append("x")
    return "".join(texts)


def _uses(modules: list[ModuleType]) -> dict[str, set[str]]:
    """Return the methods by which the rewards use each name."""
    uses = defaultdict[str, set[str]](set)
    for module in modules:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            match node:
                case ast.Attribute(value=ast.Name(id=name), attr=method) if method in METHODS:
                    uses[name].add(method)
    return uses
