"""The verb ``serve``: run the gateway in the foreground."""

from __future__ import annotations

import os
import select
import traceback
from typing import Any

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.installed_home import installation_of
from mosaic_gateway.cli.verb_decorator import verb
from mosaic_gateway.errors import InternalError, MosaicError
from mosaic_gateway.fs.permissions import not_permitted
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.environment import process_environment

__all__ = ["serve"]


@click.command(short_help="Run the gateway in the foreground.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on instead of the configured one.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on instead of the configured one.")
@click.option("--ready-fd", type=int, hidden=True)
@click.option("--go-fd", type=int, hidden=True)
@click.option("--issue-link", is_flag=True, hidden=True)
@click.option("--supervisor", type=int, hidden=True)
@click.option("--service", is_flag=True, hidden=True)
@click.option("--upgrading", is_flag=True, hidden=True)
@click.option("--listen-fd", "listener", type=int, hidden=True)
@verb("serve")
def serve(
    home: Home,
    *,
    ready_fd: int | None,
    go_fd: int | None,
    service: bool,
    upgrading: bool,
    host: str | None,
    port: int | None,
    **options: Any,
) -> Outcome:
    """Run the gateway in the foreground until SIGTERM or Ctrl-C; its log goes to standard error."""
    from mosaic_gateway.gateway.control.program import refuse_other_version
    from mosaic_gateway.gateway.control.ready_pipe import ReadyPipe
    from mosaic_gateway.gateway.control.service_notice import LogFileHandler, ServiceNotice, watchdog_limit
    from mosaic_gateway.gateway.run import lifecycle
    from mosaic_gateway.installation.upgrade_state import check_may_start

    ready: lifecycle.Readiness = ReadyPipe(ready_fd)
    if service:  # the service manager may store standard error elsewhere or discard it
        lifecycle.configure_logging(also=LogFileHandler(home.gateway_log))
        environ = process_environment()
        ready = ServiceNotice(home, environ.get("NOTIFY_SOCKET"), watchdog_limit(environ, os.getpid()))
    else:
        lifecycle.configure_logging()
    try:
        if go_fd is not None and not _await_go(go_fd):
            return Outcome(result={"stopped": True})
        check_may_start(home, upgrading=upgrading)
        if not upgrading:
            refuse_other_version(home)
        installation = installation_of(home, host=host, port=port)
        lifecycle.serve(
            installation.config,
            ready=ready,
            under_service=service,
            **options,
        )
    except MosaicError as error:
        ready.failed(error)
        raise
    except PermissionError as error:
        ready.failed(not_permitted(error))
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]  # a failed first installation removes its log
        message = f"{type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"
        ready.failed(InternalError(message, hint=f"See the log {home.gateway_log}."))
        raise
    return Outcome(result={"stopped": True})


def _await_go(descriptor: int) -> bool:
    """Import what serving needs, then wait for a byte from the pipe; return False at end of file (starter exited)."""
    from mosaic_gateway.gateway.run.server import preload

    preload(enough=lambda: bool(select.select([descriptor], [], [], 0)[0]))
    signal_byte = os.read(descriptor, 1)
    os.close(descriptor)
    return bool(signal_byte)
