"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Changes = Annotated[list[str] | None, typer.Option("--set", help="Change one recipe value: update.lr=1e-4.")]
Unisolated = Annotated[bool, typer.Option(help="Run programs WITHOUT isolation, where there is no sandbox.")]
Threads = Annotated[int, typer.Option(help="CPU threads of each run (0: chosen for the machine).")]
