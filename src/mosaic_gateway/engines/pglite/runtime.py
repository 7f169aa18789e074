"""PGlite's programs in a home: npm packages, the sidecar's scripts and Node.js.

All are below ``runtime/``, written to a temporary sibling and renamed::

    pglite-<version>/node_modules/…   the verified files that a sidecar opens (or elsewhere: --pglite-dir)
    pglite-sidecar-<digest>/          the scripts of this version of the package; other versions may exist beside it
    node-<version>/bin/node           a copy, only if Node.js comes from the wheel
    node.json                         the Node.js that the installer chose: a service's PATH differs from a user's
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mosaic_gateway import fs
from mosaic_gateway.engines.base import RuntimeMissingError
from mosaic_gateway.engines.pglite import npm_packages
from mosaic_gateway.engines.pglite.node import (
    Node,
    PackagesAlteredError,
    PackagesMissingError,
    examine,
    find_node,
    node_of_extra,
)
from mosaic_gateway.engines.pglite.npm_packages import Shipped
from mosaic_gateway.engines.postgres.runtime_copy import copy_file
from mosaic_gateway.errors import PreflightError
from mosaic_gateway.fs.record_fields import Field, RecordError, path_text, read_record
from mosaic_gateway.hint import command
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.disk_full import OTHER_HOME, disk_full_as

__all__ = [
    "PgliteRuntime",
    "find_runtime",
    "has_packages",
    "install_runtime",
    "install_scripts",
    "is_installed",
    "node_for",
    "packages_directory",
    "prepare",
    "recorded_binary",
    "recorded_node",
    "unused_programs",
    "uses_extra",
]

SCRIPT = "main.mjs"
SIDECAR = "pglite-sidecar-"
NODE_RECORD = "node.json"
WHAT = "PGlite's programs"
VERSIONED = re.compile(r"(pglite|node)-(\d[\w.-]*)")
#: errno values of a write to a directory that is owned by root or on a read-only file system.
NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
INSTALL_HINT = "Run " + command("install") + " (again); with --pglite-dir DIR it uses the packages in DIR."


@dataclass(frozen=True, slots=True, kw_only=True)
class PgliteRuntime:
    """The paths of the packages (``modules``) and of the sidecar's ``script``, and the Node.js that runs them."""

    version: str
    modules: Path
    script: Path
    node: Node


def packages_directory(home: Home, shipped: Shipped) -> Path:
    """Return the directory of this version's packages in *home*."""
    return home.runtime / f"pglite-{shipped.pglite}"


def find_runtime(home: Home, pglite_dir: Path | None, *, shipped: Shipped, search_path: str | None) -> PgliteRuntime:
    """Return the runtime installed by `install_runtime`; its files are verified by `prepare`.

    Raises `RuntimeMissingError`, `PackagesMissingError`, and what `find_node` raises.
    """
    directory = pglite_dir or packages_directory(home, shipped)
    if pglite_dir is None and not directory.is_dir():
        raise RuntimeMissingError(f"{home.runtime} does not contain PGlite {shipped.pglite}", hint=INSTALL_HINT)
    return PgliteRuntime(
        version=shipped.pglite,
        modules=npm_packages.modules_of(directory, shipped),
        script=_scripts_directory(home, shipped) / SCRIPT,
        node=node_for(home, search_path),
    )


def node_for(home: Home, search_path: str | None) -> Node:
    """Return the Node.js recorded in *home* if it runs, else the result of `find_node`; raises as `find_node`."""
    return recorded_node(home) or find_node(search_path)


def has_packages(home: Home, pglite_dir: Path | None, *, shipped: Shipped) -> bool:
    """Return whether the packages are complete, with every file as published. Reads only."""
    try:
        npm_packages.verify(npm_packages.modules_of(pglite_dir or packages_directory(home, shipped), shipped), shipped)
    except (PackagesMissingError, PackagesAlteredError, OSError):
        return False
    return True


def is_installed(home: Home, pglite_dir: Path | None, *, shipped: Shipped) -> bool:
    """Return whether packages and scripts are complete and the recorded Node.js runs. Reads only."""
    return (
        has_packages(home, pglite_dir, shipped=shipped)
        and _scripts_are_whole(_scripts_directory(home, shipped), shipped)
        and _retained_node(home) is not None
    )


def prepare(home: Home, runtime: PgliteRuntime, *, shipped: Shipped) -> None:
    """Verify every file that a sidecar opens (20 ms), and update the sidecar's scripts.

    Raises `PackagesMissingError`, `PackagesAlteredError`, OSError; `RuntimeMissingError` if the scripts are not
    those of this version and this user cannot write to their directory.
    """
    npm_packages.verify(runtime.modules, shipped)
    try:
        _write_scripts(home, shipped)
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        raise RuntimeMissingError(
            f"{home.runtime} does not contain this version's scripts of the sidecar", hint=INSTALL_HINT
        ) from error


def install_runtime(
    home: Home,
    *,
    pglite_dir: Path | None,
    shipped: Shipped,
    environ: Mapping[str, str],
) -> PgliteRuntime:
    """Install the runtime of *home* and return it; does nothing if it is complete.

    With *pglite_dir* no packages are fetched, only verified. A recorded Node.js is retained. Raises what
    `find_node` raises, `NpmMissingError`, `RegistryError`, `PackagesMissingError`, `PackagesAlteredError`,
    `DiskFullError`, OSError.
    """
    with disk_full_as(WHAT, home.runtime, hint=OTHER_HOME):
        fs.make_directory(home.runtime)
        _remove_temporaries(home.runtime)
        directory = pglite_dir or packages_directory(home, shipped)
        if pglite_dir is not None:
            npm_packages.verify(npm_packages.modules_of(directory, shipped), shipped)
        elif not has_packages(home, None, shipped=shipped):
            npm_node = find_node(environ.get("PATH"))  # not the recorded one, which may be a copy without npm
            with npm_packages.fetched(shipped, npm_node, environ, beside=directory) as modules:
                _copy_packages(modules, directory, shipped)
        node = install_scripts(home, shipped=shipped, search_path=environ.get("PATH"))
    return PgliteRuntime(
        version=shipped.pglite,
        modules=npm_packages.modules_of(directory, shipped),
        script=_scripts_directory(home, shipped) / SCRIPT,
        node=node,
    )


