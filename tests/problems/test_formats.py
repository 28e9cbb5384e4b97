"""The shapes in which problems are published: rows written by hand, then the real files."""

from __future__ import annotations

import base64
import json
import os
import pickle
import textwrap
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from archer.errors import DataError
from archer.evaluation.reference_programs import ReferenceProgram, judge_programs
from archer.problems.formats import FORMATS, REFERENCES, kinds
from archer.problems.formats.mathematics import minerva_order
from archer.problems.formats.sealed import unseal
from archer.problems.rows import read_rows
from archer.problems.streams import open_source, read_problems, to_problem
from archer.recipe.config import typed
from archer.recipe.sections import DataSource
from archer.sandbox.pool import Pool
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
        "cluster": "",
        "date": "2024-08-01",
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


PLUS = textwrap.dedent("""
    import numpy as np
    from math import inf

    def is_floats(x) -> bool:
        return isinstance(x, float)


    def assertion(out, exp, atol):
        exact_match = out == exp

        if atol == 0 and is_floats(exp):
            atol = 1e-6
        if not exact_match and atol != 0:
            assert np.allclose(out, exp, rtol=1e-07, atol=atol)
        else:
            assert exact_match

""")
LISTS_AND_LOOP = """
inputs = [[[1.5, (2,)], 'a'], [{}, -inf]]
results = [[0.5, -inf], {'k': (1, 2)}]
for i, (inp, exp) in enumerate(zip(inputs, results)):
    assertion(candidate(*inp), exp, 0)
"""
HUMAN_PLUS = {**HUMAN, "test": f"{PLUS}\ndef check(candidate):\n{textwrap.indent(LISTS_AND_LOOP, '    ')}"}
MBPP_PLUS = {
    "task_id": 2,
    "prompt": "Add one.",
    "code": "def inc(n): return n + 1",
    "source_file": "Benchmark Questions Verification V2.ipynb",
    "test_imports": ["from math import inf"],
    "test_list": ["assert inc(1) == 2"],
    "test": PLUS + "inputs = [[3], [4]]\nresults = [4, 5]\n"
    "for i, (inp, exp) in enumerate(zip(inputs, results)):\n    assertion(inc(*inp), exp, 0)\n",
}


def test_humanevalplus_becomes_assertions() -> None:
    made = FORMATS["humanevalplus"](HUMAN_PLUS)
    assert (made.id, made.gold["function"], made.gold["prefix"]) == ("HumanEval/0", "near", HUMAN["prompt"])
    assert made.prompt == FORMATS["humaneval"](HUMAN).prompt
    assert made.gold["tests"] == [
        {"assert": "assert allclose(near([1.5, (2,)], 'a'), [0.5, -math.inf], 1e-06)"},
        {"assert": "assert near({}, -inf) == {'k': (1, 2)}"},
    ]


def test_mbppplus_shows_three_assertions_and_tests_all() -> None:
    made = FORMATS["mbppplus"](MBPP_PLUS)
    assert made.id == "2"
    assert made.gold["setup"] == "from math import inf"
    assert [test["assert"] for test in made.gold["tests"]] == [
        "assert inc(1) == 2",
        "assert inc(3) == 4",
        "assert inc(4) == 5",
    ]
    assert "inc(3)" not in made.prompt
    assert REFERENCES["mbppplus"](MBPP_PLUS) == "def inc(n): return n + 1"


def test_mbppplus_compares_sets_and_presence_where_its_rows_do() -> None:
    for own, expected in [
        ("set(out) == set(exp)", "set(inc(3)) == set(4)"),
        ("exp == (out is not None)", "4 == (inc(3) is not None)"),
    ]:
        row = {**MBPP_PLUS, "test": MBPP_PLUS["test"].replace("exact_match = out == exp", f"exact_match = {own}")}
        assert FORMATS["mbppplus"](row).gold["tests"][1] == {"assert": f"assert {expected}"}


