r"""The part of a response that is its final answer: after the thought, in the last box, or after "answer is"."""

from __future__ import annotations

import re

from archer.rewards.mathematics.answers import last_boxed

_THINK = re.compile(r"<think>|</think>")
_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|boldsymbol|mbox)\s*+\{")
_SPACES = re.compile(r"\s+")
_SAID = re.compile(r"answer(?: is|:)", re.IGNORECASE)


def spoken(text: str, thinking: bool = False) -> str | None:
    """Return the text after the last ``</think>``, or all of it; None where a ``<think>`` is still open.

    With ``thinking`` the thought is kept.
    """
    marks = [(match.group(), match.end()) for match in _THINK.finditer(text)]
    if not marks:
        return text
    last, end = marks[-1]
    if last == "<think>":
        return None
    return text if thinking else text[end:]


def boxed_words(text: str) -> str | None:
    r"""Return the content of the last box without ``\text{...}`` around it; None as :func:`last_boxed`."""
    inner = last_boxed(text)
    if inner is None:
        return None
    match = _TEXT.match(inner)
    return inner[match.end() : -1].strip() if match and inner.endswith("}") else inner


def said_answer(text: str) -> str | None:
    """Return the rest of the line after the last "answer is" or "answer:", as in "The answer is (B)."."""
    ends = [match.end() for match in _SAID.finditer(text)]
    return text[ends[-1] :].partition("\n")[0] if ends else None


def squeezed(text: str) -> str:
    """Return a text with single spaces and none at its ends."""
    return _SPACES.sub(" ", text).strip()
