"""What every measurement shares: its record with the place it was made, and medians with their range."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from archer.system import installed, provenance
from archer.types import Json

RECORDS = Path(__file__).resolve().parent.parent / "leaderboards" / "perf"


class Spread(NamedTuple):
    """A median with the range it is of; as JSON a list of three numbers."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g}..{self.high:.3g})"


def spread(values: Sequence[float]) -> Spread:
    """Return median, least and greatest. Raises ValueError for no values."""
    return Spread(median(values), min(values), max(values))


def peers(*names: str) -> dict[str, str]:
    """Return the installed versions of packages, of those that are installed."""
    return {name: found for name in names if (found := installed(name))}


def keep(kind: str, record: Mapping[str, Any], folder: Path = RECORDS) -> Path:
    """Write ``leaderboards/perf/<kind>-<UTC moment>.json`` and return its path.

    Added to the record: kind, date, script, command line, and where it was made (commit, versions, machine, its GPU).
    """
    now = datetime.now(UTC)
    origin = provenance()
    origin["machine"] |= {"gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None}
    origin["threads"] = torch.get_num_threads()
    head: dict[str, Json] = {
        "kind": kind, "date": now.isoformat(timespec="seconds"), "script": f"perf/{Path(sys.argv[0]).name}",
        "command": sys.argv[1:], "provenance": origin,
    }  # fmt: skip
    path = folder / f"{kind}-{now:%Y%m%dT%H%M%S}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**head, **record}, indent=1) + "\n")
    return path


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
