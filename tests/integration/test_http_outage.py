from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import psycopg
import pytest

from mosaic_gateway.migrations import Bundle, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from tests.conftest import PostgresServer, RunServer
    from tests.integration.conftest import Answer, Gateway

STATUS = "/api/bootstrap/status"
NUMBERS = itertools.count(1)
PERSON = {"name": "Ada", "email": "ada@example.com", "password": "long enough"}


@pytest.fixture
def server(run_server: RunServer) -> Iterator[PostgresServer]:
    """A server of its own, with both schemas, that may be killed."""
    with run_server(f"outage-{next(NUMBERS)}") as server:
        with server.connect() as connection:
            for bundle in ("gateway", "storage"):
                migrate(Bundle.load(bundle), connection)
        yield server


def restart(server: PostgresServer) -> subprocess.Popen[bytes]:
    """Start the killed *server* again, as a supervisor would."""
    return subprocess.Popen(
        server.process.args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        cwd=server.directory,
    )  # fmt: skip


def wait_for_backends(pids: list[int]) -> None:
    """Wait until the backends of a killed postmaster are gone, so that a new one can have the cluster."""
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:  # noqa: PTH110 - as /proc has it
        time.sleep(0.01)


def timed(call: Callable[[], Answer]) -> tuple[Answer, float]:
    """Return the answer and the seconds that it took."""
    began = time.monotonic()
    return call(), time.monotonic() - began


def wait_for_server(server: PostgresServer) -> None:
    """Wait until *server* lets somebody in."""
    deadline = time.monotonic() + 10
    while True:
        try:
            server.connect().close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return


@pytest.mark.parametrize("outage", [0.0, pytest.param(10.0, marks=pytest.mark.slow)])
def test_a_killed_server_gives_503_and_is_found_again(
    server: PostgresServer,
    http_run: Callable[..., AbstractContextManager[Gateway]],
    outage: float,
) -> None:
    """While PostgreSQL is dead requests get 503 quickly; soon after its return they work again, be it short or long."""
    with http_run(server.conninfo()) as gateway:
        token = gateway.token()
        assert gateway.get(STATUS).status == 200
        with server.connect() as connection:
            pids = [row[0] for row in connection.execute("SELECT pid FROM pg_stat_activity").fetchall()]
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(10)
        wait_for_backends(pids)

        for path in (STATUS, "/readyz"):
            answer, seconds = timed(partial(gateway.get, path))
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert seconds < 2
        assert gateway.get(STATUS).json["code"] == "DATABASE_UNAVAILABLE"
        answer = gateway.post("/api/bootstrap/setup", PERSON, x_setup_token=token)
        assert (answer.status, answer.json["code"]) == (503, "DATABASE_UNAVAILABLE")
        assert gateway.get("/healthz").status == 200
        assert gateway.get("/api/auth/get-session").body == b"null"

        until = time.monotonic() + outage
        while time.monotonic() < until:
            assert gateway.get(STATUS).status == 503
        process = restart(server)
        try:
            wait_for_server(server)
            back = time.monotonic()
            while gateway.get(STATUS).status != 200:
                assert time.monotonic() < back + 2
            assert gateway.get("/readyz").status == 200
            assert gateway.post("/api/bootstrap/setup", PERSON, x_setup_token=token).status == 201
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait(10)


@pytest.mark.slow
def test_a_statement_that_waits_too_long_is_given_up(postgres_server: PostgresServer, http_gateway: Gateway) -> None:
    """A locked table costs 503 after five seconds, and nothing once it is free again."""
    dbname = psycopg.conninfo.conninfo_to_dict(http_gateway.conninfo)["dbname"]
    with postgres_server.connect(str(dbname)) as connection, connection.transaction():
        connection.execute("LOCK TABLE users")
        answer, seconds = timed(partial(http_gateway.get, STATUS))
        assert (answer.status, answer.json["code"]) == (503, "DATABASE_UNAVAILABLE")
        assert 4 < seconds < 8
    assert http_gateway.get(STATUS).status == 200


def test_cut_connections_are_not_noticed(postgres_server: PostgresServer, http_gateway: Gateway) -> None:
    """After a restart in between, neither reads nor writes fail for a stale connection."""

    def cut() -> None:
        with postgres_server.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'mosaic-gateway' AND datname = %s",
                (psycopg.conninfo.conninfo_to_dict(http_gateway.conninfo)["dbname"],),
            )

    assert http_gateway.get(STATUS).status == 200
    cut()
    assert http_gateway.get(STATUS).status == 200
    token = http_gateway.token()
    cut()
    assert http_gateway.post("/api/bootstrap/setup", PERSON, x_setup_token=token).status == 201
    cut()
    answer = http_gateway.post("/api/auth/sign-in/email", {"email": PERSON["email"], "password": PERSON["password"]})
    assert answer.status == 200
    cut()
    assert http_gateway.request("POST", "/api/auth/sign-out", headers={"cookie": answer.cookie}).status == 200
