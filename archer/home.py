"""Where the folders beside the package lie: ``benchmarks``, ``sandbox`` and ``leaderboards``.

A wheel carries them as ``archer/_suite/<name>``, so that no generic name lands in site-packages; a
checkout (and an editable install of it) has them next to the package.
"""

from pathlib import Path

from archer.errors import DataError

PACKAGE = Path(__file__).resolve().parent


def suite(name: str) -> Path:
    """Return the folder of that name: inside the installed wheel, else in the checkout."""
    inside = PACKAGE / "_suite" / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def in_checkout(path: Path, what: str) -> Path:
    """Return the path as it is. Raises DataError for one in an installed package, which is not to be written."""
    if path.resolve().is_relative_to(PACKAGE):
        raise DataError(f"{path}: part of an installed package; {what} a checkout")
    return path
