"""Who may import whom (the table in AGENTS.md), and what `import archer` may cost."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "transformers", "pandas", "plotly", "math_verify", "sympy", "pebble", "scipy", "numpy")
DOORS = {
    "math_verify": ("rewards.mathematics.reading", "rewards.mathematics.equality"),
    "latex2sympy2_extended": ("rewards.mathematics.reading",),
    "sympy": ("rewards.mathematics.reading", "rewards.mathematics.equality", "rewards.mathematics.numeric"),
    "pandas": ("standings", "layouts"),
    "statsmodels": ("statistics", "power"),
    "plotly": ("report",),
    "pebble": ("workers",),
    "lm_eval": ("harness",),
    "docker": ("execution.docker", "execution.image"),
    "openai": ("engines.openai",),
    "deepspeed": ("policies.deepspeed",),
    "peft": ("policies.lora",),
    "vllm": ("engines.vllm",),
    "triton": ("heads.kernels",),
    "transformers": ("policies", "engines", "prompts", "checkpoint", "lab", "plan"),
}


def shelves() -> dict[str, int]:
    table = re.search(r"```\n(6  __main__.*?)```", (ROOT / "AGENTS.md").read_text(), re.S)
    assert table is not None
    return {
        name: int(line[0]) for line in table.group(1).splitlines() for name in line[1:].split()
    }  # fmt: skip


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / "archer").rglob("*.py")):
        parts = path.relative_to(ROOT / "archer").with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            found[name] = path
    return found


def shelf(name: str, table: dict[str, int]) -> int:
    while name not in table:
        name, dot, _ = name.rpartition(".")
        assert dot, f"no shelf in AGENTS.md for {name}"
    return table[name]


def imports(path: Path) -> set[str]:
    """Full names of what a file imports, submodules of packages included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(path: Path, known: dict[str, Path]) -> set[str]:
    names = {name.removeprefix("archer.") for name in imports(path) if name.startswith("archer.")}
    return {name for name in names if name in known}


def test_modules_import_from_their_shelf_or_lower() -> None:
    table, known = shelves(), modules()
    wrong = [
        f"{name} (shelf {shelf(name, table)}) imports {other} (shelf {shelf(other, table)})"
        for name, path in known.items()
        for other in own(path, known)
        if shelf(other, table) > shelf(name, table)
    ]
    assert wrong == []


def test_no_circles() -> None:
    known = modules()
    graph = {name: own(path, known) - {name} for name, path in known.items()}
    assert len(tuple(TopologicalSorter(graph).static_order())) == len(known)  # raises CycleError on a circle


def test_heavy_libraries_enter_through_their_doors() -> None:
    wrong = [
        f"{name} imports {library}"
        for name, path in modules().items()
        for library, doors in DOORS.items()
        if any(part.split(".")[0] == library for part in imports(path))
        and not any(name == door or name.startswith(f"{door}.") for door in doors)
    ]
    assert wrong == []


def test_import_and_help_load_nothing_heavy() -> None:
    code = f"import sys, archer, archer.__main__\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_guest_never_imports_the_host() -> None:
    for path in (ROOT / "sandbox").glob("*.py"):
        assert not any(name.split(".")[0] == "archer" for name in imports(path))
        assert all(
            name.split(".")[0] in sys.stdlib_module_names | {"confine", "program", "values", "watch"}
            for name in imports(path)
        )


def test_an_algorithm_s_file_is_one_idea() -> None:
    for path in (ROOT / "archer" / "objectives").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 250
