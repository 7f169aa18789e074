"""Installs on a PostgreSQL server by URL: supported and unsupported servers, and conflicting schemas."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
import pytest
from tests.support.postgres_server import PostgresServer, RunServer
from tests.support.site import Site
from tests.support.traps.kill_points import trap_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


def _url(server: PostgresServer, database: str, user: str = "tester") -> str:
    return f"postgresql://{user}@/{database}?host={quote(str(server.directory))}&port={server.port}"


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    """Return the URL of a new database."""
    return _url(postgres_server, postgres_server.create_database(prefix="install"))


def _assert_nothing_created(site: Site) -> None:
    assert not list(site.path.parent.iterdir())
    site.assert_nothing_runs()


def test_an_install_on_a_server_creates_no_cluster(site: Site, url: str, tmp_path: Path) -> None:
    """The URL from a file is in the settings and in no output; an uninstall does not change the server's data."""
    file = tmp_path / "url"
    file.write_text(f"{url}\n")
    done = site.install("--database-url-file", str(file))
    assert done.result["engine"] == "server"
    assert not {"runtime", "cluster"} & set(done.steps)
    assert url not in done.out + done.err
    assert not site.home.data.exists()
    assert site.install().steps == []
    assert site.json("doctor").code == 0
    site.json("uninstall", f"--purge={site.receipt()['instance_id']}")
    _assert_nothing_created(site)
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM drizzle.__drizzle_migrations").fetchone()
    assert row is not None
    assert row[0] > 0


def test_the_url_may_come_from_the_environment(site: Site, url: str) -> None:
    """With DATABASE_URL a new home gets the engine ``server``."""
    done = site.install("--no-start", DATABASE_URL=url)
    assert done.result["engine"] == "server"
    assert done.steps[-1] == "schema"


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _answer_all(listener: socket.socket, version: str) -> None:
    """Accept all connections, report *version*, and answer each query with an empty result.

    Messages as in PostgreSQL's documentation, "Frontend/Backend Protocol", "Message Formats".
    """
    hello = _message(b"R", struct.pack("!i", 0))
    for name, value in (("server_version", version), ("client_encoding", "UTF8"), ("TimeZone", "UTC")):
        hello += _message(b"S", f"{name}\0{value}\0".encode())
    hello += _message(b"K", struct.pack("!ii", 1, 2))
    with suppress(OSError):  # the test closes the listener
        while True:
            client = listener.accept()[0]
            with client, suppress(ConnectionResetError):
                client.recv(4096)
                client.sendall(hello + _message(b"Z", b"I"))
                while client.recv(4096)[:1] == b"Q":
                    client.sendall(_message(b"C", b"SELECT 0\0") + _message(b"Z", b"I"))


@contextmanager
def _fake_server(version: str) -> Iterator[str]:
    """Run a server with the part of PostgreSQL's protocol that reports *version*; yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer_all, args=(listener, version))
        thread.start()
        yield f"postgresql://x@127.0.0.1:{listener.getsockname()[1]}/x?sslmode=disable&gssencmode=disable"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        assert not thread.is_alive()


def test_an_unreachable_server_is_named(site: Site) -> None:
    """Host and port are in the error, the password is not."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        done = site.install("--database-url", f"postgresql://u:hunter22@127.0.0.1:{port}/x")
    assert (done.code, done.error["code"]) == (3, "SERVER_UNREACHABLE")
    assert f"127.0.0.1:{port}" in done.error["message"]
    assert "hunter22" not in done.out + done.err
    _assert_nothing_created(site)


def test_a_database_that_does_not_exist_is_a_login_error(site: Site, postgres_server: PostgresServer) -> None:
    """If the server refuses the connection, the code is not that of an unreachable server."""
    done = site.install("--database-url", _url(postgres_server, "no_such_database"))
    assert (done.code, done.error["code"]) == (3, "SERVER_LOGIN")
    _assert_nothing_created(site)


def test_a_role_that_may_not_create_pgvector_is_refused(site: Site, postgres_server: PostgresServer) -> None:
    """Without the privilege, the error names the role, and nothing is created."""
    database = postgres_server.create_database(prefix="install")
    with postgres_server.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS unprivileged")
        connection.execute("CREATE ROLE unprivileged LOGIN")
    done = site.install("--database-url", _url(postgres_server, database, "unprivileged"))
    assert (done.code, done.error["code"]) == (3, "EXTENSION_RIGHTS")
    assert "unprivileged" in done.error["message"]
    _assert_nothing_created(site)


@pytest.mark.slow
def test_a_server_without_pgvector_is_refused(
    site: Site, run_server: RunServer, postgres_bin: Path, tmp_path: Path, open_directory: Path
) -> None:
    """A server on which the extension is not available is refused."""
    package = postgres_bin.parent.parent
    unwanted = shutil.ignore_patterns("include", "doc", "pgxs", "*.a", "vector*")
    bare = open_directory / package.name / "pginstall"
    shutil.copytree(postgres_bin.parent, bare, ignore=unwanted)
    shutil.copytree(package.with_name(f"{package.name}.libs"), open_directory / f"{package.name}.libs")
    bare.parent.chmod(0o755)
    with run_server("no-vector", bindir=bare / "bin") as server:
        done = site.install("--database-url", _url(server, "postgres"))
    assert (done.code, done.error["code"]) == (3, "VECTOR_MISSING")
    _assert_nothing_created(site)


