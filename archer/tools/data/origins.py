"""The sources of a training set, and what identifies their rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import with_config

from archer.errors import DataError
from archer.evaluation.pinning import commit_of
from archer.problems.rows import SUFFIXES, is_local, local_files
from archer.recipe.config import STRICT
from archer.recipe.sections import DataSource
from archer.types import Json


@with_config(STRICT)
@dataclass(frozen=True)
class Origin:
    """A source of problems: a hub data set or, by ``--data``, a local file; ``shape`` reads its rows."""

    name: str
    path: str
    shape: str
    revision: str | None = None
    config: str = ""
    split: str = "train"
    files: tuple[str, ...] = ()
    licence: str = ""

    @property
    def rows(self) -> DataSource:
        """The source as the readers of rows expect it."""
        return DataSource(self.name, self.path, self.revision, self.config, self.files, self.split)


def placed(origin: Origin, path: str | None) -> Origin:
    """Return the source with its rows at ``path``, if given. Raises DataError if there is no such file or folder."""
    if path is None:
        return origin
    local = Path(path).expanduser()
    if not local.is_dir() and (local.suffix not in SUFFIXES or not local.is_file()):
        raise DataError(
            f"--data {origin.name}={path}: no such file or folder; expected {' or '.join(SUFFIXES)}, or a folder"
        )
    return replace(origin, path=str(local.absolute()), revision=None, config="", files=())


def rows_of(source: DataSource) -> dict[str, Json]:
    """Return what identifies a source's rows: sha256 of files, or repository and revision. Raises DataError."""
    if is_local(source):
        path = Path(str(source.path))
        files = {file.name: sha256_of(file) for file in local_files(path, source.files)}
        return {"files": files, "split": source.split}
    return {
        "repository": source.path, "revision": source.revision, "config": source.config, "split": source.split,
        "files": list(source.files),
    }  # fmt: skip


def pinned(origin: Origin) -> Origin:
    """Return a hub source at a commit: its revision, or the newest one if it has none."""
    if is_local(origin.rows) or origin.revision:
        return origin
    return replace(origin, revision=commit_of(origin.path, None))


def sha256_of(path: Path) -> str:
    """Return a file's sha256. Raises DataError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
