"""What the documentation says is there: links, paths, command lines, recipe keys and the README's Python."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

import archer
from archer.__main__ import app
from archer.recipe.aliases import KEYS
from archer.recipe.keys import recipe_keys
from archer.recipe.reading import read_recipe, recipe_yaml

ROOT = Path(__file__).parents[1]
DOCS = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
PAGES = [
    *DOCS, "CONTRIBUTING.md", "AGENTS.md", "benchmarks/README.md", "benchmarks/lm_eval/README.md", "sandbox/README.md",
    "leaderboards/README.md", "leaderboards/results/README.md", "perf/README.md", "tests/golden/README.md",
    "archer/tools/data/pipelines/README.md", "archer/tools/planning/configs/README.md",
]  # fmt: skip
CHEAP = [  # each is shown in the documentation, and runs here
    "archer --version",
    "archer recipe lab",
    "archer recipe --list",
    "archer recipe --keys",
    "archer recipe lab --set rollout.max_tokens=256 --set update.lr=1e-4",
    "archer benchmarks list",
    "archer benchmarks path",
    "archer benchmarks show aime24",
    "archer benchmarks check lab-arithmetic",
    "archer data list",
    "archer lab show lab-countdown --index 3",
    "archer table paper-math",
    "archer power 0.02 --benchmarks lab-arithmetic",
    "archer train archer-math-1.5b --algorithm archer --dry-run",
]
COMMAND = typer.main.get_command(app)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`]+)`")
PATH = re.compile(r"(archer|benchmarks|docs|examples|leaderboards|perf|sandbox|tests)/[\w./-]*")
MODULE = re.compile(r"archer(\.\w+){2,}")
KEY = re.compile(r"(?<![\w./-])(?:model|data|rollout|update|reward|evaluate|save)(?:\[\])?(?:\.[a-z0-9_]+)+")
OLD_NAMES = re.compile(r"^\| old \| new \|\n\|---\|---\|\n((?:\|.*\n)+)", re.MULTILINE)


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Every block of code of a page: the language of a fence, or "sh" where there is none, and its text."""
    text = (ROOT / page).read_text()
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$|(?<=\n\n)((?: {4}[^\n]*\n|\n)+)", text, re.MULTILINE | re.DOTALL):
        language, fenced, indented = match.groups()
        yield (language or "sh"), fenced if indented is None else indented


def inline(page: str) -> list[str]:
    """Everything in backticks outside the blocks."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in CODE.findall(text)]


def shell_words(line: str) -> list[str]:
    """A line's words as a shell reads them; operators are words of their own."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def commands(page: str) -> Iterator[list[str]]:
    """The words after `archer` of every command line that a page shows in a block."""
    for text in (text for language, text in blocks(page) if language == "sh"):
        lines = text.replace("\\\n", " ").splitlines()
        for line in [*(line for line in lines if re.search(r"\barcher ", line)), *re.findall(r"\$\((.*?)\)", text)]:
            words: list[str] = []
            for word in [*shell_words(line), ";"]:
                if word not in ("&&", ";", "|", ">"):
                    words.append(word)
                    continue
                if words[:1] == ["archer"]:
                    yield words[1:]
                elif ["-m", "archer"] in (words[at : at + 2] for at in range(len(words))):
                    yield words[words.index("archer") + 1 :]
                words = []


