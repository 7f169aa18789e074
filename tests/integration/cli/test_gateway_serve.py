"""``serve`` in the foreground, and failed starts: the gateway's error is reported, and no process is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.support.cli_home import MakePlace, Place
from tests.support.postgres_server import PostgresServer

from mosaic_gateway.migrations import Bundle, migrate
from mosaic_gateway.migrations.advisory_lock import migration_lock
from mosaic_gateway.process.file_lock import holder_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE_ENVELOPE = "standard output is one envelope"


@contextmanager
def serving(place: Place, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Start ``serve`` and wait until it is ready."""
    with place.popen("serve", *words) as process:
        place.wait_until(lambda: process.poll() is not None or place.status_of("/readyz") == 200)
        yield process


@pytest.fixture(scope="module")
def migrated(postgres_server: PostgresServer) -> str:
    """The name of a template database with both schemas."""
    name = postgres_server.create_database(prefix="cli")
    with postgres_server.connect(name) as connection:
        for bundle in ("gateway", "storage"):
            migrate(Bundle.load(bundle), connection)
    return name


@pytest.fixture
def server_place(make_place: MakePlace, postgres_server: PostgresServer, migrated: str) -> Place:
    """A home with the engine ``server`` and a migrated database."""
    return make_place(postgres_server.conninfo(postgres_server.create_database(template=migrated, prefix="cli")))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_cleanly(stopped: Place, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end it with exit code 0 and a result on standard output; PostgreSQL is stopped."""
    with serving(stopped, "--json") as process:
        assert stopped.ask("status")["supervisor"] is None
        assert "in the foreground" in stopped.run("status").out
        assert stopped.ask("start")["already_running"] is True
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert json.loads(out)["result"] == {"stopped": True}, ONE_ENVELOPE
    assert "Listening on" in err
    assert "Traceback" not in err
    stopped.assert_nothing_runs()


def test_stop_ends_it(stopped: Place) -> None:
    """``stop`` ends a gateway in the foreground, too."""
    with serving(stopped) as process:
        assert stopped.ask("stop") == {"stopped": True, "pid": process.pid}
        assert process.wait(10) == 0
    stopped.assert_nothing_runs()


def test_second_gateway_on_the_same_home(stopped: Place) -> None:
    """A second gateway is refused with exit code 6 and names the first one, also with another port."""
    with serving(stopped) as process:
        for words in ((), ("--port", str(stopped.port + 1))):
            error = stopped.ask("serve", *words, code=6)
            assert error["code"] == "GATEWAY_RUNNING"
            assert f"process {process.pid}" in error["message"]
            assert error["details"] == {"pid": process.pid}
        assert stopped.status_of("/readyz") == 200


def test_flags_choose_the_address(server_place: Place) -> None:
    """--port overrides the configured port."""
    port = server_place.port + 1
    with server_place.popen("serve", "--port", str(port)) as process:
        on_port = type(server_place)(server_place.home, port)
        on_port.wait_until(lambda: process.poll() is not None or on_port.status_of("/readyz") == 200)
        assert on_port.status_of("/readyz") == 200
        assert server_place.status_of("/readyz") == 0
        assert server_place.ask("status")["local_url"] == f"http://127.0.0.1:{port}"


def test_port_in_use(server_place: Place) -> None:
    """A port in use is exit code 3 and names the process, for ``serve``, ``start`` and ``restart``."""
    with socket.create_server(("127.0.0.1", server_place.port)):
        for verb in ("serve", "start", "restart"):
            error = server_place.ask(verb, code=3)
            assert error["code"] == "PORT_TAKEN"
            assert f"process {os.getpid()}" in error["message"]
            assert error["details"]["port"] == server_place.port
            assert "--port" in error["hint"]
    server_place.assert_nothing_runs()
    assert holder_of(server_place.home.supervisor_lock) is None


@pytest.mark.slow
def test_bad_addresses(server_place: Place) -> None:
    """An address of another machine, or an invalid one, is exit code 3."""
    for host in ("192.0.2.1", "a..b"):
        assert server_place.ask("serve", "--host", host, code=3)["code"] == "ADDRESS_UNUSABLE"
    server_place.write(server_place.home.config_file, 'host = "192.0.2.1"\n')
    assert server_place.ask("start", code=3)["code"] == "ADDRESS_UNUSABLE"
    server_place.assert_nothing_runs()


def test_refuses_connections_until_migrated(make_place: MakePlace, database: str) -> None:
    """While the migrations wait for their lock, connections are refused."""
    place = make_place(database)
    with psycopg.connect(database, autocommit=True) as connection:
        with migration_lock(connection, timeout=5), place.popen("serve") as process:
            waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mosaic-gateway migrate'"
            place.wait_until(lambda: connection.execute(waits).fetchone() == (1,))
            for _ in range(20):
                assert process.poll() is None
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", place.port), timeout=5)
        assert place.ask("start")["already_running"] is False


def test_failing_migration(make_place: MakePlace, database: str) -> None:
    """A failing migration is exit code 4, the error names it, and the gateway does not listen."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE insights (id int)")
    place = make_place(database)
    error = place.ask("start", code=4)
    assert error["code"] == "STATEMENT_FAILED"
    assert "0001" in error["message"]
    assert error["details"]["sqlstate"] == "42P07"
    assert place.status_of("/readyz") == 0
    place.assert_nothing_runs()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP TABLE insights")
    assert place.ask("start")["already_running"] is False


