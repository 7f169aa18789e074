"""Start of a sidecar until its database is open; does not import psycopg, which is slow to load."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mosaic_gateway.engines.base import EngineStartError, UnfitAccountError
from mosaic_gateway.engines.pglite.errors import PackagesMissingError
from mosaic_gateway.engines.pglite.runtime import PgliteRuntime
from mosaic_gateway.engines.pglite.sidecar_process import Sidecar
from mosaic_gateway.hint import command

__all__ = ["check_account", "failure", "open_sidecar", "sidecar_command"]

START_LIMIT = 120.0  # seconds, including crash recovery
TAIL = 20  # lines of PGlite's log in an error


def check_account() -> None:
    """Raise `UnfitAccountError` if the effective user is root."""
    if os.geteuid() == 0:
        raise UnfitAccountError(
            "PGlite must not run as root", hint="Name an existing service account with --run-as USER."
        )


def sidecar_command(
    runtime: PgliteRuntime, data: Path, socket: Path, *, lock: int | None = None, brief: bool = False
) -> list[str | Path]:
    """Return the command line of a sidecar; *brief* for a short-lived one."""
    words: list[str | Path] = [*runtime.node.command(brief=brief), runtime.script, "--modules", runtime.modules]
    words += ["--data", data, "--socket", socket]
    return words if lock is None else [*words, "--lock-fd", str(lock)]


def open_sidecar(sidecar: Sidecar, log: Path, *, limit: float = START_LIMIT) -> dict[str, Any]:
    """Wait until *sidecar* is ready and return its event ``ready``.

    Raises `PackagesMissingError`, `EngineStartError` with the end of PGlite's log; the sidecar is then stopped.
    """
    event = sidecar.await_event("ready", "failed", limit=limit)
    if event is not None and event["event"] == "ready":
        return event
    timed_out = event is None and sidecar.running()
    sidecar.stop()
    if event is not None and event.get("code") == "MODULES_MISSING":
        raise PackagesMissingError(
            f"PGlite's packages cannot be loaded: {event.get('message')}", hint="Run " + command("install") + " again."
        )
    if event is not None:
        why = f"{event.get('message')} ({event.get('code')})"
    else:
        why = f"it was not ready within {limit:.0f} s" if timed_out else sidecar.ending()
    raise failure(f"PGlite did not start: {why}", sidecar, log)


def failure(message: str, sidecar: Sidecar | None, log: Path) -> EngineStartError:
    """Return an error that ends with the tail of PGlite's log."""
    lines = sidecar.tail().splitlines()[-TAIL:] if sidecar is not None else []
    return EngineStartError("\n".join([message, *lines]), hint=f"The complete log: {log}", details={"log": str(log)})
