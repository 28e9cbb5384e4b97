"""Writes the commit a wheel is built from into the wheel, so that manifests can name it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface):
    """Adds ``archer/_commit.txt`` where the source is a git checkout; an editable install asks git itself."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        git = ["git", "-C", self.root, "describe", "--always", "--dirty=+changes", "--abbrev=12", "--exclude=*"]
        try:
            commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return
        note = Path(mkdtemp()) / "_commit.txt"
        note.write_text(commit + "\n")
        build_data["force_include"][str(note)] = "archer/_commit.txt"
