"""The shapes in which programming problems are published: rows written by hand, then the real files."""

from __future__ import annotations

import base64
import json
import os
import pickle
import zlib
from collections import Counter
from datetime import date
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from archer.config import typed
from archer.errors import DataError
from archer.formats import FORMATS, REFERENCES, kinds
from archer.formats.sealed import unseal
from archer.problems import open_source, read_problems, read_rows
from archer.recipe import Source
from archer.types import Problem

STDIN = {"input": "1\n", "output": "2\n", "testtype": "stdin"}
TYPED = {"input": '[1, 2]\n"a"', "output": "[true]", "testtype": "functional"}
LIVE = {
    "question_id": "q1",
    "question_content": "Double it.",
    "starter_code": "",
    "contest_date": "2024-08-01T00:00:00",
    "platform": "atcoder",
    "difficulty": "easy",
    "public_test_cases": [STDIN],
    "metadata": "{}",
}
LIVE_CALL = {
    **LIVE,
    "starter_code": "class Solution:\n    def look(self, a, b):\n        ",
    "public_test_cases": json.dumps([TYPED]),
    "metadata": '{"func_name": "look"}',
}
HUMAN = {
    "task_id": "HumanEval/0",
    "prompt": 'def near(x):\n    """Round x."""\n',
    "canonical_solution": "    return round(x)\n",
    "entry_point": "near",
    "test": (
        "METADATA = {'author': 'x'}\n\ndef check(candidate):\n    'Words.'\n    assert True, 'always'\n"
        "    print(1)\n    assert candidate(0.9) == 1, 'candidate fails'\n    assert abs(candidate(\n  1) - 1) < 1e-6\n"
    ),
}
MBPP = {
    "task_id": 11,
    "text": "Add one.",
    "code": "def inc(n): return n + 1",
    "test_setup_code": "",
    "test_list": ["assert int(inc(1)) == 2", "assert inc(inc(2)) == 4 "],
}
CONTEST = {"problem": "Double it.", "tests": {"inputs": ["1\n", "2\n"], "outputs": ["2\n", "4\n"]}}
RLLM = {
    "problem": "Add.\n```python\nclass Solution:\n    def plus(self, a: int, b: List[int]) -> int:\n```",
    "completion": "class Solution:\n    def plus(self, a, b): return a + sum(b)",
    "tests": {
        "functional": "def check(candidate):\n    assert candidate(b = [-2], a = 1) == -1\n\n\ncheck(Solution().plus)"
    },
}
DEEPSEEK = {
    "task_id": "weekly-1-add",
    "prompt": '"""\nAdd.\n"""\nclass Solution:\n    def plus(self, a: int, b: List[int]) -> int:\n        ',
    "test": 'my_solution = Solution()\n\ntest_input = { "a": 1, "b": [2] }\n'
    "assert my_solution.plus(**test_input) == 3\n\n"
    'test_input = { "b": [], "a": 1 }\nassert my_solution.plus(**test_input) == 1\n',
}
LISTS = {
    "task_id": "weekly-2-list",
    "prompt": '"""\nDouble.\n"""\nclass Node:\n    pass\nclass Solution:\n    def twice(self, head):\n        ',
    "test": "my_solution = Solution()\n_f1 = lambda x: Node(x)\n_f2 = lambda n: [n.val]\n"
    'test_input = { "head": _f1([1,8]) }\nassert _f2(my_solution.twice(**test_input)) == [2, 16]\n',
}


def sealed(tests: object) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def packed(payload: bytes) -> str:
    return base64.b64encode(zlib.compress(payload)).decode()


# ---- rows written by hand


def test_livecodebench_through_standard_input() -> None:
    made = FORMATS["livecodebench"]({**LIVE, "private_test_cases": sealed([{**STDIN, "input": "3\n"}])})
    assert made.id == "q1"
    assert made.gold == {"tests": [{"stdin": "1\n", "expected": "2\n"}, {"stdin": "3\n", "expected": "2\n"}]}
    assert made.prompt.startswith("Double it.\n\nSolve this with a Python program that reads standard input")
    assert made.meta == {
        "contest_date": "2024-08-01T00:00:00",
        "platform": "atcoder",
        "difficulty": "easy",
        "private_tests": 1,
    }


