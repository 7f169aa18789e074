"""Processes, accounts and what the operating system offers them.

- Run programs: `run`, `ending_of`, `follow_parent`; find and end processes: `identify`, `is_running`, `end_process`.
- Accounts: `account_named`, `account_of`, `check_owner`; what an account can read: `closed_part`, `interpreter`.
- Root: `find_path` opens a path in which another account could place links, `drop_root` drops root privileges,
  `Request` lists the requests to root's process, `BrokerClient` sends them.
- Locks between processes: `FileLock`, `holder_of`. Logs: `RotatingFile`, `tail_of`. Ports: `bind_listener`.
- Full disks: `disk_full_as` raises `DiskFullError` for ENOSPC. Signals: `Interruptions`.
- The environment: `process_environment` and the directories that depend on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_gateway.lazy_names import lazy_names

if TYPE_CHECKING:
    from mosaic_gateway.process.account import (
        UNPRIVILEGED,
        Account,
        HomeOwnerError,
        account_named,
        account_of,
        check_owner,
        closed_part,
        interpreter,
        interpreter_closed_to,
        unreadable_part,
    )
    from mosaic_gateway.process.channel import BrokerClient, error_message, receive, send
    from mosaic_gateway.process.command import CommandFailedError, die_with_parent, ending_of, follow_parent, run
    from mosaic_gateway.process.disk_full import FREE_SPACE, OTHER_HOME, DiskFullError, disk_full_as, is_full_disk
    from mosaic_gateway.process.environment import (
        cache_directory,
        config_directory,
        process_environment,
        runtime_directory,
    )
    from mosaic_gateway.process.file_lock import (
        PROBE_TIME,
        FileLock,
        FileLockHolder,
        flock_holder,
        holder_of,
        last_note,
    )
    from mosaic_gateway.process.identity import ProcessIdentity, identify, is_running, own_identity
    from mosaic_gateway.process.interruptions import INTERRUPTIONS, Interruptions
    from mosaic_gateway.process.log_output import log_handler
    from mosaic_gateway.process.logfile import LogPump, RotatingFile, read_tail, size_of, tail_of
    from mosaic_gateway.process.ports import bind_failure, bind_listener, is_privileged
    from mosaic_gateway.process.privileges import account_environment, drop_root
    from mosaic_gateway.process.root_requests import Broker, Reply, Request
    from mosaic_gateway.process.sd_notify import notify
    from mosaic_gateway.process.termination import end_holder, end_process
    from mosaic_gateway.process.trusted_path import FoundPath, UnsafePathError, find_path, open_directory
else:
    __getattr__ = lazy_names(
        __name__,
        account=(
            "UNPRIVILEGED Account HomeOwnerError account_named account_of check_owner closed_part interpreter "
            "interpreter_closed_to unreadable_part"
        ),
        channel="BrokerClient error_message receive send",
        command="CommandFailedError die_with_parent ending_of follow_parent run",
        disk_full="FREE_SPACE OTHER_HOME DiskFullError disk_full_as is_full_disk",
        environment="cache_directory config_directory process_environment runtime_directory",
        file_lock="PROBE_TIME FileLock FileLockHolder flock_holder holder_of last_note",
        identity="ProcessIdentity identify is_running own_identity",
        interruptions="INTERRUPTIONS Interruptions",
        log_output="log_handler",
        logfile="LogPump RotatingFile read_tail size_of tail_of",
        ports="bind_failure bind_listener is_privileged",
        privileges="account_environment drop_root",
        root_requests="Broker Reply Request",
        sd_notify="notify",
        termination="end_holder end_process",
        trusted_path="FoundPath UnsafePathError find_path open_directory",
    )

__all__ = [
    "FREE_SPACE",
    "INTERRUPTIONS",
    "OTHER_HOME",
    "PROBE_TIME",
    "UNPRIVILEGED",
    "Account",
    "Broker",
    "BrokerClient",
    "CommandFailedError",
    "DiskFullError",
    "FileLock",
    "FileLockHolder",
    "FoundPath",
    "HomeOwnerError",
    "Interruptions",
    "LogPump",
    "ProcessIdentity",
    "Reply",
    "Request",
    "RotatingFile",
    "UnsafePathError",
    "account_environment",
    "account_named",
    "account_of",
    "bind_failure",
    "bind_listener",
    "cache_directory",
    "check_owner",
    "closed_part",
    "config_directory",
    "die_with_parent",
    "disk_full_as",
    "drop_root",
    "end_holder",
    "end_process",
    "ending_of",
    "error_message",
    "find_path",
    "flock_holder",
    "follow_parent",
    "holder_of",
    "identify",
    "interpreter",
    "interpreter_closed_to",
    "is_full_disk",
    "is_privileged",
    "is_running",
    "last_note",
    "log_handler",
    "notify",
    "open_directory",
    "own_identity",
    "process_environment",
    "read_tail",
    "receive",
    "run",
    "runtime_directory",
    "send",
    "size_of",
    "tail_of",
    "unreadable_part",
]
