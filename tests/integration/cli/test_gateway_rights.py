"""The serving process has no root privileges, and reads no modules after start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.support.cli_home import MakePlace, Place

from mosaic_gateway.engines.postgres.engine_lock import running_conninfo

if TYPE_CHECKING:
    from collections.abc import Iterator

#: ``serve`` that reports each import of a module file on standard error, with the modules preloaded that are preloaded
#: when root starts it.
WATCHED = """
import os, sys
from mosaic_gateway.gateway.run.server import preload
from mosaic_gateway_installer.cli import VERBS
from mosaic_gateway.cli.root import run

preload()

def report(event, arguments):
    if event == "import":
        os.write(2, f"IMPORT {arguments[0]}\\n".encode())

sys.addaudithook(report)
import colorsys
sys.exit(run(VERBS, sys.argv[1:]))
"""
STATUS = "/api/bootstrap/status"


@pytest.fixture
def watched(stopped: Place) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The gateway that reports imports, ready, and the lines that it writes to standard error."""
    lines: list[str] = []
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", WATCHED, "serve", "--home", str(stopped.home.path)], cwd="/", text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=stopped.environ(),
    )  # fmt: skip
    assert process.stderr is not None
    stream = process.stderr

    def read() -> None:
        lines.extend(stream)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        stopped.wait_until(lambda: process.poll() is not None or stopped.status_of("/readyz") == 200)
        assert process.poll() is None, lines
        yield process, lines
    finally:
        process.kill()
        process.wait()
        reader.join()
        stream.close()


def test_no_import_while_it_serves(
    stopped: Place, watched: tuple[subprocess.Popen[str], list[str]], admin: dict[str, str]
) -> None:
    """Nothing is imported by any endpoint, an internal error, a restart of the database, or the shutdown."""
    process, lines = watched
    link = stopped.run("bootstrap", "link").out  # empty if another test has created the admin
    token = link.partition("#token=")[2].partition("\n")[0]
    use_endpoints(stopped, token, admin, "127.0.0.3")
    conninfo = running_conninfo(stopped.home)
    assert conninfo is not None
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("ALTER TABLE users RENAME TO users_")
        assert stopped.request("POST", "/api/auth/sign-in/email", admin).status == 500
        connection.execute("ALTER TABLE users_ RENAME TO users")
    postmaster = stopped.postmaster()
    os.kill(postmaster, signal.SIGKILL)
    stopped.wait_until(lambda: stopped.status_of("/readyz") == 200 and stopped.postmaster() != postmaster)
    use_endpoints(stopped, token, admin, "127.0.0.2")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    stopped.wait_until(lambda: any("Stopped by a signal" in line for line in lines))
    ready = next(number for number, line in enumerate(lines) if "Listening on" in line)
    assert "IMPORT colorsys\n" in lines[:ready], "imports are reported"
    assert [line for line in lines[ready:] if line.startswith("IMPORT")] == []
    assert any("Traceback" in line for line in lines[ready:]), "the internal error was logged with its traceback"


def use_endpoints(place: Place, token: str, admin: dict[str, str], address: str) -> None:
    """Send valid and invalid requests to every endpoint; *address* is that of the client that signs in."""
    for path in ("/", "/setup", "/healthz", "/readyz", STATUS, "/none", "/api/auth/none"):
        place.request("GET", path)
    place.request("DELETE", "/readyz")
    for body in ({}, admin, {**admin, "email": "no address"}):
        place.request("POST", "/api/bootstrap/setup", body, headers={"x-setup-token": token})
    answer = place.request("POST", "/api/auth/sign-in/email", admin, address=address)
    assert answer.status == 200
    cookie = answer.headers["set-cookie"].split(";")[0]
    place.request("POST", "/api/auth/sign-in/email", {**admin, "password": "wrong horse"}, address=address)
    for headers in ({}, {"cookie": cookie}, {"cookie": "better-auth.session_token=x.y"}, {"origin": "http://x"}):
        place.request("GET", "/api/auth/get-session", headers=headers)
    for headers in ({"cookie": cookie}, {"content-type": "text/plain; charset=utf-16"}, {"upgrade": "websocket"}):
        place.request("POST", "/api/auth/sign-out", {"a": "ü" * 100}, headers=headers)
    with suppress(OSError):
        place.request("POST", "/api/auth/sign-out", "x" * 1_200_000)


def test_process_credentials(stopped: Place) -> None:
    """Gateway and PostgreSQL run with the user and groups of the home's owner, without capabilities."""
    place = stopped
    gateway = place.ask("start")["pid"]
    for pid in (gateway, place.postmaster()):
        with open(f"/proc/{pid}/status") as stream:  # noqa: PTH123 - a file in /proc
            fields = {name: text.split() for name, _, text in (line.partition(":") for line in stream)}
        assert fields["Uid"] == [str(os.getuid())] * 4
        assert fields["Gid"] == [str(os.getgid())] * 4
        assert {*map(int, fields["Groups"])} == {*os.getgroups()}
        assert {int(fields[name][0], 16) for name in ("CapPrm", "CapEff", "CapAmb")} == {0}


@pytest.mark.root
def test_home_of_a_deleted_user(make_place: MakePlace) -> None:
    """If the owner has no account, start fails and names the user id, and no process is left."""
    place = make_place()
    os.chown(place.home.path, 54321, 54321)
    error = place.ask("start", code=3)
    assert error["code"] == "HOME_OWNER"
    assert "54321" in error["message"]
    place.assert_nothing_runs()


@pytest.mark.slow
def test_environment_of_the_gateway(stopped: Place) -> None:
    """Variables for other databases in the caller's environment do not affect the embedded one."""
    env = {"PGHOST": "nowhere.invalid", "PGPORT": "1", "PGSSLMODE": "verify-full", "DATABASE_URL": "postgresql://x/y"}
    assert stopped.ask("start", env=env)["already_running"] is False
    assert stopped.ask("storage", "status", env=env)["bundles"]
    assert stopped.status_of("/readyz") == 200