def test_livecodebench_through_calls() -> None:
    made = FORMATS["livecodebench"]({**LIVE_CALL, "private_test_cases": json.dumps([TYPED])})
    test = {"arguments": [[1, 2], "a"], "expected": [True]}
    assert made.gold == {"function": "look", "tests": [test, test]}
    assert made.prompt.endswith("```python\nclass Solution:\n    def look(self, a, b):\n```")


def test_humaneval_assertions() -> None:
    made = FORMATS["humaneval"](HUMAN)
    assert made.id == "HumanEval/0"
    assert made.gold == {
        "function": "near",
        "prefix": HUMAN["prompt"],
        "tests": [
            {"assert": "assert near(0.9) == 1, 'candidate fails'"},
            {"assert": "assert abs(near(\n  1) - 1) < 1e-6"},
        ],
    }
    assert '```python\ndef near(x):\n    """Round x."""\n```' in made.prompt
    assert REFERENCES["humaneval"](HUMAN) == 'def near(x):\n    """Round x."""\n    return round(x)\n'


@pytest.mark.parametrize("line", ["for n in (1, 2): assert candidate(n) == n", "assert candidate(1) == one(1)"])
def test_humaneval_checks_of_another_form_stay_whole(line: str) -> None:
    test = f"def check(candidate):\n    assert candidate(1) == 1\n    {line}\n"
    made = FORMATS["humaneval"]({**HUMAN, "test": test})
    assert made.gold["tests"] == [{"check": f"{HUMAN['prompt']}\n{test}"}]


def test_mbpp_shows_its_assertions() -> None:
    made = FORMATS["mbpp"](MBPP)
    tests = [{"assert": "assert int(inc(1)) == 2"}, {"assert": "assert inc(inc(2)) == 4"}]
    assert (made.id, made.gold) == ("11", {"function": "inc", "tests": tests})
    assert made.prompt.endswith("```python\nassert int(inc(1)) == 2\nassert inc(inc(2)) == 4\n```")
    assert REFERENCES["mbpp"](MBPP) == "def inc(n): return n + 1"


def test_mbpp_with_setup_and_with_a_check() -> None:
    row = {**MBPP, "test_setup_code": "x = 1\r\n", "test_list": ["assert inc(x) == 2", "assert inc(2) == g(3)"]}
    made = FORMATS["mbpp"](row)
    check = "x = 1\ndef check(candidate):\n    assert inc(2) == g(3)\n"
    assert made.gold == {
        "function": "inc",
        "tests": [{"assert": "assert inc(x) == 2"}, {"check": check}],
        "setup": "x = 1",
    }
    assert "```python\nx = 1\nassert inc(x) == 2\n" in made.prompt


def test_a_function_named_like_a_built_in() -> None:
    made = FORMATS["mbpp"]({**MBPP, "test_list": ["assert sum(10, 15) == 6"]})
    assert made.gold["function"] == "sum"


@pytest.mark.parametrize("write", [lambda tests: tests, json.dumps, repr])
def test_codecontests(write) -> None:
    made = FORMATS["codecontests"]({**CONTEST, "tests": write(CONTEST["tests"])})
    assert made.id == ""
    assert made.gold == {"tests": [{"stdin": "1\n", "expected": "2\n"}, {"stdin": "2\n", "expected": "4\n"}]}


def test_leetcode_arguments_take_the_order_of_the_starter_code() -> None:
    made = FORMATS["leetcode"](RLLM)
    assert made.gold == {"function": "plus", "tests": [{"arguments": [1, [-2]], "expected": -1}]}
    assert REFERENCES["leetcode"](RLLM) == RLLM["completion"]
    made = FORMATS["leetcode"](DEEPSEEK)
    tests = [{"arguments": [1, [2]], "expected": 3}, {"arguments": [1, []], "expected": 1}]
    assert (made.id, made.gold) == ("weekly-1-add", {"function": "plus", "tests": tests})
    assert made.prompt.startswith("Add.\n\nSolve this in Python.")
    assert REFERENCES["leetcode"](DEEPSEEK) is None


