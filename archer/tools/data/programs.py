"""Programming problems as the paper's sources publish them: each function turns a row into its parts. All pure."""

from __future__ import annotations

from archer.errors import DataError
from archer.problems.formats import released
from archer.problems.formats.shaped import value
from archer.tools.data.examples import Example
from archer.tools.data.parts import ParsedRow, Row, UnfitRow, decoded, from_lists, read_tests, text


def deepcoder(row: Row) -> ParsedRow | UnfitRow:
    """https://huggingface.co/datasets/agentica-org/DeepCoder-Preview-Dataset, and others of columns problem, tests."""
    starter, tests = str(row.get("starter_code") or ""), value(row, "tests", object)
    tests = decoded(tests) if isinstance(tests, str) else tests
    metadata = row.get("metadata")
    if metadata and isinstance(tests, list):  # one function for the whole row
        tests = [{"metadata": metadata, **test} if isinstance(test, dict) else test for test in tests]
    return ParsedRow(text(row, "problem"), read_tests(tests, starter), starter)


def codecontests(row: Row) -> ParsedRow | UnfitRow:
    """https://huggingface.co/datasets/deepmind/code_contests, whose public tests are the statement's examples.

    Copies of it with columns problem and tests are read as :func:`deepcoder` reads them.
    """
    if "description" not in row:
        return deepcoder(row)
    statement = text(row, "description")
    if "<image>" in statement:
        return UnfitRow("statement with an image")
    if row.get("input_file") or row.get("output_file"):
        return UnfitRow("reads or writes a file", f"{row.get('input_file')!r}, {row.get('output_file')!r}")
    lists = [value(row, key, object) for key in ("public_tests", "private_tests", "generated_tests")]
    inputs, outputs = ([item for part in lists for item in _column(part, key)] for key in ("input", "output"))
    public = zip(_column(lists[0], "input"), _column(lists[0], "output"), strict=False)
    gold = from_lists({"inputs": inputs, "outputs": outputs})
    return ParsedRow(statement, gold, examples=tuple(Example(*pair) for pair in public))


def _column(tests: object, key: str) -> list[str]:
    """Return a column of tests, which may be a list of pairs or a pair of lists, depending on the reader of the hub."""
    if isinstance(tests, list) and all(isinstance(test, dict) for test in tests):
        return [value(test, key, str) for test in tests]
    if not isinstance(tests, dict):
        raise DataError(f"tests: expected inputs and outputs, found {str(tests)[:80]!r}")
    texts = value(tests, key, list)
    if not all(isinstance(item, str) for item in texts):
        raise DataError(f"tests: {key}: expected texts, found {str(texts)[:80]!r}")
    return texts


def codeforces(row: Row) -> ParsedRow | UnfitRow:
    """https://huggingface.co/datasets/open-r1/codeforces: statements in parts, official tests, checkers.

    Problems with several right outputs need the data set's checker, which is not run here.
    """
    if row.get("interaction_format"):
        return UnfitRow("interactive")
    if row.get("generated_checker"):
        return UnfitRow("several right outputs: needs its checker")
    if row.get("input_mode") not in (None, "", "stdio"):
        return UnfitRow("reads or writes a file", str(row["input_mode"]))
    tests = row.get("official_tests")
    if not tests:
        return UnfitRow("no tests")
    gold = read_tests([{"type": "stdin", **test} for test in tests])
    shown = tuple(
        Example(value(example, "input", str), value(example, "output", str)) for example in row.get("examples") or ()
    )
    return ParsedRow(_statement(row, shown), gold, examples=shown)


def _statement(row: Row, shown: tuple[Example, ...]) -> str:
    """Return the statement put together in Codeforces' order."""
    pairs = "\n\n".join(
        f"Input\n\n{example.given.strip()}\n\nOutput\n\n{example.expected.strip()}" for example in shown
    )
    parts = {
        "": row.get("title"), None: text(row, "description"), "Input": row.get("input_format"),
        "Output": row.get("output_format"), "Examples": pairs, "Note": row.get("note"),
    }  # fmt: skip
    return "\n\n".join(
        f"{head}\n\n{str(part).strip()}" if head else str(part).strip() for head, part in parts.items() if part
    )


def archer(row: Row) -> ParsedRow | UnfitRow:
    """The training set released by the paper's authors, with its prompts unchanged."""
    shaped = released.shape(row)
    if shaped.system:
        return UnfitRow("has a system's message", shaped.system[:80])
    return ParsedRow(shaped.prompt, shaped.gold, prompt=shaped.prompt)
