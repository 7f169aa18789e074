"""The life of a gateway process: the one place that joins engine, runner and app.

Order: bundles checked → address bound (not listening) → home locked → engine begun → engine up and
verified → schema → storage → listen → ready. A request can only ever meet a complete schema. On the
way down: no new requests → pool closed → engine stopped → lock freed. An engine that takes long (PGlite) is begun
before most of what serving needs is loaded, which is done meanwhile; so this module imports little itself.
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
from mosaic_gateway.config import Config, instance_id, load_auth_secret
from mosaic_gateway.engines.base import Engine
from mosaic_gateway.engines.factory import engine_for
from mosaic_gateway.errors import BusyError, MosaicError
from mosaic_gateway.gateway.run.engine_supervisor import EngineSupervisor
from mosaic_gateway.gateway.run.listener import listener_for
from mosaic_gateway.gateway.run.server import preload, preload_engine, serve_http
from mosaic_gateway.gateway.schema import load_bundles
from mosaic_gateway.installation.layout_check import check_layout
from mosaic_gateway.process.command import follow_parent
from mosaic_gateway.process.file_lock import FileLock, FileLockHolder, holder_of

__all__ = ["GatewayRunningError", "configure_logging", "serve"]

LOG = logging.getLogger(__name__)


class GatewayRunningError(BusyError):
    """Another gateway serves this home."""

    code = "GATEWAY_RUNNING"


class _StopRequestedError(BaseException):
    """SIGTERM or SIGINT arrived before the HTTP server had taken over the signals."""


class Readiness(Protocol):
    """Hears how a gateway is: whoever started it."""

    def ready(self, **facts: Any) -> None:
        """Hear that requests are accepted; *facts* are ``url``, ``local_url`` and ``setup_url``."""

    def failed(self, error: MosaicError) -> None:
        """Hear why the start failed."""

    def stopping(self) -> None:
        """Hear that the end has begun."""


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

    *supervisor* is the pid of the process that must not be outlived; with *issue_link* a link for the
    first admin goes through *ready*, if one is wanted. *listener* is a descriptor that is bound to the address
    already, None where it is bound here. Raises PreflightError, the
    migration layer's errors and `GatewayRunningError`; then nothing of it is left running.
    """
    began = time.time()
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
        preload()  # the package may be gone while we serve
        preload_engine(config.engine)
        if supervisor is not None:
            follow_parent(supervisor, signal.SIGTERM)
        engine_supervisor.start()
        from mosaic_gateway.gateway.run.startup import first_link, prepare

        prepare(config, engine, bundles, identity)
        link = first_link(config, engine) if issue_link else None
        _run(config, engine, bound, _Announcement(lock, ready, began, link, under_service), identity)


def _run(config: Config, engine: Engine, listener: socket.socket, announcement: _Announcement, identity: str) -> None:
    serve_http(
        config, engine.conninfo(), listener, load_auth_secret(config), identity, lambda: announcement.make(config)
    )
    announcement.ready.stopping()
    LOG.info("Stopping")


@dataclass(frozen=True, slots=True)
class _Announcement:
    """Tells the machine that requests are accepted; *began* is when the settings were read (epoch seconds)."""

    lock: FileLock
    ready: Readiness
    began: float
    link: str | None
    under_service: bool

    def make(self, config: Config) -> None:
        self.lock.note(
            url=config.url,
            local_url=config.local_url,
            version=__version__,
            began=self.began,
            service=self.under_service,
        )
        LOG.info("Listening on %s", config.local_url)
        self.ready.ready(url=config.url, local_url=config.local_url, setup_url=self.link)


def _listener(config: Config, descriptor: int | None) -> socket.socket:
    """Return a socket bound to the address; one that was passed on stays open for the next gateway."""
    if descriptor is None:
        return listener_for(config.home, config.host, config.port)
    return socket.socket(fileno=os.dup(descriptor))


@contextmanager
def _home_lock(config: Config) -> Iterator[FileLock]:
    with FileLock(config.home.gateway_lock) as lock:
        if not lock.acquire():
            raise _already_running(config, holder_of(config.home.gateway_lock))
        yield lock


def _refuse_second(config: Config) -> None:
    """Name the gateway that serves this home before the port does: it is most likely the one that has it."""
    holder = holder_of(config.home.gateway_lock)
    if holder is not None:
        raise _already_running(config, holder)


def _already_running(config: Config, holder: FileLockHolder | None) -> GatewayRunningError:
    return GatewayRunningError(
        f"a gateway already serves {config.home.path}: process {holder.pid if holder else 'unknown'}",
        hint="Use it, or stop it first: mosaic-gateway stop",
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
    """Unwind on SIGTERM and SIGINT, so that the engine is stopped; further signals are ignored then."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise _StopRequestedError

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except _StopRequestedError:
        LOG.info("Stopped by a signal")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def configure_logging(level: int = logging.INFO, *, also: logging.Handler | None = None) -> None:
    """Write this process's log to standard error, one line an event, times in UTC; and to *also*."""
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handlers = [handler] if also is None else [handler, also]
    for each in handlers:
        each.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=handlers, force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("psycopg").setLevel(logging.ERROR)
