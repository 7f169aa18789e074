"""A process that forks runners, kills them on command, and reports how they ended. Started by `runners.ForkServer`.

It has imported everything before it forks, so that kills fall into the run itself. It kills its children before
it waits for them, so that a reused pid cannot be hit. Commands are read from standard input and answers written
to standard output, each as one line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from mosaic_gateway.errors import MosaicError
from mosaic_gateway.migrations import runner
from mosaic_gateway.migrations.bundle import LEDGERS, Bundle, LedgerName
from mosaic_gateway.migrations.gate import LOCK_NAME, read_directory
from mosaic_gateway.migrations.runner import _Run, migrate
from mosaic_gateway.process.command import die_with_parent

Connection = psycopg.Connection[tuple[object, ...]]
WAIT = 60.0  # seconds for the lock
LEDGER = LedgerName("drizzle", "__drizzle_migrations")


@cache
def load(name: str) -> Bundle:
    """Return the packaged bundle *name*, or the bundle in the directory *name*."""
    if name in LEDGERS:
        return Bundle.load(name)
    contents = read_directory(Path(name))
    if LOCK_NAME not in contents:
        return Bundle.from_directory(Path(name), ledger=LEDGER)
    return Bundle.from_files("bundle", contents, ledger=LEDGER)


class _NeverError(Exception):
    """Never raised."""


def unlocked(bundle: Bundle, connection: Connection) -> tuple[str, ...]:
    """Run without the lock; only the compare-and-set fences."""
    run = _Run(bundle, connection, 5.0, lambda _event: None)
    run.run_until_up_to_date()
    return tuple(run.finished)


def ordinary(bundle: Bundle, connection: Connection) -> tuple[str, ...]:
    """Run as in production."""
    return migrate(bundle, connection, lock_timeout=WAIT).applied


def strictly_locked(bundle: Bundle, connection: Connection) -> tuple[str, ...]:
    """Run with the lock; a concurrent change nevertheless is a failure."""
    setattr(runner, "FencedError", _NeverError)  # noqa: B010 - only in this process: FencedError becomes a crash
    return ordinary(bundle, connection)


def alone(bundle: Bundle, connection: Connection) -> tuple[str, ...]:
    """Run as on PGlite without other clients."""
    return migrate(bundle, connection, lock_timeout=WAIT, alone=True).applied


MODES = {"ordinary": ordinary, "unlocked": unlocked, "strict": strictly_locked, "alone": alone}


def run_job(job: dict[str, Any], out: int) -> int:
    """Run *job*, write its result to the file descriptor *out* and return the exit code."""
    if job["at"] is not None:
        time.sleep(max(job["at"] - time.time(), 0))
    result: dict[str, Any] = {"applied": [], "error": None, "message": ""}
    try:
        name = f"runner {os.getpid()}"
        with psycopg.connect(job["conninfo"], autocommit=True, application_name=name) as connection:
            for name in job["bundles"]:
                result["applied"] += MODES[job["mode"]](load(name), connection)
    except MosaicError as error:
        result |= {"error": error.code, "message": error.message}
    except psycopg.OperationalError as error:  # the server is not running or the connection was lost
        result |= {"error": "OPERATIONAL", "message": str(error)}
    except BaseException:  # noqa: BLE001 - reported to the test
        result |= {"error": "CRASH", "message": traceback.format_exc()}
    os.write(out, json.dumps(result).encode()[:60000])
    return 0


def start(job: dict[str, Any]) -> tuple[int, int]:
    """Fork a runner; return its pid and the pipe from which its result is read."""
    for name in job["bundles"]:
        load(name)
    prepare = die_with_parent(signal.SIGKILL)
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.close(readable)
            if prepare is not None:
                prepare()
            code = run_job(job, writable)
        finally:
            os._exit(code)
    os.close(writable)
    return pid, readable


def main() -> None:
    """Serve until standard input ends."""
    children: dict[str, tuple[int, int]] = {}
    for line in sys.stdin:
        command = json.loads(line)
        answer: dict[str, Any] = {}
        if command["do"] == "start":
            children[command["name"]] = start(command)
            answer["pid"] = children[command["name"]][0]
        else:
            pid, readable = children.pop(command["name"])
            if command["do"] == "kill":
                os.kill(pid, signal.SIGKILL)
            with os.fdopen(readable, "rb") as pipe:
                output = pipe.read()
            _, status = os.waitpid(pid, 0)
            answer = {"code": os.waitstatus_to_exitcode(status), **(json.loads(output) if output else {})}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
