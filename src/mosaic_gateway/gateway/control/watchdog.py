"""Tells the service manager again and again that the gateway answers; one that no longer does is started again.

The protocol is that of sd_watchdog_enabled(3): ``WATCHDOG=1`` at least every ``WATCHDOG_USEC`` microseconds. Answering
is tried as a client would, over HTTP: a process that is there but stuck must not speak for itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from http import HTTPStatus

from mosaic_gateway.gateway.local_client import NoAnswerError, ask
from mosaic_gateway.process.notify import notify

__all__ = ["Watchdog", "watchdog_limit"]

LOG = logging.getLogger(__name__)
#: Three tries before the limit, so that one slow answer is no reason for a restart.
TRIES = 3


def watchdog_limit(environ: Mapping[str, str], pid: int) -> float | None:
    """Return within how many seconds the process *pid* must speak, None where nobody listens for it. Pure."""
    try:
        limit = int(environ["WATCHDOG_USEC"]) / 1_000_000
        meant = int(environ.get("WATCHDOG_PID", pid)) == pid
    except (KeyError, ValueError):
        return None
    return limit if meant and limit > 0 else None


class Watchdog:
    """Speaks to *address* (``NOTIFY_SOCKET``) for the gateway at *url*, at least every *limit* seconds."""

    def __init__(self, address: str | None, url: str, limit: float) -> None:
        self._address = address
        self._url = url
        self._pause = limit / TRIES
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Speak from now on, as long as the gateway answers."""
        self._thread.start()

    def stop(self) -> None:
        """Say no more."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.is_set():
            if self._answers():
                notify(self._address, WATCHDOG="1")
            self._over.wait(self._pause)

    def _answers(self) -> bool:
        try:
            return ask(self._url, "/healthz", timeout=self._pause)[0] == HTTPStatus.OK
        except NoAnswerError as error:
            if not self._over.is_set():
                LOG.warning("The gateway does not answer itself: %s", error.message)
            return False
