"""The ``archer`` command: its commands by name, signals, and errors as exit codes."""

from __future__ import annotations

import signal
import sys
import traceback
from types import TracebackType
from typing import Annotated

import typer

from archer import __version__
from archer.commands import benchmarks, data, lab, sandbox
from archer.commands.compare import compare
from archer.commands.evaluate import EvalCommand, evaluate
from archer.commands.lm_eval import lm_eval
from archer.commands.power import power
from archer.commands.recipe import recipe
from archer.commands.tables import report, table
from archer.commands.train import train
from archer.errors import ArcherError, UserError
from archer.system import commit, die_with_parent
from archer.terminal import say

app = typer.Typer(
    name="archer",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},  # of every command below too
)
app.command()(compare)
app.command()(train)
app.command("eval", cls=EvalCommand)(evaluate)
app.command("lm-eval")(lm_eval)
app.command()(power)
app.command()(table)
app.command()(report)
app.command()(recipe)
app.add_typer(benchmarks.app, name="benchmarks")
app.add_typer(data.app, name="data")
app.add_typer(sandbox.app, name="sandbox")
app.add_typer(lab.app, name="lab")


def say_version(asked: bool) -> None:
    """Print the version and, where it is known, the commit; then exit."""
    if asked:
        known = commit()
        say(f"archer {__version__}" + (f" (commit {known})" if known else ""))
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=say_version, is_eager=True, help="Print version and commit.")
    ] = False,
) -> None:
    """Train and compare RLVR algorithms."""


class Interrupted(BaseException):
    """Ctrl-C. Not KeyboardInterrupt, which typer turns into its own exit."""


def stop(number: int, frame: object) -> None:
    """Raise Interrupted where the program stands; what is under way is redone by the next start."""
    raise Interrupted


def main() -> None:
    """Run a command; bad input prints one message and exits with 2, our own failures with 1, Ctrl-C with 130."""
    die_with_parent()
    signal.signal(signal.SIGINT, stop)
    sys.excepthook = show_crash
    try:
        app(prog_name="archer")  # also as `python -m archer`: completion goes by this name
    except Interrupted:
        say("stopped; the same command goes on with what is not finished", err=True)
        sys.exit(130)
    except UserError as error:
        sys.exit(fail(error, 2))
    except ArcherError as error:
        sys.exit(fail(error, 1))
    except OSError as error:
        if error.filename is None:
            raise
        sys.exit(fail(UserError(f"{error.filename}: {error.strerror}; what was finished is kept"), 2))


def show_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of an error that nobody expected; its message may quote what a model wrote."""
    say("".join(traceback.format_exception(kind, error, trace)), err=True, nl=False)


def fail(error: ArcherError, code: int) -> int:
    """Print an error and return its exit code."""
    say(f"archer: {error}", err=True)
    return code


if __name__ == "__main__":
    main()
