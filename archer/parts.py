"""Parts from anywhere: what a recipe names is shipped, or ``module:NAME``, or ``./file.py:NAME``, or an entry point.

A package registers a part under the entry point group ``archer.KIND`` (``archer.rewards``); a recipe then names it
like a shipped one. A relative file is one of the working directory, as paths of data are. In Python, parts are also
given as objects (:func:`given_parts`). The sha256 of an outside part's source is part of what identifies a run.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path, PurePath
from types import FunctionType, ModuleType
from typing import Any, Literal, TypeVar, cast, get_args

from archer.errors import UserError, did_you_mean, raised

Kind = Literal["algorithms", "advantages", "aggregations", "rewards", "metrics", "formats", "engines", "trackers"]
T = TypeVar("T")
_GIVEN: dict[tuple[str, str], Any] = {}  # objects of `given_parts`, by kind and name
_SHA256: dict[str, str] = {}  # of modules' files as they were when they were imported: what runs


def find_part(kind: Kind, name: str, shipped: Mapping[str, T]) -> T:
    """Return the part ``name``: an entry of ``shipped``, an object given, or what an entry point or its name leads to.

    Raises UserError where there is none, or where importing its module fails.
    """
    if (kind, name) in _GIVEN:
        if name in shipped:
            raise UserError(f"parts: {kind}: {name!r} is the name of a shipped one; give yours another name")
        return cast(T, _GIVEN[kind, name])
    if name in shipped:
        return shipped[name]
    if is_outside(name):
        module, _, attribute = name.rpartition(":")
        return cast(T, _attribute(kind, name, _module(kind, module), attribute))
    entry = _entry_point(kind, name)
    if entry is not None:
        return cast(T, _attribute(kind, name, _import(kind, entry.module), entry.attr))
    if name.endswith(".py"):
        raise UserError(f"{kind}: {name}: say which part of the file, as in {name}:NAME")
    known = [*shipped, *(entry.name for entry in entry_points(group=f"archer.{kind}"))]
    raise UserError(
        f"{kind}: no {kind.removesuffix('s')} {name!r}{did_you_mean(name, known)}; name one of your own as "
        "module:NAME or ./file.py:NAME"
    )


def is_outside(name: str) -> bool:
    """Whether a name is written as ``module:NAME`` or ``./file.py:NAME``."""
    return ":" in name


def given_names(kind: Kind) -> tuple[tuple[str, int], ...]:
    """Return what tells the objects of a kind that are given now from those of another time."""
    return tuple((name, id(part)) for (one, name), part in _GIVEN.items() if one == kind)


@contextmanager
def given_parts(parts: Mapping[str, Mapping[str, object]]) -> Iterator[None]:
    """Within the context, objects are found by their names: ``{"rewards": {"mine": MyReward()}}``.

    Raises UserError for a kind that is none, for a name with a colon, and for one that is given already.
    """
    found = {(kind, name): part for kind, named in parts.items() for name, part in named.items()}
    for kind, name in found:
        if kind not in get_args(Kind):
            raise UserError(f"parts: no kind {kind!r}{did_you_mean(kind, get_args(Kind))}")
        if is_outside(name) or (kind, name) in _GIVEN:
            raise UserError(f"parts: {kind}: {name!r}: give it another name: a plain one that nothing else has")
    _GIVEN.update(found)
    try:
        yield
    finally:
        for key in found:
            del _GIVEN[key]


def part_digests(named: Iterable[tuple[Kind, str]], shipped: Mapping[Kind, Iterable[str]]) -> dict[str, str]:
    """Return the sha256 of the source of every part that is not shipped, by ``KIND: NAME``.

    Raises as :func:`find_part`. Of a named part it is its file's; of an object that was given, that of its class and
    of the values of its fields.
    """
    outside = [(kind, name) for kind, name in sorted(set(named)) if name not in shipped.get(kind, ())]
    return {f"{kind}: {name}": _digest(kind, name) for kind, name in outside}


def _digest(kind: Kind, name: str) -> str:
    if (kind, name) in _GIVEN:
        told = _told(_GIVEN[kind, name], f"parts: {kind}: {name}")
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    module = _source(kind, name)
    if module.__name__ not in _SHA256:
        _SHA256[module.__name__] = _sha256(Path(str(module.__file__)))
    return _SHA256[module.__name__]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def file_digest(name: str) -> str:
    """Return the sha256 of the file that ``module:NAME`` or ``./file.py:NAME`` is in, "" without one. Runs nothing."""
    where = name.rpartition(":")[0]
    if not where.endswith(".py"):
        try:
            found = importlib.util.find_spec(where.partition(".")[0] if where not in sys.modules else where)
        except (ImportError, ValueError):
            return ""
        inner = where.split(".")[1:]
        path = Path(found.origin or "") if found else Path()
        if inner and where not in sys.modules:  # a package's module, found without importing the package
            path = path.parent.joinpath(*inner).with_suffix(".py")
    else:
        path = Path(where).expanduser()
    return _sha256(path) if path.is_file() else ""


def _told(value: Any, where: str) -> Any:
    """Return all that an object does as plain values: the source of its class or function, and its fields."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return [[_told(key, where), _told(value[key], where)] for key in value]
    if isinstance(value, list | tuple):
        return [_told(part, where) for part in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, partial):
        return ["partial", *(_told(part, where) for part in (value.func, value.args, value.keywords))]
    if isinstance(value, type | FunctionType) or inspect.isbuiltin(value):
        return [value.__qualname__, _text(value, where)]
    inner = {one.name: _told(getattr(value, one.name), where) for one in fields(value)} if is_dataclass(value) else {}
    return [_told(type(value), where), inner]


def _text(value: Any, where: str) -> str:
    """Return the source of a class or function; nothing for this package's and Python's own. Raises UserError."""
    root = str(value.__module__).partition(".")[0]
    if root == "archer" or (root in sys.stdlib_module_names and root != "__main__"):
        return str(value.__module__)
    try:
        return inspect.getsource(value)
    except (OSError, TypeError) as error:
        raise UserError(f"{where}: {value.__qualname__} has no source to record; put it into a file") from error


def _source(kind: Kind, name: str) -> ModuleType:
    if is_outside(name):
        module = _module(kind, name.rpartition(":")[0])
    else:
        entry = _entry_point(kind, name)
        if entry is None:
            raise UserError(f"{kind}: no {name!r}")
        module = _import(kind, entry.module)
    if not module.__file__:
        raise UserError(f"{kind}: {name}: {module.__name__} has no source file to record; put the part into one")
    return module


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
        raise UserError(f"{kind}: {name}: importing it raised {raised(error)}") from error


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
    _SHA256[name] = _sha256(path)
    sys.modules[name] = module  # dataclasses look their module up while they are made
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises
        del sys.modules[name]
        raise UserError(f"{kind}: {path}: importing it raised {raised(error)}") from error
    return module


def _attribute(kind: Kind, name: str, module: ModuleType, attribute: str) -> Any:
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            own = {known for known, one in vars(module).items() if getattr(one, "__module__", "") == module.__name__}
            known = [known for known in own or vars(module) if not known.startswith("_")]
            raise UserError(f"{kind}: {name}: no {attribute!r} there{did_you_mean(attribute, known)}")
        value = getattr(value, part)
    return value
