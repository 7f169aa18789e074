"""The gateway in the background: start, stop, and recovery after kills."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
from tests.support.cli_home import Place

from mosaic_gateway.process.file_lock import holder_of


@pytest.fixture
def cookie(running: Place, admin: dict[str, str]) -> str:
    """The cookie of a session of the admin, who is created if necessary."""
    words = ("bootstrap", "setup", "--name", admin["name"], "--email", admin["email"], "--password-stdin")
    assert running.run(*words, stdin=admin["password"]).code in {0, 7}
    body = {key: admin[key] for key in ("email", "password")}
    answer = running.request("POST", "/api/auth/sign-in/email", body)
    assert answer.status == 200, answer
    return answer.headers["set-cookie"].split(";")[0]


def session_of(place: Place, cookie: str) -> str | None:
    """Return the email address of the user of the session *cookie*."""
    answer = place.request("GET", "/api/auth/get-session", headers={"cookie": cookie})
    assert answer.status == 200
    email: str | None = answer.json and answer.json["user"]["email"]
    return email


def test_start_status_stop(stopped: Place) -> None:
    """Start reports the URL, status the state, a second start the running gateway, and stop ends all processes."""
    place = stopped
    url = f"http://127.0.0.1:{place.port}"
    started = place.ask("start")
    assert started == {"url": url, "pid": started["pid"], "already_running": False}
    state = place.ask("status")
    assert {key: state[key] for key in ("running", "ready", "pid", "url", "local_url", "home")} == {
        "running": True, "ready": True, "pid": started["pid"], "url": url, "local_url": url,
        "home": str(place.home.path),
    }  # fmt: skip
    assert place.status_of("/readyz") == 200
    assert place.ask("start") == {**started, "already_running": True}
    done = place.run("status")
    assert (done.code, done.err) == (0, "")
    assert f"ready at {url}" in done.out
    assert place.ask("stop") == {"stopped": True, "pid": state["supervisor"]}
    place.assert_nothing_runs()
    assert place.ask("stop") == {"stopped": False, "pid": None}
    assert place.ask("status", code=3)["code"] == "NOT_READY"
    done = place.run("status")
    assert done.code == 3
    assert "is not running" in done.out
    assert "mosaic-gateway start" in done.err


def test_status_without_a_gateway(stopped: Place) -> None:
    """If the gateway is not running, the envelope has both a result and an error."""
    done = stopped.run("status", "--json")
    envelope = json.loads(done.out)
    assert (done.code, envelope["ok"], envelope["error"]["code"]) == (3, False, "NOT_READY")
    assert (envelope["result"]["running"], envelope["result"]["ready"]) == (False, False)


def test_listens_after_the_schema_is_ready(stopped: Place) -> None:
    """Connections are refused until the gateway listens; it logs migrations, storage, listening in this order."""
    place = stopped
    seen: list[bool] = []
    over = threading.Event()

    def probe() -> None:
        while not over.is_set():
            with socket.socket() as client:
                client.settimeout(5)
                seen.append(client.connect_ex(("127.0.0.1", place.port)) == 0)
            time.sleep(0.002)

    before = len(place.log())
    thread = threading.Thread(target=probe)
    thread.start()
    try:
        place.ask("start")
    finally:
        over.set()
        thread.join()
    assert seen[0] is False
    assert seen == sorted(seen), "refused first, accepted from then on"
    log = place.log()[before:]
    lines = ["Applying schema migrations (postgres)…", "Initializing storage adapter (postgres)…", "Listening on"]
    positions = [log.index(line) for line in lines]
    assert positions == sorted(positions)


@pytest.mark.slow
def test_restart(running: Place) -> None:
    """Restart replaces the running process, or starts one if none is running."""
    old = running.ask("status")["pid"]
    new = running.ask("restart")
    assert new["pid"] != old
    assert not new["already_running"]
    running.ask("stop")
    assert running.ask("restart")["already_running"] is False


def test_gateway_killed(running: Place, cookie: str) -> None:
    """A killed gateway is restarted within seconds, and sessions are preserved."""
    pid = running.ask("status")["pid"]
    os.kill(pid, signal.SIGKILL)
    running.wait_until(lambda: holder_of(running.home.gateway_lock) is None)
    running.wait_until(lambda: running.status_of("/readyz") == 200)
    state = running.ask("status")
    assert state["pid"] != pid
    assert session_of(running, cookie) == "ada@example.com"
    assert "The gateway ended (signal SIGKILL); starting it again in" in running.log()


@pytest.mark.slow
def test_supervisor_killed(running: Place) -> None:
    """If the supervisor is killed, gateway and database exit, and the gateway can be started again."""
    os.kill(running.ask("status")["supervisor"], signal.SIGKILL)
    running.assert_nothing_runs()
    assert running.ask("status", code=3)["code"] == "NOT_READY"
    assert running.ask("stop") == {"stopped": False, "pid": None}
    assert running.ask("start")["already_running"] is False


def test_everything_killed(running: Place, cookie: str) -> None:
    """After all processes were killed at once, the next start succeeds and sessions are preserved."""
    for process in running.processes():
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    running.assert_nothing_runs()
    running.ask("start")
    assert session_of(running, cookie) == "ada@example.com"


def test_database_killed(running: Place, cookie: str) -> None:
    """While PostgreSQL is down, requests get 503 with Retry-After; the gateway restarts it and logs that."""
    pid, postmaster, before = running.ask("status")["pid"], running.postmaster(), len(running.log())
    os.kill(postmaster, signal.SIGKILL)
    statuses = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        answer = running.request("GET", "/api/auth/get-session", headers={"cookie": cookie})
        statuses.append(answer.status)
        if answer.status == 200 and running.postmaster() != postmaster:
            break
        if answer.status == 503:
            assert int(answer.headers["retry-after"]) > 0
        assert answer.status in {200, 503}
        time.sleep(0.01)
    assert statuses[-1] == 200
    assert session_of(running, cookie) == "ada@example.com"
    assert running.ask("status")["pid"] == pid, "the gateway was not restarted"
    log = running.log()[before:]
    assert "The database server (postgres) ended; starting it again" in log
    assert "The database server (postgres) runs again" in log


@pytest.mark.slow
def test_stale_locks(stopped: Place) -> None:
    """Stale lock files with the pid of a running process do not affect status, start or stop."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        try:
            note = {"pid": other.pid, "url": "http://x", "local_url": "http://x", "version": "1"}
            engine = {"holder": {"pid": other.pid, "started": 1.0}, "postmaster": None, "sockets": None}
            for path in (stopped.home.gateway_lock, stopped.home.supervisor_lock):
                path.write_text(json.dumps(note))
            (stopped.home.run / "engine.lock").write_text(json.dumps(engine))
            assert stopped.ask("stop") == {"stopped": False, "pid": None}
            assert stopped.ask("status", code=3)["code"] == "NOT_READY"
            assert stopped.ask("bootstrap", "status")["needsSetup"] in {True, False}
            assert stopped.ask("start")["already_running"] is False
            assert stopped.ask("stop")["stopped"] is True
            assert other.poll() is None
        finally:
            other.kill()


