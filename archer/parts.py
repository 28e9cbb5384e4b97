"""Parts from anywhere: what a recipe names is shipped, or ``module:NAME``, or ``./file.py:NAME``, or an entry point.

A package registers a part under the entry point group ``archer.KIND`` (``archer.rewards``); a recipe then names it
like a shipped one. The sha256 of an outside part's source file is part of what identifies a run.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar, cast

from archer.errors import UserError, did_you_mean

Kind = Literal["algorithms", "advantages", "aggregations", "rewards", "metrics", "formats", "engines", "trackers"]
T = TypeVar("T")


def find_part(kind: Kind, name: str, shipped: Mapping[str, T]) -> T:
    """Return the part ``name``: an entry of ``shipped``, an entry point's, or what ``module:NAME`` leads to.

    Raises UserError where there is none, or where importing its module fails.
    """
    if name in shipped:
        return shipped[name]
    if is_outside(name):
        module, _, attribute = name.rpartition(":")
        return cast(T, _attribute(kind, name, _module(kind, module), attribute))
    entry = _entry_point(kind, name)
    if entry is not None:
        return cast(T, _attribute(kind, name, _import(kind, entry.module), entry.attr))
    known = [*shipped, *(entry.name for entry in entry_points(group=f"archer.{kind}"))]
    raise UserError(
        f"{kind}: no {kind.removesuffix('s')} {name!r}{did_you_mean(name, known)}; name one of your own as "
        "module:NAME or ./file.py:NAME"
    )


def is_outside(name: str) -> bool:
    """Whether a name is written as ``module:NAME`` or ``./file.py:NAME``."""
    return ":" in name


def part_digests(named: Iterable[tuple[Kind, str]], shipped: Mapping[Kind, Iterable[str]]) -> dict[str, str]:
    """Return the sha256 of the source file of every part that is not shipped, by name. Raises as :func:`find_part`."""
    return {
        name: hashlib.sha256(_source(kind, name).read_bytes()).hexdigest()
        for kind, name in sorted(set(named))
        if name not in shipped.get(kind, ())
    }


def _source(kind: Kind, name: str) -> Path:
    if is_outside(name):
        module = _module(kind, name.rpartition(":")[0])
    else:
        entry = _entry_point(kind, name)
        if entry is None:
            raise UserError(f"{kind}: no {name!r}")
        module = _import(kind, entry.module)
    if not module.__file__:
        raise UserError(f"{kind}: {name}: {module.__name__} has no source file to record; put the part into one")
    return Path(module.__file__)


def _entry_point(kind: Kind, name: str) -> EntryPoint | None:
    return next(iter(entry_points(group=f"archer.{kind}", name=name)), None)


def _module(kind: Kind, where: str) -> ModuleType:
    return _load_file(kind, Path(where)) if where.endswith(".py") else _import(kind, where)


def _import(kind: Kind, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"{kind}: {name}: no such module; install it, or name a file as ./{name.replace('.', '/')}.py:NAME"
            ) from error
        raise UserError(f"{kind}: {name}: importing it failed: {error}") from error
    except Exception as error:  # whatever a user's module raises
        raise UserError(f"{kind}: {name}: importing it raised {error!r}") from error


def _load_file(kind: Kind, path: Path) -> ModuleType:
    """Import a file once, under a name of its own that no installed module has."""
    path = path.expanduser().absolute()
    if not path.is_file():
        raise UserError(f"{kind}: {path}: no such file")
    name = f"archer_part_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{kind}: {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while they are made
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises
        del sys.modules[name]
        raise UserError(f"{kind}: {path}: importing it raised {error!r}") from error
    return module


def _attribute(kind: Kind, name: str, module: ModuleType, attribute: str) -> Any:
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            known = [known for known in vars(module) if not known.startswith("_")]
            raise UserError(f"{kind}: {name}: {module.__name__} has no {attribute!r}{did_you_mean(attribute, known)}")
        value = getattr(value, part)
    return value