def test_newer_database(server_place: Place) -> None:
    """A database that a later version migrated is refused with exit code 7."""
    conninfo = _conninfo(server_place)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES (repeat('f', 64), 9999999999999)"
        )
    for verb in (("start",), ("serve",), ("storage", "migrate"), ("storage", "status")):
        done = server_place.run(*verb, "--json")
        assert done.code == 7, done
        assert json.loads(done.out)["error"]["code"] == "DATABASE_NEWER"
    server_place.assert_nothing_runs()


@pytest.mark.slow
def test_unreachable_server(make_place: MakePlace) -> None:
    """An unreachable server is exit code 3, and its password appears nowhere."""
    place = make_place("postgresql://me:hidden-word@127.0.0.1:1/x")
    error = place.ask("start", code=3)
    assert error["code"] == "SERVER_UNREACHABLE"
    assert "hidden-word" not in json.dumps(error) + place.log()
    place.assert_nothing_runs()


@pytest.mark.slow
def test_missing_programs(make_place: MakePlace) -> None:
    """A home without PostgreSQL's programs is exit code 3 for every verb that needs the database."""
    place = make_place()
    for verb in (("start",), ("serve",), ("storage", "migrate"), ("bootstrap", "status")):
        assert place.ask(*verb, code=3)["code"] in {"RUNTIME_MISSING", "CLUSTER_MISSING"}
    place.assert_nothing_runs()


def test_lost_secret(server_place: Place) -> None:
    """Without the secret that signs cookies the gateway does not start, and the error names the file."""
    server_place.home.auth_secret.unlink()
    error = server_place.ask("start", code=3)
    assert str(server_place.home.auth_secret) in error["message"]
    server_place.assert_nothing_runs()


def test_crash_during_start(server_place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    """If the gateway is killed during its start, the error has the end of its log, even if that is written late."""
    server_place.write(server_place.home.gateway_log, "from the last time\n")
    traps = tmp_path_factory.mktemp("traps")
    (traps / "sitecustomize.py").write_text(
        "import os, select, sys, time\n"
        "supervisor = os.getpid()\n"
        "waiting = select.select\n"
        "def late(*arguments):\n"
        "    time.sleep(0.5 if os.getpid() == supervisor else 0)\n"
        "    return waiting(*arguments)\n"
        "def die(event, _arguments):\n"
        "    if event == 'import' and os.getpid() != supervisor:\n"
        "        os.write(2, b'last words\\n'); os.kill(os.getpid(), 9)\n"
        "if 'supervise' in sys.orig_argv: sys.addaudithook(die); select.select = late\n"
    )
    env = {"PYTHONPATH": os.pathsep.join([str(traps), *filter(None, [os.environ.get("PYTHONPATH")])])}
    error = server_place.ask("start", code=1, env=env)
    assert error["code"] == "GATEWAY_START"
    assert "last words" in error["message"]
    assert "from the last time" not in error["message"]
    server_place.assert_nothing_runs()


@pytest.mark.slow
def test_gateway_outlives_its_session(server_place: Place) -> None:
    """A gateway in the background outlives the session that started it."""
    code = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
    words = [sys.executable, "-c", code, *server_place.argv("start")]
    with subprocess.Popen(
        words, start_new_session=True, stdout=subprocess.PIPE, cwd="/", env=server_place.environ()
    ) as shell:
        shell.communicate(timeout=60)
    with pytest.raises(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGHUP)
    assert server_place.status_of("/readyz") == 200


@pytest.mark.slow
def test_base_url_decides_the_cookie(server_place: Place) -> None:
    """With an https base URL, the session cookie is Secure and has better-auth's prefix."""
    server_place.write(
        server_place.home.config_file,
        server_place.home.config_file.read_text() + 'base_url = "https://gateway.example.com/"\n',
    )
    assert server_place.ask("start")["url"] == "https://gateway.example.com"
    assert server_place.ask("status")["ready"] is True
    assert server_place.ask("bootstrap", "link")["url"].startswith("https://gateway.example.com/setup#token=")
    words = ("bootstrap", "setup", "--name", "Ada", "--email", "ada@example.com", "--password-stdin")
    server_place.ask(*words, stdin="correct horse\n")
    answer = server_place.request(
        "POST", "/api/auth/sign-in/email", {"email": "ada@example.com", "password": "correct horse"},
        headers={"origin": "https://gateway.example.com"},
    )  # fmt: skip
    assert answer.status == 200
    assert answer.headers["set-cookie"].startswith("__Secure-better-auth.session_token=")
    assert "Secure" in answer.headers["set-cookie"]


def _conninfo(place: Place) -> str:
    import tomllib  # noqa: PLC0415 - only here

    url: str = tomllib.loads(place.home.config_file.read_text())["database_url"]
    return url
