"""LiveCodeBench's private tests: JSON in a pickle, compressed, in base64. Read without unpickling anything.

A pickle is a program for a small machine that can call whatever it names, and reserve any amount of memory
before it does. So its instructions are only listed, and a pickle that does more than hold one text is refused.
"""

from __future__ import annotations

import base64
import pickletools
import zlib

from archer.errors import DataError

MOST_BYTES = 256 * 2**20
TEXT = ("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
AROUND = ("PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP")


def unseal(text: str, key: str, most: int = MOST_BYTES) -> str:
    """Return the sealed text. Raises DataError for anything but one text of at most ``most`` bytes."""
    try:
        packed = base64.b64decode(text, validate=True)
        unpacking = zlib.decompressobj()
        pickled = unpacking.decompress(packed, most + 1)
    except (ValueError, zlib.error) as error:
        raise DataError(f"{key}: expected JSON, or base64 of zlib data: {error}; it starts {text[:40]!r}") from error
    if len(pickled) > most:
        raise DataError(f"{key}: unpacks to more than {most} bytes")
    if not unpacking.eof:
        raise DataError(f"{key}: its compressed data is cut off; fetch the file again")
    return _only_text(pickled, key)


def _only_text(pickled: bytes, key: str) -> str:
    texts, stopped = list[str](), False
    try:
        for operation, argument, _ in pickletools.genops(pickled):
            if operation.name in TEXT:
                texts.append(str(argument))
            elif operation.name not in AROUND:
                raise DataError(f"{key}: its pickle holds {operation.name}, not one text; it is not read")
            stopped = operation.name == "STOP"
    except (ValueError, IndexError, UnicodeError) as error:
        raise DataError(f"{key}: its pickle is damaged: {error}") from error
    if len(texts) != 1 or not stopped:
        raise DataError(f"{key}: its pickle holds {len(texts)} texts, not one")
    return texts[0]
