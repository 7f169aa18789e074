"""The guarded protocol leans on parts of uvicorn that are not public: each is named here."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from mosaic_gateway.gateway.run.http_limits import HttpLimits, limits_for

METHODS = (
    "connection_made", "connection_lost", "data_received", "on_message_begin", "on_headers_complete", "on_body",
    "on_message_complete", "on_response_complete", "pause_writing", "resume_writing", "send_400_response",
    "_unset_keepalive_if_required",
)  # fmt: skip
ATTRIBUTES = ("app", "connections", "cycle", "flow", "loop", "parser", "pipeline", "server_state", "transport")
OF_REQUEST = (
    "disconnected",
    "keep_alive",
    "message_event",
    "response_complete",
    "response_started",
    "waiting_for_100_continue",
)


async def _app(_scope: Any, _receive: Any, _send: Any) -> None:
    """Do nothing."""


def test_uvicorn_has_the_names() -> None:
    """uvicorn's HTTP protocol has the methods and the attributes on which the guard is built."""

    async def attributes() -> tuple[set[str], set[str], set[str]]:
        transport = asyncio.Transport()
        protocol = HttpToolsProtocol(uvicorn.Config(_app), ServerState(), {}, asyncio.get_running_loop())
        flow = FlowControl(transport)
        scope: Any = {}
        request = RequestResponseCycle(
            scope=scope, transport=transport, flow=flow, logger=protocol.logger, access_logger=protocol.access_logger,
            access_log=False, default_headers=[], message_event=asyncio.Event(), expect_100_continue=False,
            keep_alive=True, on_response=lambda: None,
        )  # fmt: skip
        return set(dir(protocol)), set(dir(flow)), set(dir(request))

    protocol, flow, request = asyncio.run(attributes())
    assert {*METHODS, *ATTRIBUTES} - protocol == set()
    assert {"read_paused", "pause_reading"} - flow == set()
    assert set(OF_REQUEST) - request == set()
    assert {"connections", "default_headers"} - set(vars(ServerState())) == set()
    assert STATUS_LINE[431].startswith(b"HTTP/1.1 431 ")


def test_connections_leave_descriptors() -> None:
    """Some descriptors are withheld from connections, half of them if there are few."""
    assert [limits_for(descriptors).connections for descriptors in (64, 256, 1024, 10_240, 2**30)] == [
        32, 128, 896, 4096, 4096,
    ]  # fmt: skip
    assert limits_for(1024) == HttpLimits(connections=896)
