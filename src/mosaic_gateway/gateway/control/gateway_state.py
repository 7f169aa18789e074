"""The state of the gateway of a home, from its lock files and its answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from mosaic_gateway.fs.record_fields import VERSION, Field, RecordError, boolean, checked_record, matching, text
from mosaic_gateway.gateway.control.service import registered_service
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.file_lock import FileLockHolder, holder_of

__all__ = ["GatewayState", "state_of"]

_ADDRESS = matching(re.compile(r"https?://[\x21-\x7e]+"), "a web address")
#: What a gateway that accepts requests writes into its lock file (`lifecycle`).
NOTE = {
    "url": Field(_ADDRESS, None),
    "local_url": Field(_ADDRESS, None),
    "listens_on": Field(text, None),
    "version": Field(matching(VERSION, "a version"), None),
    "service": Field(boolean, default=False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayState:
    """State of a home's gateway. ``url`` is None while it starts; ``ready``: /readyz returned 200.

    ``listens_on`` is `Config.listens_on`.
    ``service`` is the registered service unit, if any; ``under_service`` is whether that unit runs the gateway.
    """

    running: bool
    ready: bool = False
    pid: int | None = None
    supervisor: int | None = None
    url: str | None = None
    local_url: str | None = None
    listens_on: str | None = None
    version: str | None = None
    service: str | None = None
    under_service: bool = False


def state_of(home: Home, *, ask: bool = True) -> GatewayState:
    """Return the state of the gateway; with *ask*, request /readyz too. Writes nothing."""
    supervisor = holder_of(home.supervisor_lock)
    gateway = holder_of(home.gateway_lock)
    service = registered_service(home)
    unit = service.described if service is not None else None
    if gateway is None:
        return GatewayState(running=False, supervisor=supervisor.pid if supervisor else None, service=unit)
    note = _note_of(home, gateway)
    return GatewayState(
        running=True,
        ready=bool(ask and note["local_url"] and _is_ready(note["local_url"])),
        pid=gateway.pid,
        supervisor=supervisor.pid if supervisor else None,
        url=note["url"],
        local_url=note["local_url"],
        listens_on=note["listens_on"],
        version=note["version"],
        service=unit,
        under_service=note["service"],
    )


def _note_of(home: Home, gateway: FileLockHolder) -> dict[str, Any]:
    """Return what *gateway* wrote into its lock file; the values of a starting gateway if that is invalid."""
    try:
        return checked_record(home.gateway_lock, gateway.facts, NOTE)
    except RecordError:
        return checked_record(home.gateway_lock, {}, NOTE)


def _is_ready(url: str) -> bool:
    from mosaic_gateway.gateway.local_client import NoAnswerError, ask

    try:
        return ask(url, "/readyz")[0] == HTTPStatus.OK
    except NoAnswerError:
        return False
