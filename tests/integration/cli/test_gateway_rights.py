"""The process that serves has no right of root left, and needs no file that only root may read."""

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

from mosaic_gateway.engines.postgres.engine_lock import running_conninfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.cli.conftest import MakePlace, Place

#: ``serve`` that tells on standard error of every import that has to look for a file, as it happens. It preloads what
#: it does where root has started it.
WATCHED = """
import os, sys
from mosaic_gateway.gateway.run.server import preload
from mosaic_gateway_installer.cli import VERBS
from mosaic_gateway.cli.root import run

preload()

def tell(event, arguments):
    if event == "import":
        os.write(2, f"IMPORT {arguments[0]}\\n".encode())

sys.addaudithook(tell)
import colorsys
sys.exit(run(VERBS, sys.argv[1:]))
"""
STATUS = "/api/bootstrap/status"


@pytest.fixture
def watched(stopped: Place) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The watched gateway, ready, and the lines that it writes."""
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
    """Every endpoint, an error of ours, a database that dies and comes back, and the end: nothing is imported."""
    process, lines = watched
    link = stopped.run("bootstrap", "link").out  # nothing, where another test made the admin already
    token = link.partition("#token=")[2].partition("\n")[0]
    everyday(stopped, token, admin)
    conninfo = running_conninfo(stopped.home)
    assert conninfo is not None
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("ALTER TABLE users RENAME TO users_")
        assert stopped.request("POST", "/api/auth/sign-in/email", admin).status == 500
        connection.execute("ALTER TABLE users_ RENAME TO users")
    postmaster = stopped.postmaster()
    os.kill(postmaster, signal.SIGKILL)
    stopped.wait_until(lambda: stopped.status_of("/readyz") == 200 and stopped.postmaster() != postmaster)
    everyday(stopped, token, admin)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    stopped.wait_until(lambda: any("Stopped by a signal" in line for line in lines))
    ready = next(number for number, line in enumerate(lines) if "Listening on" in line)
    assert "IMPORT colorsys\n" in lines[:ready], "the watch works"
    assert [line for line in lines[ready:] if line.startswith("IMPORT")] == []
    assert any("Traceback" in line for line in lines[ready:]), "the error of ours was logged with its trace"


def everyday(place: Place, token: str, admin: dict[str, str]) -> None:
    """Use every endpoint, well and badly."""
    for path in ("/", "/setup", "/healthz", "/readyz", STATUS, "/none", "/api/auth/none"):
        place.request("GET", path)
    place.request("DELETE", "/readyz")
    for body in ({}, admin, {**admin, "email": "no address"}):
        place.request("POST", "/api/bootstrap/setup", body, headers={"x-setup-token": token})
    answer = place.request("POST", "/api/auth/sign-in/email", admin)
    assert answer.status == 200
    cookie = answer.headers["set-cookie"].split(";")[0]
    place.request("POST", "/api/auth/sign-in/email", {**admin, "password": "wrong horse"})
    for headers in ({}, {"cookie": cookie}, {"cookie": "better-auth.session_token=x.y"}, {"origin": "http://x"}):
        place.request("GET", "/api/auth/get-session", headers=headers)
    for headers in ({"cookie": cookie}, {"content-type": "text/plain; charset=utf-16"}, {"upgrade": "websocket"}):
        place.request("POST", "/api/auth/sign-out", {"a": "ü" * 100}, headers=headers)
    with suppress(OSError):
        place.request("POST", "/api/auth/sign-out", "x" * 1_200_000)


def test_rights(stopped: Place) -> None:
    """Gateway and PostgreSQL run as the home's owner, with no other user, group or capability."""
    place = stopped
    gateway = place.ask("start")["pid"]
    for pid in (gateway, place.postmaster()):
        with open(f"/proc/{pid}/status") as stream:  # noqa: PTH123 - not a file of ours
            fields = {name: text.split() for name, _, text in (line.partition(":") for line in stream)}
        assert fields["Uid"] == [str(os.getuid())] * 4
        assert fields["Gid"] == [str(os.getgid())] * 4
        assert {*map(int, fields["Groups"])} == {*os.getgroups()}
        assert {int(fields[name][0], 16) for name in ("CapPrm", "CapEff", "CapAmb")} == {0}


@pytest.mark.root
def test_home_of_a_user_who_is_gone(make_place: MakePlace) -> None:
    """Nobody can be found to run it as: start says whose the home is, and nothing runs."""
    place = make_place()
    os.chown(place.home.path, 54321, 54321)
    error = place.ask("start", code=3)
    assert error["code"] == "HOME_OWNER"
    assert "54321" in error["message"]
    place.assert_nothing_runs()


@pytest.mark.slow
def test_environment_of_the_gateway(stopped: Place) -> None:
    """What the starter's environment says of other databases does not reach the embedded one."""
    env = {"PGHOST": "nowhere.invalid", "PGPORT": "1", "PGSSLMODE": "verify-full", "DATABASE_URL": "postgresql://x/y"}
    assert stopped.ask("start", env=env)["already_running"] is False
    assert stopped.ask("storage", "status", env=env)["bundles"]
    assert stopped.status_of("/readyz") == 200
