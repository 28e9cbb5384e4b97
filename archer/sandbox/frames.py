"""What host and guest write to each other: inputs become requests, answers become :class:`ProgramRun` records."""

from __future__ import annotations

from typing import Any, get_args

from archer.sandbox.base import Call, Expression, Input, ProgramRun, Status, Stdin, Trusted
from archer.sandbox.guest import GuestLost
from archer.sandbox.values import plain, read_value

MOST_PRINTED = 2**20


def request(given: Input) -> dict[str, Any]:
    """Return an input's header fields; the text of :class:`Stdin` is the frame's body instead."""
    match given:
        case Stdin():
            return {"kind": "stdin"}
        case Call(function, arguments):
            return {"kind": "call", "function": function, "arguments": [plain(value) for value in arguments]}
        case Expression(text, setup):
            return {"kind": "expression", "text": text, "setup": setup}
        case Trusted(program, function, arguments):
            return {"program": program, "prelude": "", **request(Call(function, arguments))}


def read_run(answer: dict[str, Any], output: bytes | bytearray) -> ProgramRun:
    """Return the run that a guest's answer describes. Raises :class:`GuestLost` for a malformed answer.

    Of what a call printed before it returned a value, no more than ``MOST_PRINTED`` bytes are kept.
    """
    try:
        size_out, size_err, size_value = answer["sizes"]
        status, detail, code = answer["status"], str(answer["detail"]), int(answer["code"])
        seconds, cpu, _ = float(answer["seconds"]), float(answer["cpu"]), answer["spent"]
    except (KeyError, TypeError, ValueError):
        raise GuestLost(f"sent an incomplete answer: {str(answer)[:200]}") from None
    if status not in get_args(Status) or len(output) != size_out + size_err + size_value:
        raise GuestLost(f"sent an answer with an unknown status or wrong sizes: {str(answer)[:200]}")
    view, value = memoryview(output), None
    stdout = str(view[: min(size_out, MOST_PRINTED) if size_value else size_out], "utf-8", "replace")
    stderr = str(view[size_out : size_out + size_err], "utf-8", "replace")
    if size_value:
        try:
            value = read_value(view[size_out + size_err :])
        except ValueError as error:
            status, detail = "error", f"the result cannot be read: {error}"
    return ProgramRun(status, code, stdout, stderr, value, seconds, detail, cpu)