def test_evalplus_tests_that_compute_what_they_expect_run_turn_by_turn(sandbox: Pool) -> None:
    loop = "    inputs = [[1], [5], [9]]\n    for i, inp in enumerate(inputs):\n        assertion(candidate(*inp), ref_func(*inp), 0)\n"
    test = f"{PLUS}\ndef ref_func(x):\n    return round(x)\n\n\ndef check(candidate):\n{loop}\n"
    row = {**HUMAN, "test": test}
    problem = to_problem(row, DataSource("h", path="h", format="humanevalplus", reward="code"), 1)
    assert kinds(problem.gold) == {"check": 3}
    wrong = HUMAN["prompt"] + "    return 5\n"
    judged = judge_programs(
        sandbox,
        [ReferenceProgram(problem, REFERENCES["humanevalplus"](row) or ""), ReferenceProgram(problem, str(wrong))],
    )
    assert judged.rounds == (("right", "wrong"),)


def test_evalplus_programs_are_judged_without_numpy(sandbox: Pool) -> None:
    problem = to_problem(MBPP_PLUS, DataSource("m", path="m", format="mbppplus", reward="code"), 1)
    programs = ["def inc(n): return n + 1", "def inc(n): return {1: 2, 3: 4}[n]"]  # the second passes what is shown
    assert judge_programs(sandbox, [ReferenceProgram(problem, program) for program in programs]).rounds == (
        ("right", "error"),
    )


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("print(1)", "test: expected a list `inputs` and one loop over it"),
        (str(MBPP_PLUS["test"]).replace("results = [4, 5]", "results = [4]"), "test: 2 inputs and 1 results"),
        (str(MBPP_PLUS["test"]).replace("[[3], [4]]", "[3, 4]"), "inputs: expected lists of arguments, found '3'"),
    ],
)
def test_malformed_evalplus_rows(test: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        FORMATS["mbppplus"]({**MBPP_PLUS, "test": test})


def test_an_evalplus_check_without_its_argument_is_refused() -> None:
    test = "def check():\n    inputs = [[3]]\n    results = [4]\n    for i, inp in enumerate(inputs):\n        pass\n"
    with pytest.raises(DataError, match="test: expected `check` to take the function, found 'def check"):
        FORMATS["humanevalplus"]({**HUMAN_PLUS, "test": test})


# ---- mathematics


def test_minerva_s_numbers_are_decimal() -> None:
    assert [minerva_order({"idx": one}) for one in ("7", 7, "\u00b2", "", None)] == [7, 7, None, None, None]


@pytest.mark.parametrize(
    ("name", "row", "gold", "cluster"),
    [
        ("aime", {"problem": "p", "expected_answer": "073"}, "73", ""),
        (
            "aime",
            {"problem": "p", "answer": 0, "url": "https://x/index.php/2024_AIME_II_Problems/Problem_1"},
            "0",
            "2024 AIME II",
        ),
        ("aime", {"Problem": "p", "Answer": 204, "ID": "2024-I-1"}, "204", "2024 AIME I"),
        ("aime", {"problem": "p", "solution": "so \\boxed{25}"}, "25", ""),
        (
            "amc",
            {"question": "p", "answer": 27.0, "url": "https://x/2023_AMC_12A_Problems/Problem_1"},
            "27",
            "2023 AMC 12A",
        ),
        ("amc", {"problem": "p", "answer": "-1.0"}, "-1", ""),
        ("math500", {"problem": "p", "answer": "$\\frac{1}{2}$"}, "\\frac{1}{2}", ""),
        ("math500", {"problem": "p", "answer": "1.50"}, "1.50", ""),
        ("minerva", {"problem": "p", "solution": "\\boxed{1} then \\boxed{4.5e33}", "answer": ["9"]}, "4.5e33", ""),
        ("minerva", {"question": "p", "answer": ["9.6\n", "9.60"]}, "9.6", ""),
        ("gsm8k", {"question": "p", "answer": "so\n#### 1,234"}, "1234", ""),
        ("olympiadbench", {"question": "p", "final_answer": ["$\\frac{41}{12}$"], "unit": "km"}, "\\frac{41}{12}", ""),
        (
            "olympiadbench",
            {"question": "p", "final_answer": ["$(1,8), (2,7)$"], "is_multiple_answer": True},
            ["(1,8)", "(2,7)"],
            "",
        ),
        (
            "olympiadbench",
            {"question": "p", "final_answer": ["$69$,$84$"], "is_multiple_answer": True},
            ["69", "84"],
            "",
        ),
        (
            "olympiadbench",
            {"question": "p", "final_answer": ["$f(x)=a$, where $a>0$"], "is_multiple_answer": True},
            "f(x)=a, where a>0",
            "",
        ),
    ],
)
def test_golds_of_mathematics(name: str, row: dict[str, object], gold: object, cluster: str) -> None:
    made = FORMATS[name](row)
    assert (made.prompt, made.gold, made.meta["cluster"], made.meta["date"]) == ("p", gold, cluster, "")


def test_statements_are_spelt_in_one_way() -> None:
    made = FORMATS["math500"](
        {"problem": "  Cafe\u0301  is\u00a0 $x$ \r\n\r\n done ", "answer": "1", "unique_id": "test/a/7.json"}
    )
    assert (made.id, made.prompt) == ("a/7", "Caf\u00e9 is $x$\n\ndone")


def test_numbers_do_not_depend_on_the_order_of_a_copy(tmp_path: Path) -> None:
    rows = [{"problem": "b", "answer": 1}, {"problem": "a", "answer": 2}]
    one = read_problems(DataSource("aime", path=written(tmp_path, *rows), format="aime"), 0)
    other = read_problems(DataSource("aime", path=written(tmp_path, *rows[::-1]), format="aime"), 0)
    assert one == other
    assert [(problem.id, problem.prompt) for problem in one] == [("aime/1", "a"), ("aime/2", "b")]
    rows = [{"problem": "x", "solution": "\\boxed{1}", "idx": 10}, {"problem": "y", "solution": "\\boxed{2}", "idx": 9}]
    found = read_problems(DataSource("m", path=written(tmp_path, *rows), format="minerva"), 0)
    assert [(problem.id, problem.gold) for problem in found] == [("m/1", "2"), ("m/2", "1")]


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("aime", {"text": "p", "answer": 1}, "expected a column 'problem' or 'question' .*, found answer, text"),
        ("aime", {"problem": "p", "solution": "none"}, r"solution: expected the answer in its last \\boxed"),
        ("aime", {"problem": "p", "answer": 1000}, "a whole number from 0 to 999, found 1000"),
        ("aime", {"problem": "p", "answer": "x"}, "expected a whole number, found 'x'"),
        ("amc", {"problem": " ", "answer": 1}, "problem: it is empty"),
        ("math500", {"problem": "p"}, "expected a column 'answer' or 'expected_answer'"),
        ("math500", {"problem": "p", "answer": " "}, "the answer is empty"),
        ("gsm8k", {"question": "p", "answer": "18"}, "expected '#### 18' at its end, found '18'"),
        ("olympiadbench", {"question": "p", "final_answer": ["1", "2"]}, "expected a list of one text, found 2"),
    ],
)
def test_malformed_rows_of_mathematics(name: str, row: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        FORMATS[name](row)


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
    source = DataSource(
        "lcb", path=written(tmp_path, LIVE), format="livecodebench", reward="code", instruction="Go. {prompt}"
    )
    problem = open_source(source, seed=0)(0)
    assert (problem.id, problem.source, problem.reward) == ("lcb/q1", "lcb", "code")
    assert problem.prompt.startswith("Go. Double it.")
    assert problem.gold == {"tests": [{"stdin": "1\n", "expected": "2\n"}]}
    assert problem.meta["contest_date"] == "2024-08-01T00:00:00"


def test_rows_without_a_name_are_numbered(tmp_path: Path) -> None:
    source = DataSource("cc", path=written(tmp_path, CONTEST, CONTEST), format="codecontests", reward="code")
    assert [problem.id for problem in read_problems(source, 2)] == ["cc/1", "cc/2"]


def test_dates_are_half_open(tmp_path: Path) -> None:
    days = ["2024-07-31T23:59:59", "2024-08-01T00:00:00", "2024-08-31", "2024-09-01T00:00:00"]
    path = written(tmp_path, *[{**LIVE, "question_id": day, "contest_date": day} for day in days])

    def chosen(since: str, until: str) -> list[str]:
        source = DataSource("l", path=path, format="livecodebench", reward="code", since=since, until=until)
        return [problem.id.removeprefix("l/") for problem in read_problems(source, 9)]

    assert chosen("2024-08-01", "2024-09-01") == days[1:3]
    assert chosen("", "2024-08-01") == days[:1]
    assert chosen("2024-08-02", "") == days[2:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": "math"}, "format livecodebench gives golds for the reward code; set reward to code"),
        ({"format": "livecodebanch"}, "no format 'livecodebanch'.*did you mean 'livecodebench'"),
        ({"format": "mbpp", "since": "2024-08-01"}, "which format 'mbpp' does not have"),
        ({"since": "August"}, "row 1: since: expected a date such as 2024-08-01, found 'August'"),
        ({"since": "2025-08-01", "until": "2025-09-01"}, r"no rows in \[2025-08-01, 2025-09-01\)"),
    ],
)
def test_sources_that_contradict_themselves(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    values = {"format": "livecodebench", "reward": "code", **changes}
    with pytest.raises(DataError, match=message):
        read_problems(DataSource("lcb", path=written(tmp_path, LIVE), **values), 1)  # type: ignore[arg-type]


def test_a_malformed_row_names_file_and_row(tmp_path: Path) -> None:
    path = written(tmp_path, MBPP, {**MBPP, "test_list": ["assert inc(1"]})
    with pytest.raises(DataError, match=r"rows.jsonl: row 2: test_list\[0\]: not Python"):
        read_problems(DataSource("m", path=path, split="test", format="mbpp", reward="code"), 9)


def test_a_recipe_s_dates_may_be_yaml_s() -> None:
    source = typed(DataSource, {"name": "l", "format": "livecodebench", "since": date(2024, 8, 1)}, "r.yaml")
    assert source.since == "2024-08-01"


def test_an_unknown_format_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "p", "answer": "1"}\n')
    source = DataSource("x", str(path), format="livecodebnch")
    with pytest.raises(
        DataError, match=r"format: formats: no format 'livecodebnch' \(did you mean 'livecodebench'\?\)"
    ):
        open_source(source, seed=0)


