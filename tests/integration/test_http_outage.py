from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.support.http_gateway import Answer, Gateway
from tests.support.postgres_server import PostgresServer, RunServer

from mosaic_gateway.auth import accounts
from mosaic_gateway.migrations import Bundle, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

STATUS = "/api/bootstrap/status"
NUMBERS = itertools.count(1)
PERSON = {"name": "Ada", "email": "ada@example.com", "password": "long enough"}


@pytest.fixture
def server(run_server: RunServer) -> Iterator[PostgresServer]:
    """A separate server with both schemas, which the test may kill."""
    with run_server(f"outage-{next(NUMBERS)}") as server:
        with server.connect() as connection:
            for bundle in ("gateway", "storage"):
                migrate(Bundle.load(bundle), connection)
        yield server


def restart(server: PostgresServer) -> subprocess.Popen[bytes]:
    """Restart the killed *server*."""
    return subprocess.Popen(
        server.process.args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        cwd=server.directory,
    )  # fmt: skip


def wait_for_backends(pids: list[int]) -> None:
    """Wait until the backends of a killed postmaster have exited, so that a new one can use the data directory."""
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:  # noqa: PTH110 - a string suffices
        time.sleep(0.01)


def timed(call: Callable[[], Answer]) -> tuple[Answer, float]:
    """Return the response and its duration in seconds."""
    started = time.monotonic()
    return call(), time.monotonic() - started


def wait_for_server(server: PostgresServer) -> None:
    """Wait until *server* accepts connections."""
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
def test_killed_server_gives_503_until_it_is_restarted(
    server: PostgresServer,
    http_run: Callable[..., AbstractContextManager[Gateway]],
    outage: float,
) -> None:
    """While PostgreSQL is down requests fail fast with 503; after its restart they succeed within 2 s."""
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
            restarted = time.monotonic()
            while gateway.get(STATUS).status != 200:
                assert time.monotonic() < restarted + 2
            assert gateway.get("/readyz").status == 200
            assert gateway.post("/api/bootstrap/setup", PERSON, x_setup_token=token).status == 201
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait(10)


def test_server_killed_during_a_sign_in(
    server: PostgresServer, http_run: Callable[..., AbstractContextManager[Gateway]]
) -> None:
    """A sign-in whose database is killed while its password is hashed gets 503, as those after it, and no session."""
    with http_run(server.conninfo()) as gateway, ThreadPoolExecutor(1) as threads:
        accounts.create_user(server.conninfo(), **PERSON)
        body = {"email": PERSON["email"], "password": PERSON["password"]}
        answer = threads.submit(gateway.post, "/api/auth/sign-in/email", body)
        with server.connect() as connection:
            while connection.execute("SELECT FROM rate_limits").rowcount == 0:
                time.sleep(0.001)
            pids = [row[0] for row in connection.execute("SELECT pid FROM pg_stat_activity").fetchall()]
            for pid in (server.process.pid, *pids):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        server.process.wait(10)
        for got in (answer.result(), gateway.post("/api/auth/sign-in/email", body)):
            assert (got.status, got.json["code"], got.cookies) == (503, "DATABASE_UNAVAILABLE", ())
            assert got.headers["retry-after"] == "1"
        wait_for_backends(pids)
        process = restart(server)
        try:
            wait_for_server(server)
            assert gateway.sql("SELECT count(*) FROM sessions") == [(0,)]
            deadline = time.monotonic() + 10
            while (got := gateway.elsewhere().post("/api/auth/sign-in/email", body)).status == 503:
                assert time.monotonic() < deadline
            assert got.status == 200
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait(10)


@pytest.mark.slow
def test_blocked_statement_is_cancelled(postgres_server: PostgresServer, http_gateway: Gateway) -> None:
    """A locked table gives 503 after five seconds; once it is unlocked, requests succeed."""
    dbname = psycopg.conninfo.conninfo_to_dict(http_gateway.conninfo)["dbname"]
    with postgres_server.connect(str(dbname)) as connection, connection.transaction():
        connection.execute("LOCK TABLE users")
        answer, seconds = timed(partial(http_gateway.get, STATUS))
        assert (answer.status, answer.json["code"]) == (503, "DATABASE_UNAVAILABLE")
        assert 4 < seconds < 8
    assert http_gateway.get(STATUS).status == 200


def test_terminated_connections_cause_no_error(postgres_server: PostgresServer, http_gateway: Gateway) -> None:
    """Neither reads nor writes fail after the server has terminated the pool's connections."""

    def terminate_connections() -> None:
        with postgres_server.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'mosaic-gateway' AND datname = %s",
                (psycopg.conninfo.conninfo_to_dict(http_gateway.conninfo)["dbname"],),
            )

    assert http_gateway.get(STATUS).status == 200
    terminate_connections()
    assert http_gateway.get(STATUS).status == 200
    token = http_gateway.token()
    terminate_connections()
    assert http_gateway.post("/api/bootstrap/setup", PERSON, x_setup_token=token).status == 201
    terminate_connections()
    answer = http_gateway.post("/api/auth/sign-in/email", {"email": PERSON["email"], "password": PERSON["password"]})
    assert answer.status == 200
    terminate_connections()
    headers = {"cookie": answer.cookie, "origin": f"http://127.0.0.1:{http_gateway.port}"}
    assert http_gateway.request("POST", "/api/auth/sign-out", headers=headers).status == 200