def test_leetcode_lists_pass_through_the_row_s_helpers() -> None:
    assert FORMATS["leetcode"](LISTS).gold == {
        "function": "_f2",
        "setup": "_f1 = lambda x: Node(x)\n_f2 = lambda n: [n.val]",
        "tests": [{"assert": "assert _f2(Solution().twice(head=_f1([1,8]))) == [2, 16]"}],
        "prefix": "class Node:\n    pass",
    }


def without(row: dict[str, object], key: str) -> dict[str, object]:
    return {name: found for name, found in row.items() if name != key}


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("livecodebench", without(LIVE, "question_content"), "no key 'question_content'"),
        ("livecodebench", {**LIVE, "public_test_cases": "[{"}, "public_test_cases: not JSON"),
        ("livecodebench", {**LIVE, "public_test_cases": 3}, "public_test_cases: expected a list of tests, found '3'"),
        ("livecodebench", {**LIVE, "public_test_cases": []}, "public_test_cases: expected a test, found none"),
        ("livecodebench", {**LIVE, "public_test_cases": [3]}, r"public_test_cases\[0\]: expected an object, found '3'"),
        ("livecodebench", {**LIVE, "public_test_cases": [STDIN, TYPED]}, "expected one kind in a row"),
        ("livecodebench", {**LIVE, "public_test_cases": [without(STDIN, "output")]}, r"\[0\]: no key 'output'"),
        ("livecodebench", {**LIVE, "public_test_cases": [{**STDIN, "testtype": "x"}]}, "testtype: expected one of"),
        ("livecodebench", {**LIVE_CALL, "metadata": "{}"}, "metadata: func_name: expected the function's name"),
        (
            "livecodebench",
            {**LIVE_CALL, "private_test_cases": [{**TYPED, "input": "[1"}]},
            r"private_test_cases\[0\]: input: expected JSON, found '\[1'",
        ),
        ("livecodebench", {**LIVE, "private_test_cases": "???"}, "private_test_cases: expected JSON, or base64"),
        ("humaneval", {**HUMAN, "test": "def check(candidate"}, "test: not Python"),
        ("humaneval", {**HUMAN, "test": "def test(candidate): pass"}, r"test: expected a function check\(candidate\)"),
        ("humaneval", {**HUMAN, "test": "def check(candidate):\n    assert True"}, "its check asserts nothing"),
        ("humaneval", {**HUMAN, "entry_point": None}, "entry_point: expected a str, found 'None'"),
        ("mbpp", {**MBPP, "test_list": []}, "test_list: expected a list of assertions"),
        ("mbpp", {**MBPP, "test_list": ["assert inc(1) == 2", "inc(2)"]}, r"test_list\[1\]: expected one assert"),
        ("mbpp", {**MBPP, "test_list": ["assert inc(1) == 2", "assert 1"]}, r"test_list\[1\]: .* about inc"),
        ("mbpp", {**MBPP, "test_list": ["assert 1"]}, r"test_list\[0\]: expected an assertion that calls"),
        ("mbpp", {**MBPP, "test_list": ["assert inc(1"]}, r"test_list\[0\]: not Python"),
        ("codecontests", {**CONTEST, "tests": "os.system('x')"}, "neither JSON nor a Python literal"),
        ("codecontests", {**CONTEST, "tests": {"inputs": ["1"], "outputs": []}}, "found 1 and 0"),
        ("codecontests", {**CONTEST, "tests": {"inputs": [], "outputs": []}}, "found 0 and 0"),
        ("codecontests", {**CONTEST, "tests": {"inputs": [1], "outputs": ["1"]}}, r"inputs\[0\]: expected a str"),
        ("codecontests", {**CONTEST, "tests": {"inputs": ["1"]}}, "tests: no key 'outputs'"),
        ("leetcode", {**RLLM, "problem": "Add."}, "problem: expected starter code"),
        (
            "leetcode",
            {**RLLM, "tests": {"functional": "def check(c): pass\ncheck(f)"}},
            r"a check of Solution\(\).plus",
        ),
        ("leetcode", {**DEEPSEEK, "prompt": "Add."}, "prompt: expected a statement in triple quotes"),
        ("leetcode", {**DEEPSEEK, "prompt": '"""\n"""\nclass S:'}, "prompt: expected a class Solution"),
        ("leetcode", {**DEEPSEEK, "test": "import os"}, "test: expected an input or an assertion, found 'import os'"),
        ("leetcode", {**DEEPSEEK, "test": "my_solution = Solution()"}, "test: it asserts nothing"),
        ("leetcode", {**DEEPSEEK, "test": str(DEEPSEEK["test"]).replace("[2]", "{2}")}, "expected a JSON value"),
        ("leetcode", {**DEEPSEEK, "test": str(DEEPSEEK["test"]).replace("[2]", "g(2)")}, "expected a literal"),
        (
            "leetcode",
            {**DEEPSEEK, "test": str(DEEPSEEK["test"]).replace('"a"', '"c"')},
            r"plus takes \['a', 'b'\], found \['b', 'c'\]",
        ),
    ],
)
def test_malformed_rows(name: str, row: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        FORMATS[name](row)


# ---- private tests: nothing is unpickled


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("text", ["", "[1, 2]", "é\n\\u0041 \U0001f600", "x" * 100_000])
def test_sealed_texts_are_read(protocol: int, text: str) -> None:
    assert unseal(packed(pickle.dumps(text, protocol)), "private_test_cases") == text


class Evil:
    def __reduce__(self) -> object:
        return os.system, ("touch /tmp/archer-evil",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("payload", [Evil(), ["a"], b"a", 3, None, {"a": "b"}, ("a", "b"), Evil])
def test_sealed_things_of_another_kind_are_refused(protocol: int, payload: object) -> None:
    with pytest.raises(DataError, match="private_test_cases: its pickle holds .*not one"):
        unseal(packed(pickle.dumps(payload, protocol)), "private_test_cases")
    assert not Path("/tmp/archer-evil").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not base64!", "expected JSON, or base64 of zlib data"),
        (base64.b64encode(b"not zlib").decode(), "expected JSON, or base64 of zlib data"),
        (base64.b64encode(zlib.compress(pickle.dumps("x" * 999))[:-6]).decode(), "its compressed data is cut off"),
        (packed(pickle.dumps("x" * 999)[:-20]), "its pickle is damaged"),
        (packed(b""), "its pickle is damaged"),
        (packed(b"\x80\x04."), "its pickle holds 0 texts, not one"),
        (packed(b"Va\nVb\n."), "its pickle holds 2 texts, not one"),
        (packed(b"Va\nr\xff\xff\xff\x7f."), None),  # a memo of 16 GiB, were it unpickled
        (packed(b"cos\nsystem\n."), "its pickle holds GLOBAL"),
        (packed(b"\xff"), "its pickle is damaged"),
        (packed(b"\0" * 3_000_000), "unpacks to more than 1000000 bytes"),
    ],
)
def test_damaged_and_hostile_seals(text: str, message: str | None) -> None:
    if message is None:
        assert unseal(text, "private_test_cases", most=1_000_000) == "a"
        return
    with pytest.raises(DataError, match=f"private_test_cases: {message}"):
        unseal(text, "private_test_cases", most=1_000_000)


