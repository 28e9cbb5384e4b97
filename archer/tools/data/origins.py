"""Where the rows of a training set come from, and what decides which rows those are."""

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
    """Where problems come from: a hub data set, or by ``--data`` a local file; ``shape`` reads its rows."""

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
        """The same for the readers of rows."""
        return DataSource(self.name, self.path, self.revision, self.config, self.files, self.split)


def placed(origin: Origin, path: str | None) -> Origin:
    """Return a source whose rows lie at ``path`` if that is given. Raises DataError where nothing lies there."""
    if path is None:
        return origin
    found = Path(path).expanduser()
    if not found.is_dir() and (found.suffix not in SUFFIXES or not found.is_file()):
        raise DataError(
            f"--data {origin.name}={path}: no such file or folder; expected {' or '.join(SUFFIXES)}, or a folder"
        )
    return replace(origin, path=str(found.absolute()), revision=None, config="", files=())


def rows_of(source: DataSource) -> dict[str, Json]:
    """Return what decides a source's rows: its files' sha256, or repository and commit. Raises DataError."""
    if is_local(source):
        path = Path(str(source.path))
        files = {file.name: sha256_of(file) for file in local_files(path, source.files)}
        return {"files": files, "split": source.split}
    return {
        "repository": source.path, "revision": source.revision, "config": source.config, "split": source.split,
        "files": list(source.files),
    }  # fmt: skip


def pinned(origin: Origin) -> Origin:
    """Return a hub source at a commit: where none is known, the newest now, which the manifest then names."""
    if is_local(origin.rows) or origin.revision:
        return origin
    return replace(origin, revision=commit_of(origin.path, None))


def sha256_of(path: Path) -> str:
    """Return a file's sha256. Raises DataError where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
