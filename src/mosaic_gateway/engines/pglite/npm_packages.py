"""PGlite's packages: fetched by npm, or in a directory that is there already; every file that is opened is checked.

npm runs in a directory that only this user can write to, with a lock that pins each archive, and without the
packages' own scripts. What it leaves is not trusted: only the files whose hashes this package knows are taken.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mosaic_gateway.engines.pglite.errors import PackagesAlteredError, PackagesMissingError, RegistryError
from mosaic_gateway.engines.pglite.node import Node
from mosaic_gateway.engines.pglite.pinned_versions import PGLITE, Shipped
from mosaic_gateway.fs.files import LARGE, NotARegularFileError, TooLargeError, read_regular
from mosaic_gateway.process.command import CommandFailedError, run

__all__ = ["check_registry", "checked_file", "fetched", "modules_of", "verify"]

LIMIT = 180.0  # seconds for npm ci
ASK_LIMIT = 60.0  # seconds for npm view
#: npm gives up on a registry that does not answer after about 20 seconds, instead of minutes.
PATIENCE = (
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=2000",
    "--fetch-timeout=30000",
)
QUIET = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")


def modules_of(directory: Path, shipped: Shipped) -> Path:
    """Return the ``node_modules`` that *directory* is or holds. Raises `PackagesMissingError`.

    One in ``pglite-<version>`` comes first: for an upgrade the next version lies there, beside the one in use.
    """
    for modules in (directory / f"pglite-{shipped.pglite}" / "node_modules", directory, directory / "node_modules"):
        if (modules / PGLITE).is_dir():
            return modules
    raise PackagesMissingError(
        f"{directory} holds no {PGLITE}", hint="Name the directory in which npm installed it (or its node_modules)."
    )


def verify(modules: Path, shipped: Shipped) -> None:
    """Check every file that a sidecar opens below *modules*.

    Raises `PackagesMissingError`, `PackagesAlteredError`, OSError.
    """
    for name in shipped.hashes:
        checked_file(modules, name, shipped)


def checked_file(modules: Path, name: str, shipped: Shipped) -> bytes:
    """Return the content of the file *name* below *modules*, which must be the published one; raises as `verify`."""
    package = "/".join(name.split("/")[:2])
    try:
        content: bytes | None = read_regular(modules / name, LARGE)
    except (NotARegularFileError, TooLargeError):
        content = None
    except (FileNotFoundError, NotADirectoryError):
        raise PackagesMissingError(
            f"The package {package} is not whole: {modules / name} is missing",
            hint="Run mosaic-gateway install again; with --pglite-dir, install the packages there anew.",
            details={"package": package, "file": str(modules / name)},
        ) from None
    if content is None or hashlib.sha256(content).hexdigest() != shipped.hashes[name]:
        raise PackagesAlteredError(
            f"{modules / name} is not the file of {package} {shipped.version_of(package)} as it was published",
            hint="Run mosaic-gateway install again; with --pglite-dir, install exactly this version there (before an"
            f" upgrade: in pglite-{shipped.pglite} below it, so that the present one stays).",
            details={"package": package, "file": str(modules / name)},
        )
    return content


@contextmanager
def fetched(shipped: Shipped, node: Node, environ: Mapping[str, str], *, parent: Path, prefix: str) -> Iterator[Path]:
    """Give the ``node_modules`` that npm fetches, for the length of the block; it lies in *parent*.

    Raises `NpmMissingError`, `RegistryError`, OSError.
    """
    with tempfile.TemporaryDirectory(prefix=prefix, suffix=".tmp", dir=parent, ignore_cleanup_errors=True) as name:
        place = Path(name)
        for file, content in shipped.packages.items():
            (place / file).write_bytes(content)
        words = ["ci", "--ignore-scripts", f"--cache={place / 'cache'}", *PATIENCE, *QUIET]
        _npm(words, node, environ, cwd=place, limit=LIMIT)
        yield place / "node_modules"


def check_registry(shipped: Shipped, node: Node, environ: Mapping[str, str]) -> None:
    """Ask npm's registry for the very package, without fetching it. Raises `NpmMissingError`, `RegistryError`."""
    with tempfile.TemporaryDirectory(prefix="mosaic-npm-", ignore_cleanup_errors=True) as name:
        words = ["view", f"{PGLITE}@{shipped.pglite}", "version", f"--cache={Path(name) / 'cache'}", *PATIENCE, *QUIET]
        _npm(words, node, environ, cwd=Path(name), limit=ASK_LIMIT)


def _npm(words: list[str], node: Node, environ: Mapping[str, str], *, cwd: Path, limit: float) -> None:
    path = environ.get("PATH", "")
    env = {name: value for name, value in environ.items() if name != "NODE_OPTIONS"}
    env["PATH"] = f"{node.binary.parent}:{path}"  # npm may be a script that looks for its node there
    try:
        run([*node.npm(path), *words], timeout=limit, env=env, cwd=cwd)
    except CommandFailedError as error:
        raise RegistryError(
            f"npm could not fetch {PGLITE}: {error.message}",
            hint="Make sure that this machine reaches npm's registry (npm ping; a proxy goes into HTTPS_PROXY),"
            " or fetch the packages elsewhere and name them with --pglite-dir DIR.",
            details=error.details,
        ) from error
