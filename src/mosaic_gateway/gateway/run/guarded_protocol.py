"""uvicorn's HTTP/1.1 connection, limited while bytes arrive and leave.

Theory of operation. A connection reads NOTHING (between requests), a HEAD (request line and headers) or a BODY, as the
parser's callbacks report; after a refusal it is REFUSED, and further bytes are discarded.

- Size: the parser joins the pieces of a header at quadratic cost, therefore bytes are counted before it sees them. It
  is fed at most what remains of ``head_bytes``; ``_pending`` counts what it took since its last callback that shows
  progress. Too much is answered 431. Trailers and chunk extensions count alike. A head that begins within a block,
  after another request's end, counts from the next block on: it is refused at twice the limit at the latest.
- Time: one timer, which is only moved when its deadline comes earlier; otherwise it finds out on expiry that there is
  more time. A head has ``head_seconds``. A body must progress, and reach the minimum rate. Late ones are answered 408;
  a connection that sent nothing is closed. Time in which uvicorn has paused reading, or the client waits for
  "100 Continue", is not the client's and does not count. The application's own time is not limited here.
- Answers: the transport reports each write that the socket does not take at once (high-water mark 0), and when all
  is written. An answer that is not taken in time ends the connection.
- Number: beyond ``connections`` the longest idle connections are closed, as nginx does. If none is idle, a few spare
  ones are accepted, which only serve health checks; all others are answered 503.
- Refusals: an error of a request is sent at once, unless an earlier request on the connection is still being answered:
  then the connection is closed after that answer. After an error the output is closed, and input is discarded for a
  moment: closing at once would reset the connection before the client has read the response.
- Upgrade: behind a request that asks for another protocol the parser reads no body, and would read that one as the next
  request. Behind a proxy it would come from a client, with headers that only the proxy may send. So it is refused if
  it has a body, and else answered as the last one of its connection.

Of uvicorn this uses names that are not public; tests/unit/gateway/test_guarded_protocol.py lists them.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import socket
import struct
from contextlib import suppress
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, ClassVar

import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from mosaic_gateway.gateway.messages import json_response
from mosaic_gateway.gateway.run.http_limits import ACCEPTED_AT_ONCE, HttpLimits

__all__ = ["GuardedProtocol", "http_settings"]

LOG = logging.getLogger(__name__)
GRACE = 5  # seconds for open requests to finish at shutdown
HEALTH = ("/healthz", "/readyz")
BODY_HEADERS = frozenset((b"content-length", b"transfer-encoding"))
RESET = struct.pack("ii", 1, 0)  # socket(7): a close discards what the kernel has not sent
CLOSE = {"connection": "close"}


class _Reading(Enum):
    NOTHING = auto()
    HEAD = auto()
    BODY = auto()
    REFUSED = auto()


NOTHING, HEAD, BODY, REFUSED = _Reading


class PipelineError(Exception):
    """A client sent more requests than may wait on one connection; the parser reports it as an invalid request."""


class UpgradeError(Exception):
    """A request with a body asks for another protocol; the parser reports it as an invalid request."""


def _refusal(status: HTTPStatus, message: str, **headers: str) -> Response:
    return json_response({"message": message, "code": status.name}, status=status, headers={**CLOSE, **headers})


INVALID = _refusal(HTTPStatus.BAD_REQUEST, "Invalid HTTP request")
LATE = _refusal(HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive in time")
LONG_HEAD = _refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "Request line and headers are too large")
FULL = _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections", **{"retry-after": "10"})


class GuardedProtocol(HttpToolsProtocol):
    """One connection, within `LIMITS`."""

    LIMITS: ClassVar[HttpLimits] = HttpLimits()
    # Not in the instance's dict: beyond 30 attributes CPython accesses all of them, uvicorn's too, more slowly.
    __slots__ = (
        "_arrived", "_discard_until", "_pending", "_reading", "_received", "_since", "_spare", "_steps", "_timer",
        "_unsent_until", "_used",
    )  # fmt: skip

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._reading = NOTHING
        self._steps = 0  # callbacks of the parser that show progress
        self._pending = 0  # bytes that the parser took since the last of them
        self._received = 0  # bytes of the present body, or after a refusal
        self._since = self._arrived = self.loop.time()  # begin of the present state; last arrival
        self._unsent_until: float | None = None  # deadline of an answer that the socket does not take
        self._discard_until: float | None = None
        self._spare = False
        self._used = False  # a head has arrived
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or refuse it if there are too many."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)
        if len(self.connections) > self.LIMITS.connections:
            self._close_idle()
        excess = len(self.connections) - self.LIMITS.connections
        if excess > 0:
            LOG.warning("Connection limit reached: %d are open", self.LIMITS.connections)
            self._spare = True
            self.app = _health_only(self.app)
        if excess > self.LIMITS.spare:
            self._reading = REFUSED
            self._send_refusal(FULL)
            transport.close()
        else:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the timer."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass *data* to the parser, in blocks that cannot exceed the limit of a head."""
        self._arrived = self.loop.time()
        if self._reading is REFUSED:
            self._received += len(data)
            if self._received > self.LIMITS.linger_bytes:
                self.transport.close()
            return
        if len(data) <= self.LIMITS.head_bytes - self._pending:  # nearly always
            self._feed(data)
            return
        start = 0
        while start < len(data) and self._reading is not REFUSED and not self.transport.is_closing():
            end = start + self.LIMITS.head_bytes - self._pending
            self._feed(data[start:end])
            start = end

    def _feed(self, block: bytes) -> None:
        unchanged = self._steps + (self._reading is NOTHING)  # a head that begins with the block
        super().data_received(block)
        if self._reading is NOTHING or self._reading is REFUSED:
            return
        self._pending = self._pending + len(block) if self._steps == unchanged else 0
        if self._pending >= self.LIMITS.head_bytes:
            self._refuse(LONG_HEAD)
        else:
            self._arm()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._steps += 1
        self._reading = HEAD
        self._since = self._arrived
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A body, perhaps empty, begins. Raises `PipelineError` and `UpgradeError`."""
        upgrade = self.parser.should_upgrade()
        if upgrade and not BODY_HEADERS.isdisjoint(name for name, _ in self.headers):
            raise UpgradeError
        super().on_headers_complete()
        if upgrade:
            self.cycle.keep_alive = False
        self._steps += 1
        self._reading = BODY
        self._since = self._arrived
        self._received = 0
        self._used = True
        if len(self.pipeline) > self.LIMITS.pipelined:
            raise PipelineError

    def on_body(self, body: bytes) -> None:
        """Count the bytes of a body."""
        self._steps += 1
        self._received += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._steps += 1
        self._pending = 0
        self._reading = NOTHING
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Begin the idle time, or close the connection if this was its last answer."""
        last = self._spare or self._reading is REFUSED
        if last:
            self.pipeline.clear()
        super().on_response_complete()
        self._unset_keepalive_if_required()  # uvicorn's timer begins before the answer was taken, and outlives a reset
        if last:
            self.transport.close()
        elif self._reading is NOTHING:
            self._since = self.loop.time()

    def pause_writing(self) -> None:
        """Begin the time in which the client must take the answer."""
        super().pause_writing()
        size = self.transport.get_write_buffer_size()
        self._unsent_until = self.loop.time() + self.LIMITS.answer_seconds + size / self.LIMITS.rate
        self._arm()

    def resume_writing(self) -> None:
        """All that was written has been taken."""
        super().resume_writing()
        self._unsent_until = None
        if self._reading is NOTHING:
            self._since = self.loop.time()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's text is replaced
        """Refuse a request that the parser cannot read."""
        self._refuse(INVALID)

    def _refuse(self, refusal: Response) -> None:
        """Send *refusal* for the request that is being read, then close; an earlier request is answered first."""
        request, began = self._unanswered(), self._reading is BODY and not self.pipeline
        self._reading = REFUSED
        if request is not None and not began:  # an earlier request
            self.pipeline.clear()
            self.flow.pause_reading()
            return
        if began and (request is None or request.response_started):
            self.transport.close() if request is None else self.transport.abort()
            return
        if request is not None:
            request.disconnected = True
            request.message_event.set()
        self._send_refusal(refusal)
        with suppress(OSError):  # the client has gone
            self.transport.write_eof()
        self._received = 0
        self._discard_until = self.loop.time() + self.LIMITS.linger_seconds
        self._arm()

    def _send_refusal(self, refusal: Response) -> None:
        headers = [*self.server_state.default_headers, *refusal.raw_headers]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[refusal.status_code] + lines + b"\r\n" + bytes(refusal.body))

    def _deadline(self, now: float) -> float | None:
        """Return when the present state ends; None if that does not depend on the client."""
        limits = self.LIMITS
        if self._unsent_until is not None:
            return self._unsent_until
        if self._reading is REFUSED:
            return self._discard_until
        request = self._unanswered()
        if self._reading is NOTHING:
            if request is not None:
                return None
            return self._since + (limits.idle_seconds if self._used else self._head_seconds())
        if self.flow.read_paused or (request is not None and request.waiting_for_100_continue):
            self._since = self._arrived = now
        if self._reading is HEAD:
            return self._since + self._head_seconds()
        return limits.body_seconds + min(self._arrived, self._since + self._received / limits.rate)

    def _head_seconds(self) -> float:
        return self.LIMITS.spare_seconds if self._spare else self.LIMITS.head_seconds

    def _arm(self) -> None:
        """Have `_check` run at the deadline, or earlier if a timer is set."""
        now = self.loop.time()
        deadline = self._deadline(now)
        if deadline is None:
            deadline = now + self.LIMITS.head_seconds
        if self._timer is None or deadline < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_at(deadline, self._check)

    def _check(self) -> None:
        self._timer = None
        now = self.loop.time()
        deadline = self._deadline(now)
        if deadline is not None and deadline <= now:
            self._expire()
        if not self.transport.is_closing() or self._unsent_until is not None:
            self._arm()

    def _expire(self) -> None:
        if self._unsent_until is not None:
            self._unsent_until = None
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.transport.abort()
        elif self._reading is HEAD or self._reading is BODY:
            self._refuse(LATE)
        else:
            self.transport.close()

    def _close_idle(self) -> None:
        """Close the longest idle of the other connections, some at once because each call inspects all of them."""
        others = (one for one in self.connections if isinstance(one, GuardedProtocol) and one is not self)
        idle = [one for one in others if one.is_idle()]
        for one in heapq.nsmallest(max(1, self.LIMITS.connections // 32), idle, key=lambda one: one._since):  # noqa: SLF001
            self.connections.discard(one)
            one.transport.close()

    def is_idle(self) -> bool:
        """Return whether no request is under way."""
        return self._reading is NOTHING and self._unanswered() is None and self._unsent_until is None

    def _unanswered(self) -> RequestResponseCycle | None:
        """Return the last request whose head has arrived, None if it was answered."""
        request: Any = self.cycle
        return None if request is None or request.response_complete else request


def http_settings(app: ASGIApp, limits: HttpLimits) -> uvicorn.Config:
    """Return uvicorn's settings for serving *app* within *limits*."""

    class LimitedProtocol(GuardedProtocol):
        __slots__ = ()
        LIMITS = limits

    return uvicorn.Config(
        app, http=LimitedProtocol, lifespan="on", ws="none", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, timeout_graceful_shutdown=GRACE, backlog=ACCEPTED_AT_ONCE,
    )  # fmt: skip


def _health_only(app: Any) -> Any:
    served: ASGIApp = app

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        await (served if scope["path"] in HEALTH else FULL)(scope, receive, send)

    return respond
