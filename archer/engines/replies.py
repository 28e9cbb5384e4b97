"""The schema of an OpenAI-compatible server's replies; a reply of status 200 may still be something else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from archer.errors import EngineError

T = TypeVar("T")


@dataclass(frozen=True)
class ModelCard:
    """One model in the reply of ``/models``."""

    id: str
    owned_by: str | None = None
    root: str | None = None
    max_model_len: int | None = None


@dataclass(frozen=True)
class ModelCards:
    """The reply of ``/models``."""

    data: tuple[ModelCard, ...]


@dataclass(frozen=True)
class ChatMessage:
    """A response, and its thinking if the server separates it from the text."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


@dataclass(frozen=True)
class ChatChoice:
    """A message and the reason it ended."""

    message: ChatMessage
    finish_reason: str | None = None


@dataclass(frozen=True)
class ChatUsage:
    """The number of tokens of a response."""

    completion_tokens: Annotated[int, Field(strict=True, ge=0)]


@dataclass(frozen=True)
class ChatCompletion:
    """The reply of ``/chat/completions``."""

    choices: tuple[ChatChoice, ...]
    usage: ChatUsage | None = None


CARDS, COMPLETION = TypeAdapter(ModelCards), TypeAdapter(ChatCompletion)


def parse_reply(where: str, text: str, reader: TypeAdapter[T], what: str) -> T:
    """Parse a reply of kind ``what``. Raises EngineError if it is something else, such as a login page."""
    try:
        return reader.validate_python(json.loads(text))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except ValueError as error:
        why = str(error)
    raise EngineError(
        f"{where}: the reply is not {what} ({why}); it begins with {text[:80]!r}; check the URL (it ends in /v1) and "
        "the server's log"
    )
