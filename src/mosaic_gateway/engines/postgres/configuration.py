"""The configuration of the server: three generated files, and the directory of its socket.

The files are rewritten when they differ. The socket is in the home, or in a short private directory if the path would
be too long.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
import sys
from contextlib import suppress
from pathlib import Path

from mosaic_gateway.engines.base import EngineStartError, UnfitAccountError
from mosaic_gateway.fs.files import NotARegularFileError, TooLargeError, make_directory, read_regular, write_file
from mosaic_gateway.installation.layout import Home

__all__ = [
    "DATABASE",
    "FALLBACK",
    "PORT",
    "ROLE",
    "check_account",
    "command_line_settings",
    "outside_directories",
    "socket_directory",
    "socket_path",
    "socket_place",
    "write_configuration",
]

ROLE = "mosaic"
DATABASE = "mosaic"
PORT = 5432  # only a part of the socket's name
HEADER = "# Written by mosaic-gateway at each start; changes to this file are lost.\n"

#: name, value, first major version that has the setting.
SETTINGS: tuple[tuple[str, str, int], ...] = (
    ("max_connections", "30", 0),
    ("shared_buffers", "64MB", 0),
    ("work_mem", "8MB", 0),
    ("maintenance_work_mem", "128MB", 0),
    ("huge_pages", "off", 0),
    ("dynamic_shared_memory_type", "mmap", 0),  # a container's /dev/shm may be tiny
    ("io_method", "sync", 18),
    ("wal_level", "replica", 0),
    ("max_wal_senders", "3", 0),
    ("max_logical_replication_workers", "0", 0),
    ("min_wal_size", "32MB", 0),
    ("max_wal_size", "256MB", 0),
    ("checkpoint_timeout", "15min", 0),
    ("wal_compression", "pglz", 15),
    ("fsync", "on", 0),
    ("full_page_writes", "on", 0),
    ("synchronous_commit", "on", 0),
    ("autovacuum_max_workers", "1", 0),
    ("max_parallel_workers_per_gather", "1", 0),
    ("client_connection_check_interval", "5s", 14),
    ("timezone", "UTC", 0),
    ("log_timezone", "UTC", 0),
    ("log_line_prefix", "%m [%p] %q%a ", 0),
    ("lc_messages", "C", 0),
    ("default_text_search_config", "pg_catalog.english", 0),
)
MACOS_SETTINGS = (("wal_sync_method", "fsync_writethrough", 0),)
LINUX_ONLY = {"client_connection_check_interval"}
#: Longest path of a socket in bytes: ``sun_path`` without its final NUL.
LONGEST = 103 if sys.platform == "darwin" else 107
FALLBACK = Path("/tmp")  # noqa: S108 - directories created there are checked


def write_configuration(cluster: Path, major: int) -> None:
    """Write the configuration files of *cluster* where they differ. Raises OSError."""
    contents = {
        "postgresql.conf": _settings(major),
        "pg_hba.conf": f"{HEADER}local all {ROLE} peer map=gw\n",
        "pg_ident.conf": _ident(),
    }
    for name, text in contents.items():
        path = cluster / name
        if _content(path) != text.encode():
            write_file(path, text)


def command_line_settings(sockets: Path) -> list[str]:
    """Return the server's arguments for a private server with its socket in *sockets*."""
    quoted = str(sockets).replace('"', '""')
    return [
        "-clisten_addresses=",
        f'-cunix_socket_directories="{quoted}"',
        "-cunix_socket_permissions=0700",
        f"-cport={PORT}",
        "-clogging_collector=off",
        "-clog_destination=stderr",
    ]


def check_account() -> None:
    """Raise `UnfitAccountError` if PostgreSQL would refuse to run as this user."""
    uid = os.geteuid()
    if uid == 0:
        raise UnfitAccountError(
            "PostgreSQL does not run as root", hint="Name an existing service account with --run-as USER."
        )
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise UnfitAccountError(
            f"The user id {uid} has no entry in this machine's user database, which PostgreSQL requires",
            hint="Run as a user with an entry in /etc/passwd (in a container: add an entry, or use another user).",
        ) from None


def _settings(major: int) -> str:
    settings = [*SETTINGS, *MACOS_SETTINGS] if sys.platform == "darwin" else SETTINGS
    lines = [
        f"{name} = '{value}'\n"
        for name, value, since in settings
        if since <= major and not (name in LINUX_ONLY and sys.platform == "darwin")
    ]
    return f"{HEADER}{''.join(lines)}# Your own settings:\ninclude_if_exists = 'postgresql.local.conf'\n"


def _ident() -> str:
    """Return pg_ident.conf: it maps this user and root, which can become this user anyway, to the role."""
    users = dict.fromkeys((pwd.getpwuid(os.geteuid()).pw_name, "root"))
    return HEADER + "".join(f'gw "{user}" {ROLE}\n' for user in users)


def _content(path: Path) -> bytes | None:
    """Return the content of *path*, None if the file must be rewritten."""
    try:
        return read_regular(path)
    except (FileNotFoundError, NotARegularFileError, TooLargeError):
        return None


def socket_path(directory: Path) -> Path:
    """Return the path of the server's socket in *directory*."""
    return directory / f".s.PGSQL.{PORT}"


def socket_directory(home: Home) -> Path:
    """Create the directory of the home's socket if necessary, check that it is private, and return it.

    It is ``<home>/run``, or ``mosaic-<hash>`` in ``/tmp`` if the path would be too long or contain a comma, which
    separates hosts in a conninfo. It is not in XDG_RUNTIME_DIR, which is deleted when the user logs out. Raises
    EngineStartError, OSError.
    """
    directory = socket_place(home)
    if directory == home.run:
        make_directory(directory)
    else:
        _create_private(directory)
    return directory


def socket_place(home: Home) -> Path:
    """Return the path that `socket_directory` uses, without creating it. Raises EngineStartError."""
    if _fits(home.run):
        return home.run
    directory = FALLBACK / _outside_name(home)
    if _fits(directory):
        return directory
    raise EngineStartError(
        f"The path of the socket is too long for every directory, including {FALLBACK}", hint="Choose a shorter --home."
    )


def outside_directories(home: Home, runtime_directory: Path) -> list[Path]:
    """Return the directories that `socket_directory` created outside of *home* and that the home's owner owns.

    Earlier versions created them in *runtime_directory*.
    """
    owner = home.path.stat().st_uid
    directories = []
    for directory in {parent / _outside_name(home) for parent in (runtime_directory, FALLBACK)}:
        with suppress(FileNotFoundError):
            status = directory.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == owner:
                directories.append(directory)
    return directories


def _outside_name(home: Home) -> str:
    return f"mosaic-{hashlib.sha256(os.fsencode(home.path.resolve())).hexdigest()[:8]}"


def _fits(directory: Path) -> bool:
    path = os.fsencode(socket_path(directory))
    return len(path) <= LONGEST and b"," not in path


def _create_private(directory: Path) -> None:
    """Create *directory*; refuse one that another user created, because all users can write to its parent."""
    make_directory(directory)
    status = directory.lstat()
    owner = os.geteuid()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner or status.st_mode & 0o077:
        raise EngineStartError(
            f"{directory} is not a private directory of user id {owner}",
            hint="Remove it, or choose a --home with a shorter path.",
        )
