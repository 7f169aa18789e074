"""PGlite's npm packages: pinned versions and hashes, fetching by npm, and verification of every file used.

npm runs in a directory that only this user can write to, with a lock file that pins each archive, and without
package scripts. Its result is not trusted: only files with the hashes pinned in this package are copied.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from importlib_resources import files

from mosaic_gateway.engines.pglite.node import Node, PackagesAlteredError, PackagesMissingError, RegistryError
from mosaic_gateway.fs.files import LARGE, NotARegularFileError, TooLargeError, read_regular
from mosaic_gateway.fs.staging import temporary
from mosaic_gateway.hint import command
from mosaic_gateway.process.command import CommandFailedError, run

__all__ = [
    "PGLITE",
    "PGVECTOR",
    "Shipped",
    "check_registry",
    "checked_file",
    "fetched",
    "modules_of",
    "shipped",
    "verify",
]

PGLITE = "@electric-sql/pglite"
PGVECTOR = "@electric-sql/pglite-pgvector"
SCRIPT = ".mjs"
LIMIT = 180.0  # seconds for npm ci
ASK_LIMIT = 60.0  # seconds for npm view
#: With these, npm fails after about 20 seconds if the registry does not answer, instead of minutes.
TIMEOUTS = (
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=2000",
    "--fetch-timeout=30000",
)
QUIET = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")


@dataclass(frozen=True)  # without slots, for cached_property
class Shipped:
    """Pinned versions, files and hashes.

    ``pglite`` and ``pgvector`` are versions; ``packages`` are npm's input files and ``scripts`` the sidecar's files,
    both by name. ``hashes`` maps each file below ``node_modules`` that a sidecar opens to its SHA-256.
    """

    pglite: str
    pgvector: str
    packages: Mapping[str, bytes]
    scripts: Mapping[str, bytes]
    hashes: Mapping[str, str]

    def version_of(self, package: str) -> str:
        """Return the version of *package*, `PGLITE` or `PGVECTOR`."""
        return self.pglite if package == PGLITE else self.pgvector

    @cached_property
    def scripts_digest(self) -> str:
        """A short digest of the sidecar's scripts."""
        digest = hashlib.sha256()
        for name, content in sorted(self.scripts.items()):
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()[:12]

    @cached_property
    def packages_digest(self) -> str:
        """A short digest of the pinned file hashes."""
        return hashlib.sha256(json.dumps(sorted(self.hashes.items())).encode()).hexdigest()[:12]


@cache
def shipped() -> Shipped:
    """Return the shipped data, read once: after root drops its privileges, the package may be unreadable."""
    package = files("mosaic_gateway.engines.pglite")
    pinned = json.loads((package / "files.json").read_bytes())
    sidecar = package / "sidecar"
    return Shipped(
        pglite=pinned["pglite"],
        pgvector=pinned["pglite-pgvector"],
        packages={name: (sidecar / name).read_bytes() for name in ("package.json", "package-lock.json")},
        scripts={entry.name: entry.read_bytes() for entry in sidecar.iterdir() if entry.name.endswith(SCRIPT)},
        hashes=pinned["files"],
    )


def modules_of(directory: Path, shipped: Shipped) -> Path:
    """Return *directory* or its ``node_modules``, whichever contains the packages. Raises `PackagesMissingError`.

    ``pglite-<version>/node_modules`` has precedence: there an upgrade's version is installed beside the current one.
    """
    for modules in (directory / f"pglite-{shipped.pglite}" / "node_modules", directory, directory / "node_modules"):
        if (modules / PGLITE).is_dir():
            return modules
    raise PackagesMissingError(
        f"{directory} does not contain {PGLITE}",
        hint="Name the directory in which npm installed it (or its node_modules).",
    )


def verify(modules: Path, shipped: Shipped) -> None:
    """Verify every file that a sidecar opens below *modules*.

    Raises `PackagesMissingError`, `PackagesAlteredError`, OSError.
    """
    for name in shipped.hashes:
        checked_file(modules, name, shipped)


def checked_file(modules: Path, name: str, shipped: Shipped) -> bytes:
    """Return the content of the file *name* below *modules*, verified by its hash; raises as `verify`."""
    package = "/".join(name.split("/")[:2])
    try:
        content: bytes | None = read_regular(modules / name, LARGE)
    except (NotARegularFileError, TooLargeError):
        content = None
    except (FileNotFoundError, NotADirectoryError):
        raise PackagesMissingError(
            f"The package {package} is incomplete: {modules / name} is missing",
            hint="Run " + command("install") + " again; with --pglite-dir, reinstall the packages there.",
            details={"package": package, "file": str(modules / name)},
        ) from None
    if content is None or hashlib.sha256(content).hexdigest() != shipped.hashes[name]:
        raise PackagesAlteredError(
            f"{modules / name} differs from the published file of {package} {shipped.version_of(package)}",
            hint="Run "
            + command("install")
            + " again; with --pglite-dir, install exactly this version there (before an"
            f" upgrade: in its subdirectory pglite-{shipped.pglite}, to retain the current version).",
            details={"package": package, "file": str(modules / name)},
        )
    return content


@contextmanager
def fetched(shipped: Shipped, node: Node, environ: Mapping[str, str], *, beside: Path) -> Iterator[Path]:
    """Yield a ``node_modules`` in a temporary sibling of *beside*, fetched by npm and removed after the block.

    Raises `NpmMissingError`, `RegistryError`, OSError.
    """
    with temporary(beside) as directory:
        directory.mkdir(mode=0o700)
        for file, content in shipped.packages.items():
            (directory / file).write_bytes(content)
        words = ["ci", "--ignore-scripts", f"--cache={directory / 'cache'}", *TIMEOUTS, *QUIET]
        _npm(words, node, environ, cwd=directory, limit=LIMIT)
        yield directory / "node_modules"


def check_registry(shipped: Shipped, node: Node, environ: Mapping[str, str]) -> None:
    """Check that npm's registry has the package, without fetching it. Raises `NpmMissingError`, `RegistryError`."""
    with tempfile.TemporaryDirectory(prefix="mosaic-npm-", ignore_cleanup_errors=True) as name:
        words = ["view", f"{PGLITE}@{shipped.pglite}", "version", f"--cache={Path(name) / 'cache'}", *TIMEOUTS, *QUIET]
        _npm(words, node, environ, cwd=Path(name), limit=ASK_LIMIT)


def _npm(words: list[str], node: Node, environ: Mapping[str, str], *, cwd: Path, limit: float) -> None:
    path = environ.get("PATH", "")
    env = {name: value for name, value in environ.items() if name != "NODE_OPTIONS"}
    env["PATH"] = f"{node.binary.parent}:{path}"  # npm may be a script that finds node through PATH
    try:
        run([*node.npm(path), *words], timeout=limit, env=env, cwd=cwd)
    except CommandFailedError as error:
        raise RegistryError(
            f"npm could not fetch {PGLITE}: {error.message}",
            hint="Make sure that this machine reaches npm's registry (npm ping; set HTTPS_PROXY for a proxy),"
            " or fetch the packages on another machine and name them with --pglite-dir DIR.",
            details=error.details,
        ) from error
