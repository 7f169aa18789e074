"""Sends one message and reads its answers as they come, without giving up Ctrl-C.

libpq's asynchronous calls (PostgreSQL 18, "Asynchronous Command Processing"): psycopg's own ``execute``
raises at the first error and drops what came before it, and what came before is what a runner must know.
"""

from __future__ import annotations

import select
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import pq
from psycopg.pq import DiagnosticField, ExecStatus

__all__ = ["ServerError", "ServerReply", "send"]

WAIT = 0.2  # seconds between two looks for a signal
CANCEL_LIMIT = 10.0  # seconds
STEP_COLUMN = b"mosaic_step"
IN_COPY = (ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerError:
    """What PostgreSQL said of a failure. ``position`` counts characters of the message from 1, if given."""

    sqlstate: str
    message: str
    detail: str
    hint: str
    context: str
    position: int | None


@dataclass(frozen=True, slots=True)
class ServerReply:
    """What became of a message: when each compare-and-set ran (server's clock, seconds), and the failure.

    ``commits`` statements took effect. A failure belongs to the statement after them: to its own text where
    there is a step more than commits, else to its compare-and-set, or to the message as a whole. ``since_step``
    counts the commands that went well after the last step.
    """

    steps: tuple[float, ...]
    commits: int
    since_step: int
    error: ServerError | None


def send(connection: psycopg.Connection[tuple[object, ...]], text: str) -> ServerReply:
    """Send *text* as one simple-protocol message and return what became of it.

    Raises psycopg.OperationalError when the connection is lost.
    """
    pgconn = connection.pgconn
    pgconn.send_query(text.encode())
    try:
        answer = _read(pgconn)
    except KeyboardInterrupt:
        connection.cancel_safe(timeout=CANCEL_LIMIT)
        with suppress(psycopg.Error):
            _read(pgconn)
        raise
    if pgconn.status == pq.ConnStatus.BAD:
        raise psycopg.OperationalError(pgconn.get_error_message() or "the connection was lost")
    return answer


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
    """A migration has no client-side data: end the copy, so that the statement fails."""
    if status == ExecStatus.COPY_IN:
        pgconn.put_copy_end(b"a migration file holds no data for COPY FROM STDIN")
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
