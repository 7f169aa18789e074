"""Watchdog notifications to the service manager, which restarts a gateway that no longer answers.

The protocol is that of sd_watchdog_enabled(3): ``WATCHDOG=1`` at least every ``WATCHDOG_USEC`` microseconds. Each
notification follows a successful HTTP request to /healthz, so a process that hangs sends none.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from http import HTTPStatus

from mosaic_gateway.gateway.local_client import NoAnswerError, ask
from mosaic_gateway.process.sd_notify import notify

__all__ = ["Watchdog", "watchdog_limit"]

LOG = logging.getLogger(__name__)
#: Requests per limit, so that one slow response does not cause a restart.
TRIES = 3


def watchdog_limit(environ: Mapping[str, str], pid: int) -> float | None:
    """Return the watchdog time-out of the process *pid* in seconds, None if it has none."""
    try:
        limit = int(environ["WATCHDOG_USEC"]) / 1_000_000
        is_meant = int(environ.get("WATCHDOG_PID", pid)) == pid
    except (KeyError, ValueError):
        return None
    return limit if is_meant and limit > 0 else None


class Watchdog:
    """Notifies *address* (``NOTIFY_SOCKET``) at least every *limit* seconds while the gateway at *url* answers."""

    def __init__(self, address: str | None, url: str, limit: float) -> None:
        self._address = address
        self._url = url
        self._pause = limit / TRIES
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start the notifications."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the notifications."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._answers():
                notify(self._address, WATCHDOG="1")
            self._stopping.wait(self._pause)

    def _answers(self) -> bool:
        try:
            return ask(self._url, "/healthz", timeout=self._pause)[0] == HTTPStatus.OK
        except NoAnswerError as error:
            if not self._stopping.is_set():
                LOG.warning("The gateway does not answer the watchdog: %s", error.message)
            return False
