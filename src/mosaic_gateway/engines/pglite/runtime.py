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
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mosaic_gateway.config import Home
from mosaic_gateway.engines.base import DiskFullError, RuntimeMissingError
from mosaic_gateway.engines.pglite import packages
from mosaic_gateway.engines.pglite.errors import PackagesAlteredError, PackagesMissingError
from mosaic_gateway.engines.pglite.node import Node, examine, find_node, node_of_extra
from mosaic_gateway.engines.pglite.shipped import Shipped
from mosaic_gateway.engines.postgres.runtime import FULL_DISK
from mosaic_gateway.engines.postgres.runtime_copy import copy_file
from mosaic_gateway.errors import PreflightError
from mosaic_gateway.files import make_directory, remove_file, write_file
from mosaic_gateway.process.account import Account, assume

__all__ = [
    "PgliteRuntime",
    "find_runtime",
    "has_packages",
    "install_runtime",
    "is_installed",
    "node_for",
    "noted_binary",
    "noted_node",
    "packages_directory",
    "prepare",
    "remove_unused",
    "uses_extra",
]

SCRIPT = "main.mjs"
SIDECAR = "pglite-sidecar-"
NOTE = "node.json"
VERSIONED = re.compile(r"(pglite|node)-(\d[\w.-]*)")
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
        modules=packages.modules_of(directory, shipped),
        script=_scripts_directory(home, shipped) / SCRIPT,
        node=node_for(home, search_path, account=account),
    )


def node_for(home: Home, search_path: str | None, *, account: Account | None, stranger: bool = False) -> Node:
    """Return the Node.js that *home* has noted, as long as it runs; else what `find_node` finds, raising as that."""
    noted = None if stranger else noted_node(home, account)
    return noted or find_node(search_path, account=account, stranger=stranger)


def has_packages(home: Home, pglite_dir: Path | None, *, shipped: Shipped) -> bool:
    """Return whether the packages are there, every file as published. Reads only."""
    try:
        packages.verify(packages.modules_of(pglite_dir or packages_directory(home, shipped), shipped), shipped)
    except (PackagesMissingError, PackagesAlteredError, OSError):
        return False
    return True


def is_installed(home: Home, pglite_dir: Path | None, *, shipped: Shipped, account: Account | None) -> bool:
    """Return whether packages and sidecar are there, and a Node.js is noted that runs. Changes nothing."""
    return (
        has_packages(home, pglite_dir, shipped=shipped)
        and _scripts_are_whole(_scripts_directory(home, shipped), shipped)
        and _kept_node(home, account) is not None
    )


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

    With *pglite_dir* no packages are fetched, only checked. A Node.js that is noted stays the one. Raises what
    `find_node` raises, `NpmMissingError`, `RegistryError`, `PackagesMissingError`, `PackagesAlteredError`,
    `DiskFullError`, OSError.
    """
    search_path = environ.get("PATH")
    with _told_when_full(home), assume(account):
        make_directory(home.runtime)
        _remove_leftovers(home.runtime)
    node = _kept_node(home, account)
    with _told_when_full(home):
        directory = pglite_dir or packages_directory(home, shipped)
        if pglite_dir is not None:
            with assume(account):
                packages.verify(packages.modules_of(directory, shipped), shipped)
        elif not _has_packages_for(account, home, shipped):
            parent = home.runtime if account is None else None  # where npm runs as root, only root may write
            # npm runs as ourselves, and never by the noted Node.js, which the account can change.
            found = find_node(search_path, account=account)
            with packages.fetched(shipped, found, environ, parent=parent, prefix=f".{directory.name}.") as modules:
                _take(modules, directory, shipped, account)
        if node is None:
            node = find_node(search_path, account=account)
            node = _copied(node, home, account) if node.from_wheel else node
        with assume(account):
            _write_scripts(home, shipped)
            _note_node(home, node)
    return PgliteRuntime(
        version=shipped.pglite,
        modules=packages.modules_of(directory, shipped),
        script=_scripts_directory(home, shipped) / SCRIPT,
        node=node,
    )


def uses_extra(home: Home) -> bool:
    """Return whether the Node.js of *home* is its copy of the one that the extra ``pglite`` brought."""
    binary = noted_binary(home)
    return binary is not None and _is_copy(home, binary)


def remove_unused(home: Home, versions: Collection[str], *, shipped: Shipped) -> tuple[str, ...]:
    """Remove packages of other *versions*, other scripts than ours and other copies of Node.js; return their names.

    Scripts that another version needs it writes anew. Call as the home's account. Raises OSError.
    """
    binary = noted_binary(home)
    kept = {f"pglite-{version}" for version in versions} | {_scripts_directory(home, shipped).name}
    if binary is not None and _is_copy(home, binary):
        kept.add(binary.relative_to(home.runtime).parts[0])
    ours = (path for path in home.runtime.iterdir() if VERSIONED.fullmatch(path.name) or path.name.startswith(SIDECAR))
    unused = sorted(path for path in ours if path.name not in kept)
    for path in unused:
        shutil.rmtree(path)
    return tuple(path.name for path in unused)


def _has_packages_for(account: Account | None, home: Home, shipped: Shipped) -> bool:
    with assume(account):
        return has_packages(home, None, shipped=shipped)


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
    return home.runtime / f"{SIDECAR}{shipped.scripts_digest}"


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


def _note_node(home: Home, node: Node) -> None:
    path = home.runtime / NOTE
    content = json.dumps({"binary": str(node.binary), "version": node.version})
    with suppress(FileNotFoundError):
        if path.read_text(encoding="utf-8") == content:
            return
    write_file(path, content)


def noted_node(home: Home, account: Account | None) -> Node | None:
    """Return the Node.js that was chosen for *home*, None where it is gone or too old by now."""
    binary = noted_binary(home)
    if binary is None:
        return None
    try:
        return examine(binary, account=account)
    except PreflightError:
        return None


def noted_binary(home: Home) -> Path | None:
    """Return where the Node.js is that was chosen for *home*, whatever became of it; None where none was."""
    try:
        return Path(json.loads((home.runtime / NOTE).read_text(encoding="utf-8"))["binary"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _kept_node(home: Home, account: Account | None) -> Node | None:
    """Return the noted Node.js, unless it is a copy of the extra's and that brings another version by now."""
    noted = noted_node(home, account)
    if noted is None or not _is_copy(home, noted.binary):
        return noted
    brought = node_of_extra()
    return noted if brought is None or brought.version == noted.version else None


def _is_copy(home: Home, binary: Path) -> bool:
    return binary.is_relative_to(home.runtime)


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