def found(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words call, and the words that are left for it. Raises KeyError where there is none."""
    command: Any = COMMAND
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        command, words = command.commands[words[0]], words[1:]
    return command, words


def unknown_options(command: Any, words: list[str]) -> list[str]:
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help", "-h"}
    return [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]


def parse(words: list[str]) -> None:
    """Read a command line as the command would, without running it. Raises what a wrong one raises."""
    command, left = found(words)
    if hasattr(command, "commands"):
        assert left, "names no command"
        assert unknown_options(command, left) == []
    else:
        command.make_context(" ".join(words), list(left))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_page_is_in_the_index_and_in_the_readme() -> None:
    names = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert set(LINK.findall((ROOT / "docs" / "README.md").read_text())) >= names
    assert set(LINK.findall((ROOT / "README.md").read_text())) >= {f"docs/{name}" for name in names}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    wrong = []
    for link in LINK.findall((ROOT / page).read_text()):
        path, _, heading = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        there = target.exists() and (not heading or heading in slugs(target))
        if not link.startswith(("http://", "https://")) and not there:
            wrong.append(link)
    assert wrong == []


def slugs(path: Path) -> list[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


@pytest.mark.parametrize("page", PAGES)
def test_paths_and_modules_in_backticks_exist(page: str) -> None:
    codes = inline(page)
    paths = [code for code in codes if PATH.fullmatch(code)]
    assert [path for path in paths if not (ROOT / path).exists() and not (ROOT / "archer" / path).exists()] == []
    for code in codes:
        if MODULE.fullmatch(code):
            pkgutil.resolve_name(code)  # raises where there is none


@pytest.mark.parametrize("page", PAGES)
def test_command_lines_parse(page: str) -> None:
    for words in commands(page):
        try:
            parse(words)
        except Exception as error:
            pytest.fail(f"{page}: archer {shlex.join(words)}: {error!r} {error}")


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_a_sentence_exist(page: str) -> None:
    for code in inline(page):
        if re.match(r"archer [a-z-]", code):
            words = shell_words(code)[1:]
            try:
                command, left = found(words)
            except KeyError:
                pytest.fail(f"{page}: {code}: no such command")
            assert unknown_options(command, left) == [], f"{page}: {code}"


def test_command_lines_are_found() -> None:
    assert len(list(commands("docs/compare.md"))) >= 6
    assert ["compare"] in list(commands("README.md"))
    assert ["train", "archer-math-1.5b", "--algorithm", "archer"] in list(commands("docs/scale.md"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian lab", "trian"),
        ("train lab --sed 1", "No such option.*--sed"),
        ("power much", "valid number"),
        ("eval", "Missing parameter: model"),
        ("lab", "names no command"),
    ],
)
def test_a_wrong_command_line_does_not_parse(line: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        parse(line.split())


@pytest.mark.parametrize("line", CHEAP)
def test_cheap_commands_run(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line)[1:]
    assert any(words in list(commands(page)) for page in DOCS), f"{line}: no page of docs/ shows it"
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip()


@pytest.mark.parametrize("page", [*DOCS, "CONTRIBUTING.md", "AGENTS.md"])
def test_recipe_keys_exist(page: str) -> None:
    known = {key.name for key in recipe_keys()}
    codes = set(inline(page)) - (set(KEYS) if page == "docs/recipes.md" else set())  # it lists the old names
    codes |= {change for _, text in blocks(page) for change in re.findall(r"--set (\S+)", text)}
    assert {key for code in codes for key in KEY.findall(code)} - known == set()


def test_old_names_of_keys_are_listed() -> None:
    [rows] = OLD_NAMES.findall((ROOT / "docs" / "recipes.md").read_text())
    assert dict(re.findall(r"^\| `(.*)` \| `(.*)` \|$", rows, re.MULTILINE)) == KEYS


@pytest.mark.parametrize(
    ("page", "text"), [(page, text) for page in DOCS for language, text in blocks(page) if language == "yaml"]
)
def test_yaml_is_a_recipe_or_a_part_of_one(page: str, text: str, tmp_path: Path) -> None:
    whole = {**yaml.safe_load(recipe_yaml(read_recipe("lab"))), **yaml.safe_load(text)}
    (path := tmp_path / "recipe.yaml").write_text(yaml.safe_dump(whole))
    assert read_recipe(path).name == whole["name"]


@pytest.mark.parametrize(
    ("page", "text"), [(page, text) for page in DOCS for language, text in blocks(page) if language == "python"]
)
def test_python_calls_the_face(page: str, text: str) -> None:
    for node in ast.walk(ast.parse(text)):
        if of_archer(node):
            assert node.attr in archer.FACE
        if isinstance(node, ast.Call) and of_archer(node.func):
            function = pkgutil.resolve_name(f"{archer.FACE[node.func.attr]}:{node.func.attr}")
            inspect.signature(function).bind(*node.args, **{str(one.arg): one.value for one in node.keywords})


def of_archer(node: Any) -> bool:
    """Whether a piece of Python is `archer.NAME`."""
    return isinstance(node, ast.Attribute) and ast.unparse(node.value) == "archer"


def test_the_page_on_python_names_the_whole_face() -> None:
    told = {name for code in inline("docs/python.md") for name in re.findall(r"^archer\.(\w+)(?:\(.*\))?$", code)}
    assert told == set(archer.FACE)
