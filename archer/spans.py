"""Named stretches of a step, for whoever measures one: nobody, as a rule, and then a stretch costs one look."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Listener = Callable[[str], AbstractContextManager[object]]
_NOBODY: AbstractContextManager[object] = nullcontext()


class Listening:
    """Who is told of the stretches of this process; all threads tell the same."""

    to: Listener | None = None


def span(name: str) -> AbstractContextManager[object]:
    """Return the context of a stretch of that name: the listener's, if there is one."""
    return _NOBODY if Listening.to is None else Listening.to(name)


def listen(listener: Listener | None) -> None:
    """Tell ``listener`` of every stretch from now on; None: nobody."""
    Listening.to = listener
