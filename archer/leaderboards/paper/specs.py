"""The definitions of Archer's tables: ``leaderboards/tables/<name>.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import with_config

from archer.errors import DataError, did_you_mean
from archer.leaderboards.published import PaperTable, PublishedPaper, read_paper
from archer.recipe.config import STRICT, read_yaml, typed
from archer.system import suite


@with_config(STRICT)
@dataclass(frozen=True)
class TablePart:
    """A published table; ``measured`` shows results beside it (False if its K is not the benchmark's)."""

    published: str
    table: str
    measured: bool = True


@with_config(STRICT)
@dataclass(frozen=True)
class TableSpec:
    """A table of published tables and, if they allow it, of results beside them."""

    name: str
    title: str
    parts: tuple[TablePart, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadedPart:
    """A :class:`TablePart` with the paper and the published table that it names."""

    paper: PublishedPaper
    table: PaperTable
    measured: bool


def spec_names() -> list[str]:
    """Return the names of all tables."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def folder() -> Path:
    """Return the folder of the definitions."""
    return suite("leaderboards") / "tables"


def read_spec(name: str) -> TableSpec:
    """Read a table's definition. Raises DataError for an unknown name, RecipeError for a bad key."""
    path = folder() / f"{name}.yaml"
    if not path.is_file():
        raise DataError(
            f"{name!r} is no table{did_you_mean(name, spec_names())} and no folder that `archer compare` wrote"
        )
    spec = typed(TableSpec, read_yaml(path), f"tables/{path.name}")
    if spec.name != name:
        raise DataError(f"tables/{path.name}: name: {spec.name!r}; make it {name!r}, as the file is called")
    return spec


def load_parts(spec: TableSpec) -> list[LoadedPart]:
    """Read the published tables of a table's parts. Raises DataError for one that does not exist."""
    papers = {part.published: read_paper(part.published) for part in spec.parts}
    pairs = [(papers[part.published], part) for part in spec.parts]
    return [LoadedPart(paper, paper.table(part.table), part.measured) for paper, part in pairs]