# ---- the real files


def real(data_file: Callable[[str], Path], name: str, file: str, **more: str) -> list[Problem]:
    source = DataSource(name, path=str(data_file(f"code/{file}")), format=name, reward="code", **more)  # type: ignore[arg-type]
    return read_problems(source, 0)


@pytest.mark.parametrize(
    ("name", "file", "problems", "tests"),
    [
        ("humaneval", "humaneval.jsonl", 164, {"assert": 1110, "check": 6}),
        ("mbpp", "mbpp.jsonl", 374, {"assert": 1122}),
        ("leetcode", "leetcode_180.jsonl", 180, {"arguments": 17800, "assert": 200}),
        ("leetcode", "leetcode_200_with_solutions.json", 200, {"arguments": 492}),
        ("codecontests", "code_contests_165.json", 165, {"stdin": 1837}),
        ("livecodebench", "livecodebench_v5_public_tests.jsonl", 879, {"stdin": 1365, "arguments": 934}),
    ],
)
def test_real_files_shape(
    data_file: Callable[[str], Path], name: str, file: str, problems: int, tests: dict[str, int]
) -> None:
    found = real(data_file, name, file)
    assert len({problem.id for problem in found}) == len(found) == problems
    assert sum((kinds(problem.gold) for problem in found), Counter()) == tests


def test_the_real_checks_by_replay(data_file: Callable[[str], Path]) -> None:
    found = real(data_file, "humaneval", "humaneval.jsonl") + real(data_file, "mbpp", "mbpp.jsonl", split="validation")
    assert [problem.id.rpartition("/")[2] for problem in found if "check" in kinds(problem.gold)] == [
        *("32", "38", "44", "50", "53", "151"),
        "596",
    ]


def test_livecodebench_s_published_window(data_file: Callable[[str], Path]) -> None:
    window = {"since": "2024-08-01", "until": "2025-02-01"}
    assert len(real(data_file, "livecodebench", "livecodebench_v5_public_tests.jsonl", **window)) == 279


@pytest.mark.parametrize(
    ("name", "file"), [("humaneval", "humaneval.jsonl"), ("leetcode", "leetcode_200_with_solutions.json")]
)
def test_every_reference_is_there(data_file: Callable[[str], Path], name: str, file: str) -> None:
    rows = read_rows(DataSource(name, path=str(data_file(f"code/{file}"))))
    assert all(REFERENCES[name](row) for row in rows)
