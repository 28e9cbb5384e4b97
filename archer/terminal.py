"""Writes to a terminal: what a model, a program or a data set says is shown there, and never obeyed.

Every other room prints by these functions. Escape sequences (a window's title, the clipboard), characters that write
over others and such as turn the direction of text are shown as Python would write them: ``\\x1b``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, ConsoleRenderable
    from rich.segment import Segment

# Control characters but for line ends and tabs, marks of direction, line and paragraph separators, what has no width,
# surrogates (no terminal can write them), interlinear notes and tags.
OBEYED = re.compile(
    "\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """Return a text with escapes in place of the characters that a terminal obeys or hides."""
    return OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say(text: object, err: bool = False, nl: bool = True) -> None:
    """Print a text to standard output, or to standard error, with ``nl`` as a line."""
    typer.echo(visible(str(text)), err=err, nl=nl)


def terminal(**options: Any) -> Console:
    """Return a console of rich's, with these options of its, on which texts are :func:`visible`."""
    from rich.console import Console, RenderHook

    class VisibleHook(RenderHook):
        def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
            return [_Visible(one) for one in renderables]

    console = Console(**options)
    console.push_render_hook(VisibleHook())
    return console


@dataclass(frozen=True)
class _Visible:
    """Something that rich can print, with its texts visible; rich's own control sequences stay."""

    inner: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.inner, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))
