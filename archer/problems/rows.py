"""Rows of data sets: JSON files, folders of them, or the Hugging Face hub at a revision."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from archer.errors import DataError, MissingError, first_line
from archer.problems.json_stream import elements
from archer.recipe.sections import DataSource
from archer.system import PACKAGE

Row = Mapping[str, Any]
SUFFIXES = (".json", ".jsonl")


def is_local(source: DataSource) -> bool:
    """Return whether a source is a local file or folder, not a hub data set.

    A source with a revision is the hub's, even if a local folder has the repository's name.
    """
    path = Path(source.path or "")
    local = path.is_absolute() or (source.revision is None and path.is_dir())
    return source.path is not None and (path.suffix in SUFFIXES or local)


def read_rows(source: DataSource) -> Iterator[Row]:
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
    """Return the file itself, or a folder's files: those in ``names``, else all JSON. Raises DataError for none."""
    if not path.is_dir():
        return [path]
    if names:
        missing = [name for name in names if not (path / name).is_file()]
        if missing:
            raise DataError(f"{path}: no file {', '.join(missing)} in this folder; it needs {', '.join(names)}")
        return [path / name for name in names]
    paths = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if not paths:
        raise DataError(f"{path}: no {' or '.join(SUFFIXES)} file in this folder")
    return paths


def read_json(path: Path) -> Iterator[Row]:
    """Yield the rows of a .json (a list) or .jsonl file, one at a time. Raises DataError naming the row or line."""
    if not path.is_file():
        raise DataError(f"{path}: no such file{maker(path)}")
    try:
        yield from _listed(path) if path.suffix == ".json" else _lines(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error}") from error


def maker(path: Path) -> str:
    """Return the end of an error: the `archer data build` command that makes this file; empty if none does."""
    name = path.stem
    pipelines = PACKAGE / "tools" / "data" / "pipelines"
    has_pipeline = path.parent.name == name and (pipelines / f"{name.replace('-', '_')}.yaml").is_file()
    return f"; `archer data build {name} --out {path.parent}` makes it" if has_pipeline else ""


def _listed(path: Path) -> Iterator[Row]:
    """Yield the rows of a .json file: a list's elements, or lines, which some data sets put into .json files."""
    with path.open(encoding="utf-8") as text:
        start = text.read(1 << 16).lstrip()[:1]
    if start == "[":
        return elements(path)
    if start == "{" and _has_lines(path):
        return _lines(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    raise DataError(f"{path}: expected a list of rows, found {type(content).__name__}")


def _has_lines(path: Path) -> bool:
    """Return whether the first line is a row of its own, and not the last."""
    with path.open("rb") as lines:
        first, second = lines.readline(), lines.readline()
    try:
        return bool(second.strip()) and isinstance(json.loads(first), dict)
    except ValueError:
        return False


def _lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="\n") as lines:  # JSON strings may hold other line ends
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
    except Exception as error:  # the hub's client raises a dozen kinds, all meaning that it is unavailable
        raise _unavailable(f"{repository}: {name}", error) from error


def _data_set(source: DataSource) -> Iterator[Row]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingError(
            f"{source.path}: reading the Hugging Face hub needs `pip install 'archer-rlvr[data]'`"
        ) from error
    try:
        yield from load_dataset(str(source.path), source.config or None, split=source.split, revision=source.revision)
    except Exception as error:
        raise _unavailable(str(source.path), error) from error


def _unavailable(what: str, error: Exception) -> DataError:
    return DataError(f"{what}: cannot be read from the hub: {first_line(error)}; for a local copy, set `path` to it")