def test_two_starts_at_once(stopped: Place) -> None:
    """Of several concurrent starts, one starts the gateway and the others find it running."""
    results = []

    def start() -> None:
        results.append(stopped.ask("start"))

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result["already_running"] for result in results) == [False, True, True]
    assert len({result["pid"] for result in results}) == 1
    running = [process for process in stopped.processes() if "supervise" in process.cmdline()]
    gateways = [process for process in running if process.ppid() in {parent.pid for parent in running}]
    assert (len(running), [process.pid for process in gateways]) == (2, [results[0]["pid"]])


@pytest.mark.slow
def test_stop_while_it_starts(stopped: Place) -> None:
    """A stop during a start ends it; the start reports an error, and no process is left."""
    with stopped.popen("start", "--json") as starting:
        stopped.wait_until(lambda: holder_of(stopped.home.supervisor_lock))
        stopped.wait_until(lambda: stopped.run("stop").out.startswith("Stopped"))
        out, _ = starting.communicate(timeout=60)
    envelope = json.loads(out)
    assert envelope["ok"] is (starting.returncode == 0)
    if not envelope["ok"]:  # else the start had completed before
        assert envelope["error"]["code"] in {"GATEWAY_START", "START_BUSY"}
    stopped.assert_nothing_runs()


@pytest.mark.slow
def test_start_interrupted(stopped: Place) -> None:
    """Ctrl-C during a start exits with code 130 and leaves no process running."""
    with stopped.popen("start") as starting:
        stopped.wait_until(lambda: holder_of(stopped.home.supervisor_lock))
        starting.send_signal(signal.SIGINT)
        output = starting.communicate(timeout=60)
    assert starting.returncode in {130, 0}, (starting.returncode, output)
    if starting.returncode == 130:
        stopped.assert_nothing_runs()


def test_files_are_private_and_the_owners(running: Place) -> None:
    """Lock files, sockets and logs are accessible to the home's owner only."""
    for directory in (running.home.run, running.home.logs):
        for path in directory.iterdir():
            status = path.lstat()
            assert status.st_uid == os.getuid(), path
            assert not status.st_mode & 0o077 or stat.S_ISSOCK(status.st_mode), path
