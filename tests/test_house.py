"""Who may import whom, one name for one class, and what `import archer` may cost. AGENTS.md describes the house."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
# A room uses the shelves below its own; rooms on one shelf do not know each other.
SHELVES = (
    ("errors",), ("types",), ("system", "terminal", "parts"), ("distributed",),
    ("algorithms",), ("recipe",), ("models", "sandbox"), ("rewards",), ("problems", "engines", "trainer"),
    ("rollouts",), ("runs",), ("evaluation",), ("leaderboards", "spec"), ("tools", "testing"), ("train", "compare"), ("commands",),
    ("__main__",),
)  # fmt: skip
PACKAGES = (
    "algorithms", "recipe", "models", "sandbox", "rewards", "problems", "engines", "trainer", "rollouts", "runs",
    "evaluation", "leaderboards", "tools", "testing", "commands",
)  # fmt: skip
HEAVY = ("torch", "transformers", "pandas", "plotly", "math_verify", "sympy", "pebble", "scipy", "numpy")
DOORS = {
    "math_verify": ("rewards.mathematics.reading", "rewards.mathematics.equality"),
    "latex2sympy2_extended": ("rewards.mathematics.reading",),
    "sympy": tuple(f"rewards.mathematics.{name}" for name in ("reading", "equality", "numeric", "enclosures")),
    "flint": ("rewards.mathematics.numeric", "rewards.mathematics.enclosures"),
    "pandas": ("leaderboards.ranking", "leaderboards.layouts", "runs.loaded", "evaluation.api"),
    "statsmodels": ("evaluation.statistics", "leaderboards.power"),
    "plotly": ("leaderboards.report",),
    "pebble": ("rewards.workers",),
    "lm_eval": ("evaluation.lm_eval",),
    "docker": ("sandbox.docker", "sandbox.image"),
    "openai": ("engines.openai", "rewards.judge_client"),
    "deepspeed": ("trainer.deepspeed_backend",),
    "peft": ("trainer.lora",),
    "vllm": ("engines.vllm",),
    "triton": ("models.heads.kernels",),
    "transformers": ("models", "engines", "trainer", "runs.checkpoints", "tools"),
}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / "archer").rglob("*.py")):
        parts = path.relative_to(ROOT / "archer").with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            found[name] = path
    return found


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


def room(module: str) -> str:
    return module.partition(".")[0]


def test_the_rooms_are_those_that_agents_md_names() -> None:
    assert {room(name) for name in modules()} == {name for shelf in SHELVES for name in shelf}
    assert {path.parent.name for path in (ROOT / "archer").glob("*/__init__.py")} == set(PACKAGES)
    told = (ROOT / "AGENTS.md").read_text()
    assert [name for name in PACKAGES if f"\n| `{name}/` |" not in told] == []


def test_rooms_use_the_shelves_below() -> None:
    height = {name: number for number, shelf in enumerate(SHELVES) for name in shelf}
    known = modules()
    wrong = [
        f"{name} imports {other}"
        for name, path in known.items()
        for other in own(path, known)
        if room(name) != room(other) and height[room(other)] >= height[room(name)]
    ]
    assert wrong == []


def test_no_circles() -> None:
    known = modules()
    graph = {name: own(path, known) - {name} for name, path in known.items()}
    assert len(tuple(TopologicalSorter(graph).static_order())) == len(known)  # raises CycleError on a circle


def test_every_room_says_what_it_is_for() -> None:
    for name in PACKAGES:
        doc = ast.get_docstring(ast.parse((ROOT / "archer" / name / "__init__.py").read_text())) or ""
        assert "In:" in doc, name
        assert "Out:" in doc, name
        assert "May use:" in doc, name


def test_a_public_class_has_a_name_of_its_own() -> None:
    places = defaultdict(list)
    for name, path in modules().items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


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
            name.split(".")[0] in sys.stdlib_module_names | {path.stem for path in (ROOT / "sandbox").glob("*.py")}
            for name in imports(path)
        )


def test_an_algorithm_s_file_is_one_idea() -> None:
    for path in (ROOT / "archer" / "algorithms").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 250
