"""Requests of a hijacked worker: root's process grants only those that the verb needs."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tests.security import hijacked
from tests.security.installation import Installation, Watch

from mosaic_gateway.process.root_requests import Request

pytestmark = pytest.mark.skipif(not Path(hijacked.PYTHON).exists(), reason="needs the system's Python")

SEND_REQUESTS = """
import json, os, socket, sys, time
channel = socket.socket(fileno=3)
def receive(count):
    data = b""
    while len(data) < count:
        data += channel.recv(count - len(data)) or sys.exit(0)
    return data
def answer():
    return json.loads(receive(int.from_bytes(receive(4), "big")))
for name, values in json.loads(REQUESTS):
    body = json.dumps({"request": name, "values": values}).encode()
    channel.sendall(len(body).to_bytes(4, "big") + body)
    print(json.dumps([name, answer().get("error", {}).get("code")]), flush=True)
"""
TOO_LARGE = """
import json, socket
channel = socket.socket(fileno=3)
body = b'{"request": "bind", "values": {"port": 1e999}}'
channel.sendall(len(body).to_bytes(4, "big") + body)
print(channel.recv(1 << 16)[4:].decode(), flush=True)
"""
STUBBORN = """
import signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""
#: A usercustomize.py, which Python runs from the user's site directory with the ids of the process.
CUSTOM = """
import os
with open("{home}/ran", "a") as stream:
    print(os.getuid(), file=stream)
"""
VALUES: dict[str, Any] = {
    "name": None, "names": ["current"], "descriptors": [], "issue_link": False, "durable": False, "packages": False,
    "timeout": 1, "waits_for_network": False, "reads_homes": False, "socket_outside": False, "option": "password_file",
    "instance_id": "0123456789abcdef",
}  # fmt: skip
READING = {"bind", "program-state", "check-package", "service-manager", "unit-state", "read-input"}


def _words(attacked: Installation, program: str, *words: str) -> tuple[str, ...]:
    attacked.write("hijack.py", program)
    attacked.account("chmod 644 hijack.py")
    return (
        attacked.python,
        "-P",
        str(Path(hijacked.__file__)),
        f"{attacked.home}/hijack.py",
        *words,
        "--home",
        attacked.home,
    )


def _error_codes(
    attacked: Installation, requests: list[tuple[str, dict[str, Any]]], *words: str
) -> dict[str, str | None]:
    """Send *requests* from a hijacked worker and return the error code of each, None if it was granted."""
    program = f"REQUESTS = {json.dumps(requests)!r}\n{SEND_REQUESTS}"
    ended = attacked.machine.run(*_words(attacked, program, *words), limit=120)
    return dict(map(json.loads, ended.out.splitlines()))


@pytest.mark.parametrize("verb", ["status", "config show", "install --dry-run", "backup list"])
def test_read_only_verbs_are_granted_no_change(attacked: Installation, watch: Watch, verb: str) -> None:
    """Programs, unit and gateway stay unchanged, and no password prompt is shown."""
    codes = _error_codes(attacked, [(str(request), VALUES) for request in Request], *verb.split())
    assert set(codes) == {str(request) for request in Request}
    assert {name for name, code in codes.items() if code != "NOT_GRANTED"} <= READING
    assert watch.harm() == []


def test_root_runs_no_usercustomize_of_the_account(attacked: Installation, watch: Watch) -> None:
    """A module that Python imports at startup from the account's HOME never runs as root."""
    version = attacked.machine.check(attacked.python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    directory = f".local/lib/python{version}/site-packages"
    attacked.write(f"{directory}/usercustomize.py", CUSTOM.format(home=attacked.home))
    _error_codes(attacked, [("launch", VALUES)], "start")
    time.sleep(2)
    attacked.verb("stop")
    ran = attacked.file("ran")
    assert "0" not in (ran.read_text().split() if ran.exists() else [])
    assert watch.harm() == []


def test_malformed_values_do_not_crash_roots_process(attacked: Installation, watch: Watch) -> None:
    """A number that cannot be converted to an integer is answered like any other wrong value."""
    ended = attacked.machine.run(*_words(attacked, TOO_LARGE, "doctor"), limit=60)
    assert json.loads(ended.out)["error"]["code"] == "INTERNAL"
    assert ended.code == 0, ended
    assert watch.harm() == []


def test_a_worker_that_ignores_signals_is_killed(attacked: Installation, watch: Watch) -> None:
    """The third Ctrl-C kills a worker that ignores SIGINT, SIGTERM and SIGHUP."""
    process = attacked.machine.popen(_words(attacked, STUBBORN, "status"))
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    root = next(one for one in attacked.machine.processes() if hijacked.__file__ in one.cmdline())
    for _ in range(3):
        assert root.is_running()
        root.send_signal(signal.SIGINT)
        time.sleep(0.2)
    process.communicate(timeout=30)
    assert not root.is_running()
    assert watch.harm() == []