# ---- sources


def written(folder: Path, *rows: dict[str, object]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_source_with_a_format(tmp_path: Path) -> None:
    source = Source(
        "lcb", path=written(tmp_path, LIVE), format="livecodebench", reward="code", instruction="Go. {prompt}"
    )
    problem = open_source(source, seed=0)(0)
    assert (problem.id, problem.source, problem.reward) == ("lcb/q1", "lcb", "code")
    assert problem.prompt.startswith("Go. Double it.")
    assert problem.gold == {"tests": [{"stdin": "1\n", "expected": "2\n"}]}
    assert problem.meta["contest_date"] == "2024-08-01T00:00:00"


def test_rows_without_a_name_are_numbered(tmp_path: Path) -> None:
    source = Source("cc", path=written(tmp_path, CONTEST, CONTEST), format="codecontests", reward="code")
    assert [problem.id for problem in read_problems(source, 2)] == ["cc/1", "cc/2"]


def test_dates_are_half_open(tmp_path: Path) -> None:
    days = ["2024-07-31T23:59:59", "2024-08-01T00:00:00", "2024-08-31", "2024-09-01T00:00:00"]
    path = written(tmp_path, *[{**LIVE, "question_id": day, "contest_date": day} for day in days])

    def chosen(since: str, until: str) -> list[str]:
        source = Source("l", path=path, format="livecodebench", reward="code", since=since, until=until)
        return [problem.id.removeprefix("l/") for problem in read_problems(source, 9)]

    assert chosen("2024-08-01", "2024-09-01") == days[1:3]
    assert chosen("", "2024-08-01") == days[:1]
    assert chosen("2024-08-02", "") == days[2:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": "math"}, "format livecodebench gives tests for programs; set reward to code"),
        ({"format": "livecodebanch"}, "unknown name 'livecodebanch'.*did you mean 'livecodebench'"),
        ({"format": "mbpp", "since": "2024-08-01"}, "which format 'mbpp' does not have"),
        ({"since": "August"}, "row 1: since: expected a date such as 2024-08-01, found 'August'"),
        ({"since": "2025-08-01", "until": "2025-09-01"}, r"no rows in \[2025-08-01, 2025-09-01\)"),
    ],
)
def test_sources_that_contradict_themselves(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    values = {"format": "livecodebench", "reward": "code", **changes}
    with pytest.raises(DataError, match=message):
        read_problems(Source("lcb", path=written(tmp_path, LIVE), **values), 1)  # type: ignore[arg-type]


def test_a_malformed_row_names_file_and_row(tmp_path: Path) -> None:
    path = written(tmp_path, MBPP, {**MBPP, "test_list": ["assert inc(1"]})
    with pytest.raises(DataError, match=r"rows.jsonl: row 2: test_list\[0\]: not Python"):
        read_problems(Source("m", path=path, format="mbpp", reward="code"), 9)


def test_a_recipe_s_dates_may_be_yaml_s() -> None:
    source = typed(Source, {"name": "l", "format": "livecodebench", "since": date(2024, 8, 1)}, "r.yaml")
    assert source.since == "2024-08-01"


def test_the_recipe_knows_every_format() -> None:
    assert set(get_args(get_type_hints(Source)["format"])) == {"", *FORMATS}


# ---- the real files


def real(shared: Path, name: str, file: str, **more: str) -> list[Problem]:
    source = Source(name, path=str(shared / "data/code" / file), format=name, reward="code", **more)  # type: ignore[arg-type]
    return read_problems(source, 0)


@pytest.mark.parametrize(
    ("name", "file", "problems", "tests"),
    [
        ("humaneval", "humaneval.jsonl", 164, {"assert": 1110, "check": 6}),
        ("mbpp", "mbpp.jsonl", 974, {"assert": 2919, "check": 3}),
        ("leetcode", "leetcode_180.jsonl", 180, {"arguments": 17800, "assert": 200}),
        ("leetcode", "leetcode_200_with_solutions.json", 200, {"arguments": 492}),
        ("codecontests", "code_contests_165.json", 165, {"stdin": 1837}),
        ("livecodebench", "livecodebench_v5_public_tests.jsonl", 879, {"stdin": 1365, "arguments": 934}),
    ],
)
def test_real_files_shape(shared: Path, name: str, file: str, problems: int, tests: dict[str, int]) -> None:
    found = real(shared, name, file)
    assert len({problem.id for problem in found}) == len(found) == problems
    assert sum((kinds(problem.gold) for problem in found), Counter()) == tests


def test_the_real_checks_by_replay(shared: Path) -> None:
    found = real(shared, "humaneval", "humaneval.jsonl") + real(shared, "mbpp", "mbpp.jsonl")
    assert [problem.id.rpartition("/")[2] for problem in found if "check" in kinds(problem.gold)] == [
        *("32", "38", "44", "50", "53", "151"),
        "596",
    ]


def test_livecodebench_s_published_window(shared: Path) -> None:
    window = {"since": "2024-08-01", "until": "2025-02-01"}
    assert len(real(shared, "livecodebench", "livecodebench_v5_public_tests.jsonl", **window)) == 279


def test_every_reference_is_there(shared: Path) -> None:
    for name, file in [("humaneval", "humaneval.jsonl"), ("leetcode", "leetcode_200_with_solutions.json")]:
        rows = read_rows(Source(name, path=str(shared / "data/code" / file)))
        assert all(REFERENCES[name](row) for row in rows)
