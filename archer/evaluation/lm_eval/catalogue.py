"""Find lm-eval's tasks by name and open them; errors name the task and its data set."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from lm_eval.tasks import TaskManager
from lm_eval.tasks.manager import TaskDict

from archer.errors import ArcherError, DataError, MissingError, UserError, first_line
from archer.evaluation.lm_eval.export import folder
from archer.types import Json


def open_catalogue(names: Sequence[str], include: Path | None, metadata: Mapping[str, Json]) -> TaskManager:
    """Return a task manager that knows all names: Archer's tasks, those of ``include`` and, if needed, lm-eval's own.

    Listing lm-eval's own tasks takes seconds. ``metadata`` is passed to tasks that make their own data set. Raises
    UserError for an unknown name, DataError for a missing folder.
    """
    if include is not None and not include.is_dir():
        raise DataError(f"--include {include}: no such folder; give one with lm-eval task YAMLs")
    folders = [str(folder()), *([str(include)] if include else [])]  # Archer's own need no --include
    for defaults in (False, True):
        manager = TaskManager(include_path=folders, include_defaults=defaults, metadata=dict(metadata))
        unknown = [part for name in names for part in [name, *parts(manager, name)] if part not in manager.task_index]
        if not unknown:
            return manager
    close = difflib.get_close_matches(unknown[0], manager.all_tasks, n=3)
    hint = f"did you mean {' or '.join(repr(name) for name in close)}?" if close else "`lm_eval ls tasks` lists them"
    raise UserError(f"lm-eval has no task, group or tag {unknown[0]!r}; {hint}")


def open_task(manager: TaskManager, name: str) -> TaskDict:
    """Return the task of that name, or all tasks of that group or tag with the groups they are in, with their data.

    Raises DataError naming a data set that cannot be fetched, MissingError for a package that the task needs, and
    UserError for a task that cannot run here.
    """
    for part in [name, *parts(manager, name)]:
        refuse(part, manager.task_index[part].cfg or {})
    try:
        return manager.load([name])
    except ArcherError:
        raise
    except ImportError as error:
        raise MissingError(
            f"lm-eval task {name}: {type(error).__name__}: {first_line(error)}; install what it names"
        ) from error
    except Exception as error:  # the hub's clients raise many kinds, all meaning that the data is unavailable
        sets = ", ".join(sorted(data_sets(manager, name))) or "its data"
        why = f"{type(error).__name__}: {first_line(error)}"
        raise DataError(
            f"lm-eval task {name}: {sets} cannot be opened ({why}); fetch the data set where the hub "
            "is reachable, or give --include a folder with the task over files of your own"
        ) from error


def refuse(name: str, config: Mapping[str, Json]) -> None:
    """Raise UserError for tasks that run programs without a sandbox and for tasks with images or audio."""
    if config.get("unsafe_code"):
        raise UserError(
            f"lm-eval task {name}: it runs programs of the model outside any sandbox; evaluate on one of Archer's "
            "benchmarks instead (`archer benchmarks list`)"
        )
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        raise UserError(f"lm-eval task {name}: it needs images or audio; Archer's engines read text only")


def parts(manager: TaskManager, name: str) -> list[str]:
    """Return the names of the tasks and groups in a group or tag, at any depth."""
    entry = manager.task_index.get(name)
    if entry is None:
        return []
    members = (entry.cfg or {}).get("task", []) if entry.kind.name == "GROUP" else []
    direct = [member for member in members if isinstance(member, str)]
    direct += [member["task"] for member in members if isinstance(member, dict) and set(member) == {"task"}]
    direct += sorted(entry.tags) if entry.kind.name == "TAG" else []
    return [part for member in direct if member != name for part in [member, *parts(manager, member)]]


def data_sets(manager: TaskManager, name: str) -> set[str]:
    """Return the data sets of a task, or of all tasks of a group or tag."""
    entries = [manager.task_index.get(part) for part in [name, *parts(manager, name)]]
    return {str(entry.cfg["dataset_path"]) for entry in entries if entry and (entry.cfg or {}).get("dataset_path")}
