"""Builds the image of the ``docker`` executor: from ``sandbox/Dockerfile``, or from the root of a Debian system."""

from __future__ import annotations

import contextlib
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from archer.errors import SandboxError, UserError
from archer.sandbox.docker import FAILED, IMAGE, connect
from archer.sandbox.guest import PACKAGES
from archer.system import suite

DEBIAN = "usr/lib/python3/dist-packages"  # where python3-numpy and the like put their modules


def build_image(host: str, root: Path | None) -> str:
    """Build the image on a Docker host and return its id.

    ``root`` is a folder as ``debootstrap`` makes it, for machines that reach no registry. Raises UserError
    for a folder that is no such root, MissingError for a host that does not answer, SandboxError where
    the host cannot build.
    """
    if root is not None:
        _check_root(root)
    with contextlib.closing(connect(host)) as client:
        try:
            if root is None:
                client.images.build(path=str(suite("sandbox")), tag=IMAGE, rm=True)
            else:
                with _packed(root) as tar:
                    client.api.import_image_from_stream(tar, repository=IMAGE, tag="latest")
            return str(client.images.get(IMAGE).id)
        except FAILED as error:
            raise SandboxError(
                f"sandbox: docker: the image was not built: {error}; where the Docker host reaches no registry, name "
                "the root of a Debian system with --root (sandbox/README.md says how to make one)"
            ) from error


def _check_root(root: Path) -> None:
    for name in ("usr/bin/python3", *(f"{DEBIAN}/{package}" for package in PACKAGES)):
        if not (root / name).exists():
            raise UserError(
                f"{root}: has no {name}; make it with `debootstrap --variant=minbase "
                f"--include=python3,{','.join(f'python3-{package}' for package in PACKAGES)} bookworm {root}`"
            )


@contextlib.contextmanager
def _packed(root: Path) -> Iterator[Iterator[bytes]]:
    """Yield the root as blocks of a tar file, with links to the packages where the guest looks for them."""
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
            tar.add(root, arcname=".", filter=_needed)
            for package in PACKAGES:
                link = tarfile.TarInfo(f"./packages/{package}")
                link.type, link.linkname = tarfile.SYMTYPE, f"/{DEBIAN}/{package}"
                tar.addfile(link)
        file.seek(0)
        yield iter(lambda: file.read(2**20), b"")  # no file: the client would send a length and chunks at once


def _needed(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Drop device files and the package cache, which is most of a fresh root; clear set-user-ID bits."""
    cache = item.name.startswith(("./var/cache/apt/", "./var/lib/apt/lists/"))
    return None if item.isdev() or cache else item.replace(mode=item.mode & 0o777, deep=False)
