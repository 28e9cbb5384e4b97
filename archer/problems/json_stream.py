"""Reads a JSON list one element at a time: memory holds the largest element, not the file.

``json`` itself decodes the elements: streaming libraries decode some numbers and lone surrogates differently, and a
benchmark's checksum must not depend on the reader.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from archer.errors import DataError

BLOCK = 1 << 20  # characters read at a time
NEAR_END = 16  # characters: except in strings, json reports a value cut short at most this far before the end
ENDS = (",", "]")  # what may follow a list's element
WHITE = re.compile(r"[ \t\n\r]*")


def elements(path: Path) -> Iterator[Any]:
    """Yield the elements of the list in a file. Raises DataError naming the row that is not JSON."""
    decode = json.JSONDecoder().raw_decode
    with path.open(encoding="utf-8") as file:
        window, number = _Window(file), 1
        try:
            window.take("[")
            mark = window.take("]") if window.peek() == "]" else ","
            while mark == ",":
                yield window.value(decode)
                mark, number = window.take(",]"), number + 1
            if window.peek():
                raise json.JSONDecodeError("there is text after the end of the list", "", 0)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}: row {number}: not JSON: {error.msg}") from error


class _Window:
    """The part of a text that is being read; it grows where a value does not end in it."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.text, self.at, self.size = file, "", 0, BLOCK

    def grow(self) -> bool:
        """Drop the text already read and read on; return whether there was more."""
        more = self.file.read(self.size)
        if more:
            self.text, self.at = self.text[self.at :] + more, 0
        return bool(more)

    def peek(self) -> str:
        """Return the next character other than white space without taking it; empty at the end."""
        while True:
            self.at = WHITE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text) or not self.grow():
                return self.text[self.at : self.at + 1]

    def take(self, known: str) -> str:
        """Take the next character, one of ``known``, and return it. Raises JSONDecodeError."""
        mark = self.peek()
        if not mark or mark not in known:
            raise json.JSONDecodeError(f"expected {' or '.join(known)}, found {mark or 'the end of the file'!r}", "", 0)
        self.at += 1
        return mark

    def value(self, decode: Callable[[str, int], tuple[Any, int]]) -> Any:
        """Take the next value and return it. Raises JSONDecodeError."""
        self.peek()
        while True:
            try:
                element, end = decode(self.text, self.at)
                cut = end > len(self.text) - NEAR_END  # a number may go on
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos > len(self.text) - NEAR_END
                if not cut or not self.grow():
                    raise
            else:
                if not cut or self.text[end : end + 1] in ENDS or not self.grow():
                    self.at, self.size = end, BLOCK
                    return element
            self.size *= 2  # a value longer than the window is read from its start each time
