"""What sources publish, read as it is published: lists, the released rows, tests, examples, near-copies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archer.errors import DataError
from archer.problems.json_stream import elements
from archer.problems.streams import open_source
from archer.recipe.sections import DataSource
from archer.tools.data.candidate import Candidate, problems
from archer.tools.data.duplicates import Duplicates
from archer.tools.data.examples import Example, contradicted, examples, shown, without
from archer.tools.data.parts import ParsedRow, UnfitRow, read_tests
from archer.tools.data.shapes import SHAPES

STATEMENT = """Add two numbers.

Input

Two integers.

Output

Their sum.

Examples

Input

1 2

Output

3

Note

1 + 2 is 3.
"""
LEETCODE = """Find k.

Input: nums = [3,1], k = 2
Output: true
Explanation: it is there.
"""


def write_rows(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ---- a list read an element at a time


@pytest.mark.parametrize("block", [1, 2, 3, 7, 1000])
def test_a_list_read_in_pieces_gives_what_json_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr("archer.problems.json_stream.BLOCK", block)
    rows = [{"a": [1, -2.5e-3, ']}\\"\u2028é']}, 12345678901234567890, -2.5e-3, "x" * 99, None, [], True, {}]
    for text in (json.dumps(rows), json.dumps(rows, indent=2, ensure_ascii=False), " [] \n", "[[]]"):
        (tmp_path / "a.json").write_text(text, encoding="utf-8")
        assert list(elements(tmp_path / "a.json")) == json.loads(text)


@pytest.mark.parametrize("block", [1, 1000])
@pytest.mark.parametrize(
    ("text", "row"),
    [('[1, {"a"', 2), ("[1,]", 2), ("[1 2]", 1), ("[1] 2", 2), ("[,1]", 1), ('[1, 2, {"a" 1}]', 3), ("", 1)],
)
def test_a_broken_list_names_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, row: int, block: int
) -> None:
    monkeypatch.setattr("archer.problems.json_stream.BLOCK", block)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=rf"a.json: row {row}: not JSON"):
        list(elements(tmp_path / "a.json"))


def test_lines_under_the_name_of_a_list(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "answer": "1"}, {"prompt": "b", "answer": "2"}]
    path = write_rows(tmp_path / "a.json", rows)
    at = open_source(DataSource("mine", path=str(path)), seed=0)
    assert sorted(at(place).prompt for place in (0, 1)) == ["a", "b"]


# ---- the released training set


def released(truth: object, prompt: str = "Add.", **more: object) -> dict:
    return {
        "data_source": "code",
        "prompt": [{"role": "user", "content": prompt}],
        "reward_model": {"style": "rule", "ground_truth": json.dumps(truth)},
        "extra_info": {"index": 7},
        **more,
    }


CALLED = "Find.\n```python\nclass Solution:\n    def find(self, nums: List[int], k: int) -> int:\n```"
CHECK = "def check(candidate):\n    assert candidate(k = 2, nums = [3, 1]) == 4\n\n\ncheck(Solution().find)"
LOOP = "def check(candidate):\n    for k in range(3):\n        assert candidate(k) == k + 1\n\ncheck(Solution().add)"


@pytest.mark.parametrize(
    ("row", "gold"),
    [
        (released({"inputs": ["1 2\n"], "outputs": ["3\n"]}), {"tests": [{"stdin": "1 2\n", "expected": "3\n"}]}),
        (
            released({"functional": CHECK}, CALLED),
            {"function": "find", "tests": [{"arguments": [[3, 1], 2], "expected": 4}]},
        ),
        (
            released({"functional": LOOP}),
            {
                "function": "add",
                "setup": "add = Solution().add",
                "tests": [{"check": LOOP.removesuffix("\n\ncheck(Solution().add)") + "\n"}],
            },
        ),
    ],
)
def test_the_released_rows_are_a_source(tmp_path: Path, row: dict, gold: dict) -> None:
    (tmp_path / "train.json").write_text(json.dumps([row]))
    problem = open_source(DataSource("code", str(tmp_path / "train.json"), format="archer", reward="code"), seed=0)(0)
    assert (problem.id, problem.prompt, problem.gold) == ("code/1", row["prompt"][-1]["content"], gold)
    assert problem.meta == {"data_source": "code", "index": 7}


def test_a_system_message_stays_one(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Add."}]
    row = released({"inputs": ["1"], "outputs": ["2"]})
    path = write_rows(tmp_path / "a.jsonl", [{**row, "prompt": chat}])
    problem = open_source(DataSource("code", str(path), format="archer", reward="code"), seed=0)(0)
    assert (problem.system, problem.prompt) == ("Be brief.", "Add.")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**released({}), "prompt": "Add."}, "row 1: prompt: expected a list"),
        ({**released({}), "prompt": []}, "prompt: expected a user's message"),
        ({**released({}), "reward_model": {}}, "reward_model: no key 'ground_truth'"),
        ({**released({}), "reward_model": {"ground_truth": "{"}}, "reward_model: ground_truth: not JSON"),
        (released({}), "expected inputs and outputs, or functional"),
        (released({"inputs": ["1"], "outputs": []}), "expected an output for each input, found 1 and 0"),
        (released({"inputs": [[1]], "outputs": ["1"]}), r"expected texts, found '\[1\]'"),
        (released({"functional": "assert f(1) == 2"}), "does not end with check"),
    ],
)
def test_a_released_row_that_is_not_as_described(tmp_path: Path, row: dict, message: str) -> None:
    path = write_rows(tmp_path / "a.jsonl", [row])
    with pytest.raises(DataError, match=message):
        open_source(DataSource("code", str(path), format="archer", reward="code"), seed=0)


@pytest.mark.sandbox
def test_released_checks_judge_programs(sandbox: object, tmp_path: Path) -> None:
    from archer.rewards.grading import Grader
    from archer.types import Rollout

    path = write_rows(tmp_path / "a.jsonl", [released({"functional": LOOP}), released({"functional": CHECK}, CALLED)])
    at = open_source(DataSource("code", str(path), format="archer", reward="code"), seed=0)
    loop, calls = sorted((at(0), at(1)), key=lambda problem: problem.id)

    def text(body: str) -> str:
        return f"```python\nclass Solution:\n    {body}\n```"

    answers = [
        (loop, "def add(self, x): return x + 1"),
        (loop, "def add(self, x): return 1"),
        (calls, "def find(self, nums, k): return nums[0] + nums[1]"),
        (calls, "def find(self, nums, k): return k"),
    ]
    with Grader(1, 5.0, sandbox) as grader:  # type: ignore[arg-type]
        found = grader([Rollout.of_text(one, text(body), sample=n) for n, (one, body) in enumerate(answers)])
    assert [verdict.passed for verdict in found] == [True, False, True, False]


# ---- what a statement shows


def test_the_examples_of_a_statement() -> None:
    assert examples(STATEMENT)[-1] == Example("\n1 2", "\n3\nNote\n1 + 2 is 3.")
    gold = {"tests": [{"stdin": "1  2\n", "expected": "3"}, {"stdin": "1 3", "expected": "4"}]}
    assert shown(gold, examples(STATEMENT)) == [0]
    assert without(gold, [0]) == {"tests": [{"stdin": "1 3", "expected": "4"}]}


@pytest.mark.parametrize(
    "text", ["-----Sample Input-----\n1 2\n-----Sample Output-----\n3", "**Input:**\n```\n1 2\n```\n**Output:**\n```\n3\n```",
             "Sample Input 1\n\n1 2\n\nSample Output 1\n\n3", "Input: 1 2\nOutput: 3", "input\n1 2\noutput\n3"],
)  # fmt: skip
def test_ways_to_write_an_example(text: str) -> None:
    gold = {"tests": [{"stdin": "1 2\n", "expected": "3\n"}, {"stdin": "1", "expected": "3"}]}
    assert shown(gold, examples(text)) == [0]
    assert not contradicted(gold, examples(text))


def test_arguments_may_be_named() -> None:
    tests = [{"arguments": [[3, 1], 2], "expected": True}, {"arguments": [[3, 1], 3], "expected": True}]
    assert shown({"function": "f", "tests": tests}, examples(LEETCODE)) == [0]


@pytest.mark.parametrize(("expected", "other"), [("3", False), ("3.0", False), ("2 1", True), ("-1", True)])
def test_a_test_that_contradicts_its_example(expected: str, other: bool) -> None:
    gold = {"tests": [{"stdin": "1 2", "expected": expected}]}
    assert contradicted(gold, examples(STATEMENT)) == other


# ---- how sources publish their problems


ADD = {"function": "add", "tests": [{"arguments": [1, 2], "expected": 3}]}
PRINT = {"tests": [{"stdin": "1\n", "expected": "2\n"}]}


@pytest.mark.parametrize(
    ("tests", "gold"),
    [
        ({"inputs": ["1\n"], "outputs": ["2\n"]}, PRINT),
        ("{'inputs': ['1\\n'], 'outputs': ['2\\n']}", PRINT),
        ({"inputs": [["1"]], "outputs": [["2"]]}, PRINT),
        ([{"type": "stdin_stdout", "input": "1\n", "output": "2\n"}], PRINT),
        ('[{"testtype": "stdin", "input": "1\\n", "output": "2\\n"}]', PRINT),
        ({"fn_name": "add", "inputs": [[1, 2]], "outputs": [[3]]}, ADD),
        ({"fn_name": "Solution.add", "inputs": [[1, 2]], "outputs": [3]}, ADD),
        ([{"type": "function_call", "fn_name": "add", "input": [1, 2], "output": [3]}], ADD),
        ([{"testtype": "functional", "input": "1\n2", "output": "3", "metadata": {"func_name": "add"}}], ADD),
    ],
)
def test_tests_are_read_in_every_way_that_they_are_published(tests: object, gold: dict) -> None:
    assert read_tests(tests) == gold


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("{", "neither JSON nor a Python literal"),
        ([], "expected a list of tests"),
        ({"inputs": ["1"], "outputs": []}, "found 1 and 0"),
        ({"inputs": [{}], "outputs": ["1"]}, "inputs: expected texts"),
        ({"fn_name": "f", "inputs": ["1"], "outputs": ["1"]}, "lists of arguments"),
        ([{"type": "function_call", "input": [1], "output": [1]}], "which function is called"),
        ([{"type": "stdin", "input": "", "output": ""}, {"type": "x", "input": "", "output": ""}], "one kind"),
    ],
)
def test_tests_that_cannot_be_read(tests: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_tests(tests)


def lists(*pairs: tuple[str, str]) -> dict:
    return {"input": [one for one, _ in pairs], "output": [other for _, other in pairs]}


CONTEST = {
    "description": "Print.", "public_tests": lists(("1", "2")), "private_tests": lists(("3", "4")),
    "generated_tests": lists(), "input_file": "", "output_file": "",
}  # fmt: skip
FORCES = {
    "title": "A. Add", "description": "Add one.", "input_format": "A number.", "output_format": "One more.",
    "interaction_format": None, "generated_checker": None, "input_mode": "stdio", "note": None,
    "examples": [{"input": "1\n", "output": "2\n"}],
    "official_tests": [{"input": "1\n", "output": "2\n"}, {"input": "3", "output": "4"}],
}  # fmt: skip
WRAPPED = (
    "Solve the following math problem step by step. The last line ... is the answer to the problem.\n\nWhat is 1+1?\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)


@pytest.mark.parametrize(
    ("shape", "row", "parts"),
    [
        (
            "codecontests", CONTEST,
            ParsedRow("Print.", {"tests": [{"stdin": "1", "expected": "2"}, {"stdin": "3", "expected": "4"}]},
                  examples=(Example("1", "2"),)),
        ),
        ("codecontests", {"problem": "Print.", "tests": {"inputs": ["1\n"], "outputs": ["2\n"]}}, ParsedRow("Print.", PRINT)),
        (
            "codecontests", {**CONTEST, "public_tests": [], "private_tests": [{"input": "3", "output": "4"}]},
            ParsedRow("Print.", {"tests": [{"stdin": "3", "expected": "4"}]}),
        ),
        ("codecontests", {**CONTEST, "description": "<image>"}, UnfitRow("statement with an image")),
        ("codecontests", {**CONTEST, "input_file": "a.txt"}, UnfitRow("reads or writes a file", "'a.txt', ''")),
        (
            "codeforces", FORCES,
            ParsedRow("A. Add\n\nAdd one.\n\nInput\n\nA number.\n\nOutput\n\nOne more.\n\nExamples\n\nInput\n\n1\n\nOutput\n\n2",
                  {"tests": [{"stdin": "1\n", "expected": "2\n"}, {"stdin": "3", "expected": "4"}]},
                  examples=(Example("1\n", "2\n"),)),
        ),
        ("codeforces", {**FORCES, "generated_checker": "..."}, UnfitRow("several right outputs: needs its checker")),
        ("codeforces", {**FORCES, "interaction_format": "Ask."}, UnfitRow("interactive")),
        ("codeforces", {**FORCES, "official_tests": []}, UnfitRow("no tests")),
        ("archer", released({"inputs": ["1\n"], "outputs": ["2\n"]}), ParsedRow("Add.", PRINT, prompt="Add.")),
        ("problem-answer", {"problem": "1+1?", "answer": "$2$"}, ParsedRow("1+1?", "2")),
        (
            "skywork",
            released(["2"], "1+1?\n\nLet's think step by step and output the final answer within \\boxed{}."),
            ParsedRow("1+1?", "2"),
        ),
        ("skywork", released(["2", "3"], "1+1?"), UnfitRow("several answers", "['2', '3']")),
        ("dapo", {**released(0, WRAPPED), "reward_model": {"ground_truth": "2"}}, ParsedRow("What is 1+1?", "2")),
    ],
)  # fmt: skip
def test_shapes(shape: str, row: dict, parts: ParsedRow | UnfitRow) -> None:
    assert SHAPES[shape](row) == parts


def test_prompts_ask_for_a_function_a_program_or_an_answer() -> None:
    code, text = problems("code", "{prompt}"), problems("math", "{prompt} Box it.")
    assert "standard input" in code(Candidate("a/1", "a", "Print.", PRINT)).prompt
    assert "```python\ndef add(arg1, arg2):\n```" in code(Candidate("a/1", "a", "Add.", ADD)).prompt
    assert "class Solution: ..." in code(Candidate("a/1", "a", "Add.", ADD, "class Solution: ...")).prompt
    assert code(Candidate("a/1", "a", "Add.", PRINT, prompt="Whole.")).prompt == "Whole."
    assert text(Candidate("a/1", "a", "1+1?", "2")).prompt == "1+1? Box it."


# ---- near-copies


def drops(texts: list[str], **values: float) -> list[tuple[str, str]]:
    found = Duplicates(**values).copies([Candidate(str(n), "a", text, "1") for n, text in enumerate(texts)])  # type: ignore[arg-type]
    return [(drop.id, drop.reason) for drop in found]


def test_copies_share_ngrams_of_the_shorter_text() -> None:
    ten, six = "a b c d e f g h i j", "a b c d e f"  # 8 and 4 trigrams
    assert drops([ten, six], n=3, share=1.0) == [("1", "near-copy")]  # all 4 are among the 8
    assert drops([six, ten], n=3, share=1.0) == [("1", "near-copy")]
    changed = "a b c d x f g h i j"  # trigrams abc bcd, fgh ghi hij of 8
    assert drops([ten, changed], n=3, share=0.625) == [("1", "near-copy")]  # 5 / 8
    assert drops([ten, changed], n=3, share=0.626) == []


def test_short_texts_are_copies_only_where_all_words_agree() -> None:
    assert drops(["1+1", "1 + 1?", "1+2"]) == [("1", "same words")]


def test_a_copy_of_a_dropped_copy_is_compared_with_what_stays() -> None:
    first, second, third = "a b c d e f", "c d e f g h", "e f g h i j"  # each shares 2 of 4 trigrams with the next
    assert drops([first, second, third], n=3, share=0.5) == [("1", "near-copy")]


def test_phrases_of_many_texts_prove_nothing() -> None:
    texts = [f"a b c d {n} {n} {n} {n}" for n in range(4)]  # 2 of 6 trigrams are the phrase's
    assert [name for name, _ in drops(texts, n=3, share=1 / 3)] == ["1", "2", "3"]
    many = [f"a b c {n} {n}" for n in range(5)]  # 1 of 3
    assert [name for name, _ in drops(many, n=3, share=0.34)] == []
    assert [name for name, _ in drops(many, n=3, share=1 / 3, most=1)] == ["1", "2", "3", "4"]  # one owner is not many
