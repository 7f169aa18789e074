"""The points of a run at which tests kill, stop or fail it: a name, an audit event, and a predicate of its arguments.

The names are of moments of the program, so that a test says where it strikes, and a change of a file's name is followed
here only. The process under test imports this file too (sitecustomize.py beside it), before anything of the program;
therefore it needs the standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

#: Whether an audit event with these arguments is the point. A keyword narrows it down; see `gateway_asked`.
Predicate = Callable[..., bool]


def trap_at(point: str, count: int = 1, *, act: str = "SIGKILL", **narrowed: int) -> dict[str, Any]:
    """Return the trap, for `Site.popen`, that does *act* at the *count*-th time the process reaches *point*.

    *act* is the name of a signal that the process sends itself, or of an errno with which the call fails.
    """
    assert point in POINTS, point
    return {"point": point, "count": count, "act": act, "narrowed": narrowed}


def _paths(arguments: Sequence[object]) -> Iterator[str]:
    for argument in arguments:
        if isinstance(argument, str | bytes | os.PathLike):
            yield os.fsdecode(argument)


def _path_ends(end: str) -> Predicate:
    return lambda arguments: any(path.endswith(end) for path in _paths(arguments))


def _path_has(part: str) -> Predicate:
    return lambda arguments: any(part in path for path in _paths(arguments))


def _erased(name: str) -> Predicate:
    """Match the rename of *name* for deletion, not that of a temporary to it."""
    return lambda arguments: any(f"/.{name}." in path and path.endswith(".erased") for path in _paths(arguments))


def _command_has(part: str) -> Predicate:
    def matches(arguments: Sequence[Any]) -> bool:
        executable, words, *_ = arguments
        return any(part in word for word in _paths([executable, *words]))

    return matches


def _module(name: str) -> Predicate:
    return lambda arguments: arguments[0] == name


def _appended(name: str) -> Predicate:
    """Match open(2), whose event has no mode, and not the built-in ``open``, with which the file is read."""
    return lambda arguments: arguments[1] is None and str(arguments[0]).endswith(name)


def gateway_asked(arguments: Sequence[Any], *, port: int | None = None) -> bool:
    """Match a connection to 127.0.0.1, or only to *port* of it."""
    address = arguments[1]
    return isinstance(address, tuple) and address[0] == "127.0.0.1" and port in {None, address[1]}


POINTS: dict[str, tuple[str, Predicate]] = {
    # Records and settings of the home
    "journal line": ("open", _appended("journal.jsonl")),
    "journal removed": ("os.remove", _path_has("journal.jsonl")),
    "receipt renamed": ("os.rename", _path_has("receipt.json")),
    "receipt removed": ("os.remove", _path_has("receipt.json")),
    "settings renamed": ("os.rename", _path_has("config.toml")),
    "settings removed": ("os.remove", _path_has("config.toml")),
    "secret renamed": ("os.rename", _path_has("auth-secret")),
    "secret removed": ("os.remove", _path_has("auth-secret")),
    "home created": ("os.mkdir", _path_ends("/home")),
    "home removed": ("os.rmdir", _path_ends("/home")),
    "run directory created": ("os.mkdir", _path_ends("/run")),
    "log directory removed": ("os.rmdir", _path_ends("/logs")),
    "lock removed": ("os.remove", _path_has(".lock")),
    "self-test result opened": ("open", _path_has("self-test.json")),
    # Programs
    "program file opened": ("open", _path_has("psycopg/__init__.py")),
    "program renamed": ("os.rename", _path_has("/gateway-")),
    "program switched": ("os.rename", _path_ends("/current")),
    "command linked": ("os.symlink", _path_has("../runtime")),
    "PostgreSQL's programs opened": ("open", _path_has("pginstall/bin/postgres")),
    "PostgreSQL's programs renamed": ("os.rename", _path_has("postgresql-")),
    "PostgreSQL 18's programs renamed": ("os.rename", _path_ends("postgresql-18.6")),
    "sidecar file opened": ("open", _path_has("messages.mjs")),
    "sidecar renamed": ("os.rename", _path_has("pglite-sidecar-")),
    "Node.js recorded": ("os.rename", _path_has("node.json")),
    # Databases
    "cluster renamed": ("os.rename", _path_has("postgres-1")),
    "cluster of PostgreSQL 18 renamed": ("os.rename", _path_ends("postgres-18")),
    "cluster of PostgreSQL 18 removed": ("shutil.rmtree", _path_has("postgres-18")),
    "PGlite's settings opened": ("open", _path_has("pg_hba.conf")),
    "PGlite's data renamed": ("os.rename", _path_ends("/data/pglite")),
    "part of the data renamed": ("os.rename", _path_has("/data/")),
    # Processes
    "gateway launched": ("subprocess.Popen", _command_has("supervise")),
    "gateway asked": ("socket.connect", gateway_asked),
    "client of the gateway imported": ("import", _module("mosaic_gateway.gateway.local_client")),
    "runner imported": ("import", _module("mosaic_gateway.migrations.runner")),
    "initdb started": ("subprocess.Popen", _command_has("initdb")),
    "pg_upgrade started": ("subprocess.Popen", _command_has("pg_upgrade")),
    "vacuumdb started": ("subprocess.Popen", _command_has("vacuumdb")),
    "useradd started": ("subprocess.Popen", _command_has("useradd")),
    # Backups and restores
    "copy of the data created": ("os.mkdir", _path_ends("data")),
    "copy of base created": ("os.mkdir", _path_ends("base")),
    "backup label renamed": ("os.rename", _path_has("backup_label")),
    "manifest renamed": ("os.rename", _path_has("manifest.json")),
    # A second backup of the same second has a longer name.
    "backup renamed": ("os.rename", _path_has("Z-0.1.0")),
    "restore begun": ("os.mkdir", _path_has(".restoring/new")),
    "state of the restore renamed": ("os.rename", _path_has("state.json")),
    "secrets exchanged": ("os.rename", _path_ends("/secrets")),
    "settings exchanged": ("os.rename", _path_ends("/config.toml")),
    "data exchanged": ("os.rename", _path_ends("/data")),
    "replaced parts renamed": ("os.rename", _path_has(".restoring.")),
    "replaced parts removed": ("shutil.rmtree", _path_has(".restoring.")),
    # Uninstalls
    "part set aside": ("os.rename", _path_has(".removed")),
    "part renamed for deletion": ("os.rename", _path_has(".erased")),
    "part deleted": ("shutil.rmtree", _path_has(".erased")),
    "file of a part deleted": ("os.remove", _path_has(".erased")),
    # Rollbacks of an upgrade from 0.0.9
    "new secrets put aside": ("os.rename", _erased("secrets")),
    "new data put aside": ("os.rename", _erased("data")),
    "old secrets put in place": ("os.rename", _path_ends("-0.0.9/secrets")),
    "old receipt put in place": ("os.rename", _path_ends("-0.0.9/receipt.json")),
    "old data put in place": ("os.rename", _path_ends("-0.0.9/data")),
}