def install_scripts(home: Home, *, shipped: Shipped, search_path: str | None) -> Node:
    """Write the sidecar's scripts to *home* and record the Node.js that runs them; return that Node.js.

    Raises what `find_node` raises, `DiskFullError`, OSError.
    """
    with disk_full_as(WHAT, home.runtime, hint=OTHER_HOME):
        fs.make_directory(home.runtime)
        node = _retained_node(home)
        if node is None:
            node = find_node(search_path)
            node = _copied(node, home) if node.from_wheel else node
        _write_scripts(home, shipped)
        _record_node(home, node)
    return node


def uses_extra(home: Home) -> bool:
    """Return whether the Node.js of *home* is a copy of the one from the extra ``pglite``."""
    binary = recorded_binary(home)
    return binary is not None and _is_copy(home, binary)


def unused_programs(home: Home, versions: Collection[str], *, shipped: Shipped) -> tuple[str, ...]:
    """Return the names of unused directories: packages not in *versions*, other scripts, and other copies of Node.js.

    Scripts needed by another version are rewritten when it starts. Raises OSError.
    """
    binary = recorded_binary(home)
    retained = {f"pglite-{version}" for version in versions} | {_scripts_directory(home, shipped).name}
    if binary is not None and _is_copy(home, binary):
        retained.add(binary.relative_to(home.runtime).parts[0])
    names = (path.name for path in home.runtime.iterdir())
    programs = {name for name in names if VERSIONED.fullmatch(name) or name.startswith(SIDECAR)}
    return tuple(sorted(programs - retained))


def _copy_packages(modules: Path, target: Path, shipped: Shipped) -> None:
    """Copy the files that a sidecar opens, each verified, from the fetched *modules* to *target*."""
    with fs.staged(target, replace=True, durable=False) as temporary:
        for name in shipped.hashes:
            content = npm_packages.checked_file(modules, name, shipped)
            _put(temporary / "node_modules" / PurePosixPath(name), content)


def _copied(node: Node, home: Home) -> Node:
    """Copy the wheel's Node.js, because the wheel may be upgraded or removed while the home needs it."""
    target = home.runtime / f"node-{node.version}"
    binary = target / "bin" / "node"
    size = node.binary.stat().st_size
    if not (binary.is_file() and binary.stat().st_size == size):
        with fs.staged(target, replace=True, durable=False) as temporary, node.binary.open("rb", buffering=0) as source:
            fs.make_directory(temporary / "bin")
            copy_file(source.fileno(), temporary / "bin" / "node")
            (temporary / "bin" / "node").chmod(0o700)
    return examine(binary)


def _scripts_directory(home: Home, shipped: Shipped) -> Path:
    return home.runtime / f"{SIDECAR}{shipped.scripts_digest}"


def _scripts_are_whole(directory: Path, shipped: Shipped) -> bool:
    try:
        return all(fs.read_regular(directory / name) == content for name, content in shipped.scripts.items())
    except OSError:
        return False


def _write_scripts(home: Home, shipped: Shipped) -> None:
    directory = _scripts_directory(home, shipped)
    if _scripts_are_whole(directory, shipped):
        return
    fs.make_directory(home.runtime)
    with fs.staged(directory, replace=True, durable=False) as temporary:
        for name, content in shipped.scripts.items():
            _put(temporary / name, content)


def _put(path: Path, content: bytes) -> None:
    fs.make_directory(path.parent)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as stream:
        stream.write(content)


def _record_node(home: Home, node: Node) -> None:
    path = home.runtime / NODE_RECORD
    content = json.dumps({"binary": str(node.binary), "version": node.version})
    with suppress(OSError):
        if fs.read_regular(path) == content.encode():
            return
    fs.write_file(path, content)


def recorded_node(home: Home) -> Node | None:
    """Return the Node.js recorded for *home*, None if it does not run any more or is too old."""
    binary = recorded_binary(home)
    if binary is None:
        return None
    try:
        return examine(binary)
    except PreflightError:
        return None


def recorded_binary(home: Home) -> Path | None:
    """Return the path of the Node.js recorded for *home*, whether it still exists or not; None if none is recorded."""
    try:
        return Path(read_record(home.runtime / NODE_RECORD, {"binary": Field(path_text)})["binary"])
    except (OSError, RecordError):
        return None


def _retained_node(home: Home) -> Node | None:
    """Return the recorded Node.js, unless it is a copy from the extra and the extra now has another version."""
    recorded = recorded_node(home)
    if recorded is None or not _is_copy(home, recorded.binary):
        return recorded
    from_extra = node_of_extra()
    return recorded if from_extra is None or from_extra.version == recorded.version else None


def _is_copy(home: Home, binary: Path) -> bool:
    return binary.is_relative_to(home.runtime)


def _remove_temporaries(directory: Path) -> None:
    """Remove what killed runs left in *directory*; earlier versions named npm's directory with other characters."""
    for path in (*directory.glob(".pglite-*.tmp"), *fs.temporaries(directory, "node")):
        fs.remove_tree(path)
