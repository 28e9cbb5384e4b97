"""``archer recipe``: what a recipe says, and what one may say."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from archer.commands.options import Changes, chosen_recipe
from archer.errors import UserError
from archer.terminal import say

WIDTH = 100


def recipe(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A shipped recipe's name or a .yaml file; default: lab.")
    ] = "",
    keys: Annotated[bool, typer.Option("--keys", help="Print every key with its type, default and meaning.")] = False,
    shipped: Annotated[bool, typer.Option("--list", help="List the shipped recipes.")] = False,
    changes: Changes = None,
) -> None:
    """Print a recipe as YAML with every default in it; with --keys what a recipe may say."""
    if keys and shipped:
        raise UserError("archer recipe: --keys and --list print different things; give one of them")
    if (keys or shipped) and (name or changes):
        option = "--keys" if keys else "--list"
        raise UserError(f"archer recipe {option}: it is about all recipes; leave out {name or '--set'}")
    if keys:
        say_keys()
    elif shipped:
        say_shipped()
    else:
        from archer.recipe.reading import recipe_yaml

        say(recipe_yaml(chosen_recipe(name or "lab", changes)), nl=False)


def say_keys() -> None:
    """Print every key: name, type and default on one line, its meaning below."""
    from archer.recipe.keys import REQUIRED, recipe_keys

    for key in recipe_keys():
        default = key.default if key.default in ("", REQUIRED) else f"default {key.default}"
        say(f"{key.name}: {', '.join(part for part in (key.kind, default) if part)}")
        say(textwrap.fill(key.meaning, WIDTH, initial_indent="    ", subsequent_indent="    "))


def say_shipped() -> None:
    """Print the name and the first comment line of every shipped recipe."""
    from archer.recipe.reading import shipped_recipes

    for name, path in shipped_recipes().items():
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        say(f"{name:26} {first.removeprefix('#').strip()}")
