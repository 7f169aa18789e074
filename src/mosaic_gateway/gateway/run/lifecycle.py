"""The life cycle of a gateway process, which connects engine, migration runner and application.

Start-up: bundles checked → address bound (not listening) → home locked → engine start begun → engine started and
verified → schema migrated → storage → listen → ready. No request is accepted before the schema is complete.
Shutdown: no new requests → pool closed → engine stopped → lock released. The start of a slow engine (PGlite) goes on
while most of the modules for serving are imported; therefore this module imports few itself.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

from mosaic_gateway import __version__
from mosaic_gateway.config import Config, load_auth_secret
from mosaic_gateway.engines.base import Engine
from mosaic_gateway.engines.factory import engine_for
from mosaic_gateway.errors import BusyError, MosaicError
from mosaic_gateway.gateway.run import server
from mosaic_gateway.gateway.run.engine_supervisor import EngineSupervisor
from mosaic_gateway.gateway.run.listener import listener_for
from mosaic_gateway.gateway.schema import load_bundles
from mosaic_gateway.hint import command
from mosaic_gateway.installation.layout import check_layout
from mosaic_gateway.installation.receipt import instance_id
from mosaic_gateway.process import file_lock
from mosaic_gateway.process.command import follow_parent

__all__ = ["GatewayRunningError", "configure_logging", "serve"]

LOG = logging.getLogger(__name__)


class GatewayRunningError(BusyError):
    """Another gateway serves this home."""

    code = "GATEWAY_RUNNING"


class _StopRequestedError(BaseException):
    """SIGTERM or SIGINT arrived before the HTTP server had installed its signal handlers."""


class Readiness(Protocol):
    """The receiver of state reports: the process or service manager that started the gateway."""

    def ready(self, **facts: Any) -> None:
        """Report that requests are accepted; *facts* are ``url``, ``local_url`` and ``setup_url``."""

    def failed(self, error: MosaicError) -> None:
        """Report why the start failed."""

    def stopping(self) -> None:
        """Report that the shutdown has begun."""


def serve(
    config: Config,
    *,
    ready: Readiness,
    supervisor: int | None,
    issue_link: bool,
    under_service: bool = False,
    listener: int | None = None,
) -> None:
    """Serve *config*'s home until SIGTERM or SIGINT.

    The gateway stops when the process with the pid *supervisor* exits. With *issue_link* a set-up link is passed to
    *ready* if `first_link` returns one. *listener* is a descriptor that is bound to the address, or None to bind it
    here. Raises PreflightError, the migration layer's errors and `GatewayRunningError`; then the engine is stopped.
    """
    settings_read_at = time.time()
    check_layout(config.home)
    identity = instance_id(config.home)
    bundles = load_bundles()
    _refuse_second(config)
    with (
        _listener(config, listener) as bound,
        _stop_signals(),
        _home_lock(config) as lock,
        _engine_supervised(config) as (engine, engine_supervisor),
    ):
        engine_supervisor.begin()
        server.preload()  # the package may be removed while the gateway serves
        server.preload_engine(config.engine)
        if supervisor is not None:
            follow_parent(supervisor, signal.SIGTERM)
        engine_supervisor.start()
        from mosaic_gateway.gateway.run.startup import first_link, prepare

        prepare(config, engine, bundles, identity)
        link = first_link(config, engine) if issue_link else None
        _run(config, engine, bound, _Announcement(lock, ready, settings_read_at, link, under_service), identity)


def _run(config: Config, engine: Engine, listener: socket.socket, announcement: _Announcement, identity: str) -> None:
    server.serve_http(
        config, engine.conninfo(), listener, load_auth_secret(config), identity, lambda: announcement.publish(config)
    )
    announcement.ready.stopping()
    LOG.info("Stopping")


@dataclass(frozen=True, slots=True)
class _Announcement:
    """The report that requests are accepted, to lock file, log and *ready*. Times are epoch seconds."""

    lock: file_lock.FileLock
    ready: Readiness
    settings_read_at: float
    link: str | None
    under_service: bool

    def publish(self, config: Config) -> None:
        """Write the note in the lock file and a log line, and report readiness."""
        self.lock.note(
            url=config.url,
            local_url=config.local_url,
            listens_on=config.listens_on,
            version=__version__,
            began=self.settings_read_at,
            service=self.under_service,
        )
        LOG.info("Listening on %s; the address for users is %s", config.listens_on, config.url)
        self.ready.ready(url=config.url, local_url=config.local_url, setup_url=self.link)


def _listener(config: Config, descriptor: int | None) -> socket.socket:
    """Return a socket bound to the address; an inherited *descriptor* stays open for the next gateway."""
    if descriptor is None:
        return listener_for(config.home, config.host, config.port)
    return socket.socket(fileno=os.dup(descriptor))


@contextmanager
def _home_lock(config: Config) -> Iterator[file_lock.FileLock]:
    with file_lock.FileLock(config.home.gateway_lock) as lock:
        if not lock.acquire():
            raise _already_running(config, file_lock.holder_of(config.home.gateway_lock))
        yield lock


def _refuse_second(config: Config) -> None:
    """Refuse if a gateway serves this home; checked before binding, since that gateway probably has the port."""
    holder = file_lock.holder_of(config.home.gateway_lock)
    if holder is not None:
        raise _already_running(config, holder)


def _already_running(config: Config, holder: file_lock.FileLockHolder | None) -> GatewayRunningError:
    return GatewayRunningError(
        f"a gateway already serves {config.home.path}: process {holder.pid if holder else 'unknown'}",
        hint="To stop it, run: " + command("stop"),
        details={"pid": holder.pid if holder else None},
    )


@contextmanager
def _engine_supervised(config: Config) -> Iterator[tuple[Engine, EngineSupervisor]]:
    engine = engine_for(config)
    engine_supervisor = EngineSupervisor(engine)
    try:
        yield engine, engine_supervisor
    finally:
        engine_supervisor.stop()


@contextmanager
def _stop_signals() -> Iterator[None]:
    """Raise on the first SIGTERM or SIGINT, so that the engine is stopped; ignore further ones."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise _StopRequestedError

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except _StopRequestedError:
        LOG.info("Stopped by a signal")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def configure_logging(level: int = logging.INFO, *, also: logging.Handler | None = None) -> None:
    """Send the log of this process to standard error and *also*, one line per record, times in UTC."""
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handlers = [handler] if also is None else [handler, also]
    for configured in handlers:
        configured.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=handlers, force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("psycopg").setLevel(logging.ERROR)
