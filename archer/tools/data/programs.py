"""Programming problems as the paper's sources publish them: a row in, its parts out. All pure."""

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
        tests = [{"metadata": metadata, **one} if isinstance(one, dict) else one for one in tests]
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
    """Readers of the hub disagree whether a list of tests is a list of pairs or a pair of lists."""
    if isinstance(tests, list) and all(isinstance(one, dict) for one in tests):
        return [value(one, key, str) for one in tests]
    if not isinstance(tests, dict):
        raise DataError(f"tests: expected inputs and outputs, found {str(tests)[:80]!r}")
    found = value(tests, key, list)
    if not all(isinstance(one, str) for one in found):
        raise DataError(f"tests: {key}: expected texts, found {str(found)[:80]!r}")
    return found


def codeforces(row: Row) -> ParsedRow | UnfitRow:
    """https://huggingface.co/datasets/open-r1/codeforces: statements in parts, official tests, checkers.

    Where several outputs are right, only the data set's checker could tell, which is not run here.
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
    shown = tuple(Example(value(one, "input", str), value(one, "output", str)) for one in row.get("examples") or ())
    return ParsedRow(_statement(row, shown), gold, examples=shown)


def _statement(row: Row, shown: tuple[Example, ...]) -> str:
    """Put a statement together in the order in which Codeforces prints it."""
    pairs = "\n\n".join(f"Input\n\n{one.given.strip()}\n\nOutput\n\n{one.expected.strip()}" for one in shown)
    parts = {
        "": row.get("title"), None: text(row, "description"), "Input": row.get("input_format"),
        "Output": row.get("output_format"), "Examples": pairs, "Note": row.get("note"),
    }  # fmt: skip
    return "\n\n".join(
        f"{head}\n\n{str(part).strip()}" if head else str(part).strip() for head, part in parts.items() if part
    )


def archer(row: Row) -> ParsedRow | UnfitRow:
    """The training set that the paper's authors released, whose prompts are taken as they are."""
    shaped = released.shape(row)
    if shaped.system:
        return UnfitRow("has a system's message", shaped.system[:80])
    return ParsedRow(shaped.prompt, shaped.gold, prompt=shaped.prompt)
