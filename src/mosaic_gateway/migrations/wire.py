"""Sends one simple-protocol message and reads its results as they arrive; Ctrl-C cancels it.

Uses libpq's asynchronous functions (PostgreSQL 18, "Asynchronous Command Processing"), because psycopg's ``execute``
raises at the first error and drops the results before it, which show what was committed.
"""

from __future__ import annotations

import select
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import pq
from psycopg.pq import DiagnosticField, ExecStatus

__all__ = ["ServerError", "ServerReply", "send"]

WAIT = 0.2  # seconds between two checks for a signal
CANCEL_LIMIT = 10.0  # seconds
STEP_COLUMN = b"mosaic_step"
IN_COPY = (ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerError:
    """Fields of PostgreSQL's error response. ``position`` counts characters of the message from 1, None if absent."""

    sqlstate: str
    message: str
    detail: str
    hint: str
    context: str
    position: int | None


@dataclass(frozen=True, slots=True)
class ServerReply:
    """The server's reply to a message: when each compare-and-set ran (server's clock, seconds), and the error.

    ``commits`` statements were committed. An error belongs to the statement after them: to its own text if there is
    one step more than commits, else to its compare-and-set or to the message as a whole. ``since_step`` counts the
    commands that succeeded after the last step.
    """

    steps: tuple[float, ...]
    commits: int
    since_step: int
    error: ServerError | None


def send(connection: psycopg.Connection[tuple[object, ...]], text: str) -> ServerReply:
    """Send *text* as one simple-protocol message and return the server's reply.

    Raises psycopg.OperationalError when the connection is lost.
    """
    pgconn = connection.pgconn
    pgconn.send_query(text.encode())
    try:
        reply = _read(pgconn)
    except KeyboardInterrupt:
        connection.cancel_safe(timeout=CANCEL_LIMIT)
        with suppress(psycopg.Error):
            _read(pgconn)
        raise
    if pgconn.status == pq.ConnStatus.BAD:
        raise psycopg.OperationalError(pgconn.get_error_message() or "the connection was lost")
    return reply


def _read(pgconn: pq.abc.PGconn) -> ServerReply:
    _flush(pgconn)
    steps: list[float] = []
    commits = since_step = 0
    error: ServerError | None = None
    while (result := _next_result(pgconn)) is not None:
        if result.status == ExecStatus.FATAL_ERROR:
            error = error or _error(result)
        elif result.status in IN_COPY:
            _refuse_copy(pgconn, ExecStatus(result.status))
        elif result.status == ExecStatus.TUPLES_OK and result.nfields and result.fname(0) == STEP_COLUMN:
            steps.append(float(result.get_value(0, 0) or b"0"))
            since_step = 0
        else:
            since_step += 1
            commits += result.command_status == b"COMMIT"
    return ServerReply(tuple(steps), commits, since_step, error)


def _flush(pgconn: pq.abc.PGconn) -> None:
    while pgconn.flush():
        readable, _, _ = select.select([pgconn.socket], [pgconn.socket], [], WAIT)
        if readable:
            pgconn.consume_input()


def _next_result(pgconn: pq.abc.PGconn) -> pq.abc.PGresult | None:
    while pgconn.is_busy():
        readable, _, _ = select.select([pgconn.socket], [], [], WAIT)
        if readable:
            pgconn.consume_input()
    return pgconn.get_result()


def _refuse_copy(pgconn: pq.abc.PGconn, status: ExecStatus) -> None:
    """End the COPY so that the statement fails: a migration has no client-side data."""
    if status == ExecStatus.COPY_IN:
        pgconn.put_copy_end(b"a migration file contains no data for COPY FROM STDIN")
        _flush(pgconn)
        return
    while pgconn.get_copy_data(0)[0] > 0:
        pass


def _error(result: pq.abc.PGresult) -> ServerError:
    def field(number: DiagnosticField) -> str:
        return (result.error_field(number) or b"").decode(errors="replace")

    position = field(DiagnosticField.STATEMENT_POSITION)
    return ServerError(
        sqlstate=field(DiagnosticField.SQLSTATE) or "?????",
        message=field(DiagnosticField.MESSAGE_PRIMARY) or result.get_error_message(),
        detail=field(DiagnosticField.MESSAGE_DETAIL),
        hint=field(DiagnosticField.MESSAGE_HINT),
        context=field(DiagnosticField.CONTEXT),
        position=int(position) if position else None,
    )
