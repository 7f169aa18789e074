"""What runs PGlite in a home: its packages, the sidecar's scripts and a Node.js, with the lifetime of the home.

All of it lies below ``runtime/``, written beside its target and renamed::

    pglite-<version>/node_modules/…   the files that a sidecar opens, checked (or elsewhere: --pglite-dir)
    pglite-sidecar-<digest>/          the scripts of this version of the package; others may stand beside it
    node-<version>/bin/node           a copy, only where Node.js comes from the wheel
    node.json                         which Node.js the installer chose: a service's PATH is another than a person's
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mosaic_gateway.config import Home
from mosaic_gateway.engines.base import DiskFullError, RuntimeMissingError
from mosaic_gateway.engines.pglite import packages
from mosaic_gateway.engines.pglite.errors import PackagesAlteredError, PackagesMissingError
from mosaic_gateway.engines.pglite.node import Node, examine, find_node
from mosaic_gateway.engines.pglite.shipped import Shipped
from mosaic_gateway.engines.postgres.runtime import FULL_DISK, copy_file
from mosaic_gateway.errors import PreflightError
from mosaic_gateway.files import make_directory, remove_file, write_file
from mosaic_gateway.process.account import Account, assume

__all__ = ["PgliteRuntime", "find_runtime", "install_runtime", "is_installed", "packages_directory", "prepare"]

SCRIPT = "main.mjs"
TEMPORARY = re.compile(r"\.(pglite-|node-|node\.json\.)[\w.-]+\.tmp")
INSTALL_HINT = "Run mosaic-gateway install (again); with --pglite-dir DIR it takes packages that are there."


@dataclass(frozen=True, slots=True, kw_only=True)
class PgliteRuntime:
    """Where the packages (``modules``) and the sidecar's ``script`` are, and what Node.js runs them."""

    version: str
    modules: Path
    script: Path
    node: Node


def packages_directory(home: Home, shipped: Shipped) -> Path:
    """Return where the packages of this version go in *home*."""
    return home.runtime / f"pglite-{shipped.pglite}"


def find_runtime(
    home: Home, pglite_dir: Path | None, *, shipped: Shipped, account: Account | None, search_path: str | None
) -> PgliteRuntime:
    """Return what `install_runtime` made ready; the files are checked by `prepare`.

    Raises `RuntimeMissingError`, `PackagesMissingError`, and what `find_node` raises.
    """
    directory = pglite_dir or packages_directory(home, shipped)
    if pglite_dir is None and not directory.is_dir():
        raise RuntimeMissingError(f"{home.runtime} holds no PGlite {shipped.pglite}", hint=INSTALL_HINT)
    return PgliteRuntime(
        version=shipped.pglite,
        modules=packages.modules_of(directory),
        script=_scripts_directory(home, shipped) / SCRIPT,
        node=_recorded_node(home, account) or find_node(search_path, account=account),
    )


def is_installed(home: Home, pglite_dir: Path | None, *, shipped: Shipped) -> bool:
    """Return whether packages and sidecar are there, every file as published, and a Node.js noted. Reads only."""
    try:
        packages.verify(packages.modules_of(pglite_dir or packages_directory(home, shipped)), shipped)
    except (PackagesMissingError, PackagesAlteredError, OSError):
        return False
    noted = (home.runtime / "node.json").is_file()
    return noted and _scripts_are_whole(_scripts_directory(home, shipped), shipped)


def prepare(home: Home, runtime: PgliteRuntime, *, shipped: Shipped, account: Account | None) -> None:
    """Check every file that is going to be opened (20 ms), and bring the sidecar's scripts up to date.

    Raises `PackagesMissingError`, `PackagesAlteredError`, OSError.
    """
    with assume(account):
        packages.verify(runtime.modules, shipped)
        _write_scripts(home, shipped)


