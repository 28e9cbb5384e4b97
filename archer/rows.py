"""Rows of data sets: JSON files, folders of them, or the Hugging Face hub at a revision."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from archer.errors import DataError, MissingError, first_line
from archer.recipe import Source

Row = Mapping[str, Any]
SUFFIXES = (".json", ".jsonl")


def is_local(source: Source) -> bool:
    """Say whether a source is a file or folder of ours, not a hub data set.

    With a revision it is the hub's, also where a folder here is called as the repository is.
    """
    path = Path(source.path or "")
    ours = path.is_absolute() or (source.revision is None and path.is_dir())
    return source.path is not None and (path.suffix in SUFFIXES or ours)


def read_rows(source: Source) -> Iterator[Row]:
    """Yield the rows of local JSON files, or of a hub data set at its revision. Raises DataError."""
    path = str(source.path)
    if is_local(source):
        for file in local_files(Path(path), source.files):
            yield from read_json(file)
    elif source.files:
        for name in source.files:
            yield from read_json(_fetched(path, name, source.revision))
    else:
        yield from _data_set(source)


def local_files(path: Path, names: Sequence[str] = ()) -> list[Path]:
    """Return a file itself, or a folder's files: those of these names, else all JSON. Raises DataError."""
    if not path.is_dir():
        return [path]
    if names:
        missing = [name for name in names if not (path / name).is_file()]
        if missing:
            raise DataError(f"{path}: no file {', '.join(missing)} in this folder; it needs {', '.join(names)}")
        return [path / name for name in names]
    found = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if not found:
        raise DataError(f"{path}: no {' or '.join(SUFFIXES)} file in this folder")
    return found


def read_json(path: Path) -> Iterator[Row]:
    """Yield the rows of a .json (a list) or .jsonl file, a line at a time. Raises DataError naming the line."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        yield from _listed(path) if path.suffix == ".json" else _lines(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error}") from error


def _listed(path: Path) -> list[Row]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected a list of rows, found {type(rows).__name__}")
    return rows


def _lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="\n") as lines:  # JSON strings may hold other ends of lines
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}: line {number}: not JSON: {error}") from error
            yield row


def _fetched(repository: str, name: str, revision: str | None) -> Path:
    """Fetch one file of a hub data set (once: the hub's client caches it)."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, name, repo_type="dataset", revision=revision))
    except Exception as error:  # the hub's client raises a dozen kinds, all meaning: not to be had
        raise _not_to_be_had(f"{repository}: {name}", error) from error


def _data_set(source: Source) -> Iterator[Row]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingError(
            f"{source.path}: reading the Hugging Face hub needs `pip install 'archer-rlvr[data]'`"
        ) from error
    try:
        yield from load_dataset(str(source.path), source.config or None, split=source.split, revision=source.revision)
    except Exception as error:
        raise _not_to_be_had(str(source.path), error) from error


def _not_to_be_had(what: str, error: Exception) -> DataError:
    return DataError(f"{what}: the hub did not give it: {first_line(error)}; a local copy is named by its path")