def test_a_server_that_is_too_old_is_refused(site: Site) -> None:
    """The error names the version 14, and nothing is created."""
    with _fake_server("14.9") as url:
        done = site.install("--database-url", url)
    assert (done.code, done.error["code"]) == (3, "SERVER_TOO_OLD")
    assert "14.9" in done.error["message"]
    _assert_nothing_created(site)


@pytest.mark.slow
def test_a_failing_migration_is_named_and_the_next_install_continues(site: Site, url: str) -> None:
    """A conflicting table fails the install with tag and statement; after it is dropped the install succeeds."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE insights (mine text)")
        failed = site.install("--database-url", url)
        assert failed.code == 4, failed.out
        assert "0001_insights" in failed.error["message"]
        assert "statement" in failed.error["message"]
        assert "42P07" in failed.error["message"]
        _assert_nothing_created(site)
        connection.execute("DROP TABLE insights")
    assert site.installed("--database-url", url)["smoke_test"]["needsSetup"] is True


EDITED = "UPDATE drizzle.__drizzle_migrations SET hash = md5(hash) WHERE id = 3"
NEWER = "INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES (md5('later'), 99999999999999)"


@pytest.mark.parametrize(
    ("change", "code"), [pytest.param(EDITED, "MIGRATION_DRIFT", marks=pytest.mark.slow), (NEWER, "DATABASE_NEWER")]
)
@pytest.mark.parametrize("start", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["start", "no-start"])
def test_a_foreign_schema_is_refused(site: Site, url: str, change: str, code: str, start: bool) -> None:
    """An edited or an unknown migration in the ledger: exit code 7, and the ledger is unchanged."""
    site.installed("--no-start", "--database-url", url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(change.encode())
        before = connection.execute("SELECT * FROM drizzle.__drizzle_migrations ORDER BY id").fetchall()
        site.json("uninstall", f"--purge={site.receipt()['instance_id']}")
        done = site.install("--database-url", url, *([] if start else ["--no-start"]))
        assert (done.code, done.error["code"]) == (7, code), done.out
        assert done.error["hint"]
        assert connection.execute("SELECT * FROM drizzle.__drizzle_migrations ORDER BY id").fetchall() == before
    _assert_nothing_created(site)


@pytest.mark.slow
def test_a_backup_of_a_server_is_a_dump_that_is_restored_and_compared(site: Site, url: str, scratch: Path) -> None:
    """Rows are counted in the dump's snapshot; the dump is verified in a temporary PostgreSQL."""
    site.installed(DATABASE_URL=url)
    with psycopg.connect(url) as connection:
        connection.execute(
            "CREATE TABLE t_rows AS SELECT i, i::text AS t, ARRAY[i]::vector AS v FROM generate_series(1, 500) i"
        )
    created = site.json("backup", "create", "--to", str(scratch / "x")).result
    assert (created["kind"], created["engine"]) == ("dump", "server")
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM t_rows WHERE i = 7")
    good = site.json("backup", "verify", created["path"])
    assert good.result["verification"]["tables"] > 10
    manifest = scratch / "x" / created["name"] / "manifest.json"
    text = manifest.read_text()
    assert "t_rows" in text
    value = json.loads(text)
    next(rows for rows in value["tables"] if "t_rows" in rows[0])[1] = 499
    manifest.write_text(json.dumps(value))
    assert "500 rows, not 499" in site.json("backup", "verify", created["path"]).error["message"]
    assert {path.name for path in (scratch / "x" / created["name"]).iterdir()} == {
        "config.toml", "data", "manifest.json", "receipt.json", "secrets",
    }  # fmt: skip
    assert not list(site.path.glob("backups/*"))


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_a_dump_is_only_restored_into_an_empty_database(
    site: Site, url: str, postgres_server: PostgresServer, scratch: Path, *, killed: bool
) -> None:
    """It is restored into the database in DATABASE_URL, with secrets and settings, also after a kill."""
    site.installed(DATABASE_URL=url)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE t_rows AS SELECT i FROM generate_series(1, 50) i")
    created = site.json("backup", "create", "--to", str(scratch / "x")).result
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO t_rows VALUES (51)")
    refused = site.json("backup", "restore", created["path"])
    assert (refused.code, refused.error["code"]) == (7, "DATABASE_NOT_EMPTY")
    assert "51 rows, not 50" in refused.error["message"]
    assert site.request("GET", "/readyz")[0] == 200

    other = _url(postgres_server, postgres_server.create_database(prefix="install"))
    if killed:
        trap = trap_at("gateway launched")
        assert site.json("backup", "restore", created["path"], DATABASE_URL=other, trap=trap).code == -9
    done = site.json("backup", "restore", created["path"], DATABASE_URL=other)
    assert done.result["smoke_test"] is not None
    with psycopg.connect(other) as connection:
        assert connection.execute("SELECT count(*) FROM t_rows").fetchone() == (50,)
    assert other in site.home.config_file.read_text()
    assert site.install().steps == []