def install_runtime(
    home: Home,
    *,
    pglite_dir: Path | None,
    shipped: Shipped,
    account: Account | None,
    environ: Mapping[str, str],
) -> PgliteRuntime:
    """Make everything ready for *home* and return it; changes nothing the second time.

    With *pglite_dir* no packages are fetched, only checked. Raises what `find_node` raises, `NpmMissingError`,
    `RegistryError`, `PackagesMissingError`, `PackagesAlteredError`, `DiskFullError`, OSError.
    """
    search_path = environ.get("PATH")
    with _told_when_full(home), assume(account):
        make_directory(home.runtime)
        _remove_leftovers(home.runtime)
    node = find_node(search_path, account=account)
    with _told_when_full(home):
        directory = pglite_dir or packages_directory(home, shipped)
        if pglite_dir is not None:
            with assume(account):
                packages.verify(packages.modules_of(directory), shipped)
        elif not _is_whole(directory, shipped, account):
            parent = home.runtime if account is None else None  # where npm runs as root, only root may write
            with packages.fetched(shipped, node, environ, parent=parent, prefix=f".{directory.name}.") as modules:
                _take(modules, directory, shipped, account)
        chosen = _copied(node, home, account) if node.from_wheel else node
        with assume(account):
            _write_scripts(home, shipped)
            _record_node(home, chosen)
    return PgliteRuntime(
        version=shipped.pglite,
        modules=packages.modules_of(directory),
        script=_scripts_directory(home, shipped) / SCRIPT,
        node=chosen,
    )


def _is_whole(directory: Path, shipped: Shipped, account: Account | None) -> bool:
    try:
        with assume(account):
            packages.verify(directory / "node_modules", shipped)
    except (PackagesMissingError, PackagesAlteredError):
        return False
    return True


def _take(modules: Path, target: Path, shipped: Shipped, account: Account | None) -> None:
    """Move what was fetched to *target*: read as ourselves, checked, written as *account*."""
    with _replaced(target, account) as temporary:
        for name in shipped.hashes:
            content = packages.checked_file(modules, name, shipped)
            with assume(account):
                _put(temporary / "node_modules" / PurePosixPath(name), content)


def _copied(node: Node, home: Home, account: Account | None) -> Node:
    """Copy the wheel's Node.js: the wheel may be closed to the account, or be gone tomorrow."""
    target = home.runtime / f"node-{node.version}"
    binary = target / "bin" / "node"
    size = node.binary.stat().st_size
    with assume(account):
        there = binary.is_file() and binary.stat().st_size == size
    if not there:
        with _replaced(target, account) as temporary, node.binary.open("rb", buffering=0) as source, assume(account):
            make_directory(temporary / "bin")
            copy_file(source.fileno(), temporary / "bin" / "node")
            (temporary / "bin" / "node").chmod(0o700)
    return examine(binary, account=account)


@contextmanager
def _replaced(target: Path, account: Account | None) -> Iterator[Path]:
    """Give a directory to be filled, which becomes *target* when the block ends well."""
    temporary, aside = (target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp") for _ in range(2))
    try:
        with assume(account):
            temporary.mkdir(mode=0o700)
        yield temporary
        with assume(account):
            if target.exists():  # it was found not to be whole
                target.rename(aside)
            temporary.rename(target)
    finally:
        with assume(account):
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(aside, ignore_errors=True)


def _scripts_directory(home: Home, shipped: Shipped) -> Path:
    return home.runtime / f"pglite-sidecar-{shipped.scripts_digest}"


def _scripts_are_whole(directory: Path, shipped: Shipped) -> bool:
    try:
        return all((directory / name).read_bytes() == content for name, content in shipped.scripts.items())
    except OSError:
        return False


def _write_scripts(home: Home, shipped: Shipped) -> None:
    directory = _scripts_directory(home, shipped)
    if _scripts_are_whole(directory, shipped):
        return
    make_directory(home.runtime)
    with _replaced(directory, None) as temporary:
        for name, content in shipped.scripts.items():
            _put(temporary / name, content)


def _put(path: Path, content: bytes) -> None:
    make_directory(path.parent)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as stream:
        stream.write(content)


def _record_node(home: Home, node: Node) -> None:
    path = home.runtime / "node.json"
    content = json.dumps({"binary": str(node.binary), "version": node.version})
    with suppress(FileNotFoundError):
        if path.read_text(encoding="utf-8") == content:
            return
    write_file(path, content)


def _recorded_node(home: Home, account: Account | None) -> Node | None:
    """Return the Node.js that was chosen, None where it is gone or too old by now."""
    try:
        binary = Path(json.loads((home.runtime / "node.json").read_text(encoding="utf-8"))["binary"])
        return examine(binary, account=account)
    except (OSError, ValueError, KeyError, TypeError, PreflightError):
        return None


def _remove_leftovers(directory: Path) -> None:
    for path in directory.iterdir():
        if TEMPORARY.fullmatch(path.name):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                remove_file(path)


@contextmanager
def _told_when_full(home: Home) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            raise DiskFullError(
                f"There is no room for PGlite's programs in {home.runtime}",
                hint="Free some space there, or choose another --home, then try again.",
            ) from error
        raise
