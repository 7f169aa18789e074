"""No variable of root's environment reaches the account's processes, and the worker process is protected."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from tests.security.alternating import alternating
from tests.security.installation import Installation, Watch
from tests.security.machine import Machine

SECRET = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "CLOUD_TOKEN": f"{SECRET}2",
    "SSH_AUTH_SOCK": f"/run/{SECRET}",
    "PGPASSWORD": SECRET,
}
PAUSE = 0.01  # seconds
SETTLED = 1.0  # seconds until a worker runs its verb


@pytest.mark.parametrize("verb", ["start", "install --no-service", "restart", "backup restore --yes {backup}"])
def test_the_gateway_has_nothing_of_roots_environment(attacked: Installation, watch: Watch, verb: str) -> None:
    """No value that root's shell exported is in the processes that keep running, or in a file of the home."""
    ended = attacked.verb(*verb.format(backup=attacked.backup).split(), environ=SECRETS)
    watch.check(ended)
    assert ended.code == 0, ended
    found = environments(attacked.machine)
    assert any(line.startswith("postgres") for line in found), found
    assert [line for line, environment in found.items() if SECRET.encode() in environment] == []
    assert files_with_secret(attacked) == []


@alternating
@pytest.mark.parametrize(
    "verb", ["auth users list", "storage status", "backup create", "backup verify", "doctor", "upgrade", "uninstall"]
)
def test_no_process_of_a_verb_has_roots_environment(attacked: Installation, watch: Watch, verb: str) -> None:
    """No process that runs as the account during a verb ever has root's environment."""
    seen: Counter[str] = Counter()
    has_ended = threading.Event()

    def inspect() -> None:
        while not has_ended.is_set():
            found = environments(attacked.machine)
            seen.update(line for line in found if SECRET.encode() in found[line])
            time.sleep(PAUSE)

    inspection = threading.Thread(target=inspect)
    inspection.start()
    try:
        ended = attacked.verb(*verb.split(), environ=SECRETS)
    finally:
        has_ended.set()
        inspection.join()
    watch.check(ended)
    assert not seen
    assert files_with_secret(attacked) == []


def test_other_processes_of_the_account_cannot_access_a_worker(attacked: Installation, watch: Watch) -> None:
    """They can read neither its memory and environment nor open its socket to root's process."""
    words = (*attacked.verb_words, "logs", "--follow", "--home", attacked.home)
    started = attacked.machine.popen(words, environ=SECRETS)
    try:
        root, worker = two_processes(attacked.machine, "logs", started)
        number = Path(f"/proc/{worker.pid}/status").read_text().partition("NSpid:")[2].split("\n")[0].split()[-1]
        for name in ("environ", "maps", "mem", "fd/3"):
            output = attacked.account('head -c 1 "/proc/$1/$2" 2>&1 >/dev/null || true', number, name)
            assert "Permission denied" in output, (name, output)
        root.send_signal(signal.SIGTERM)
    finally:
        started.communicate(timeout=30)
    assert watch.harm() == []


def test_a_worker_has_no_capabilities(attacked: Installation, watch: Watch) -> None:
    """A worker has none even if root's securebits preserve them when ids change (capabilities(7))."""
    setpriv = ("setpriv", "--securebits", "+no_setuid_fixup")
    words = (*setpriv, *attacked.verb_words, "logs", "--follow", "--home", attacked.home)
    started = attacked.machine.popen(words)
    try:
        root, worker = two_processes(attacked.machine, "logs", started)
        time.sleep(SETTLED)
        status = Path(f"/proc/{worker.pid}/status").read_text()
        found = {line.split(":")[0]: int(line.split()[1], 16) for line in status.splitlines() if line.startswith("Cap")}
        root.send_signal(signal.SIGTERM)
    finally:
        started.communicate(timeout=30)
    assert {name: found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {
        "CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapAmb": 0,
    }  # fmt: skip
    assert watch.harm() == []


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stay_closed(attacked: Installation, watch: Watch, closing: str) -> None:
    """No file gets the descriptor number of a standard stream that the caller has closed."""
    script = f'exec "$@" {closing}'
    command = ("sh", "-c", script, "sh", *attacked.verb_words)
    for verb in (("status",), ("auth", "users", "list")):
        ended = attacked.machine.run(*command, *verb, "--home", attacked.home)
        watch.check(ended)
        assert ended.code == attacked.verb(*verb).code, ended


def two_processes(machine: Machine, verb: str, started: subprocess.Popen[str]) -> tuple[psutil.Process, psutil.Process]:
    """Return root's process of *verb* and its worker, once the worker has dropped root; *started* is the command."""
    while started.poll() is None:
        both = [one for one in machine.processes() if verb in one.cmdline()]
        for worker in both:
            root = next((root for root in both if root.pid == worker.ppid()), None)
            if root is not None and worker.uids().effective != 0:
                return root, worker
        time.sleep(PAUSE)
    raise AssertionError(started.communicate())


def environments(machine: Machine) -> dict[str, bytes]:
    """Return the environment of every process of the machine that does not run as root, by name and command line.

    A process whose environment its own account cannot read is left out: a fork of root's process still has root's
    environment in its memory, but is not dumpable (PR_SET_DUMPABLE), so its files in /proc belong to root.
    """
    found = {}
    for process in machine.processes():
        with suppress(OSError, psutil.Error):
            if process.uids().effective != 0:
                environment = Path(f"/proc/{process.pid}/environ")
                if environment.stat().st_uid == 0:
                    continue
                line = f"{process.name()} {process.pid} {process.cmdline()} {process.uids()}"
                found[line] = environment.read_bytes()
    return found


def files_with_secret(installation: Installation) -> list[str]:
    """Return the files of the machine that contain a secret of root's."""
    machine = installation.machine
    tops = [machine.ground.seen_from_here(f"{machine.layer}/{part}") for part in ("homes", "upper")]
    words = ["grep", "--recursive", "--files-with-matches", "--text", "--fixed-strings", "--devices=skip", SECRET]
    done = subprocess.run([*words, *map(str, tops)], capture_output=True, text=True, check=False, timeout=120)
    return [path.partition(machine.layer)[2] for path in done.stdout.splitlines()]
