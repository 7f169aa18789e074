"""Installations with random kills and full disks: acknowledged data is retained, and `install` repairs the rest."""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from tests.support.site import MakeSite, Result, Site
from tests.sweep.scale import Scale

from mosaic_gateway.engines.session import connect
from mosaic_gateway.gateway.database_access import running_database
from mosaic_gateway.installation.engine_name import EngineName

EMAIL, PASSWORD = "ada@example.com", "correct horse battery staple"
MEGABYTE = 1024**2
DISK = 640  # MB
LONGEST_BEFORE_KILL = 2.0  # seconds
START_LIMIT = 60.0  # seconds for a gateway to serve again
BACKUP = "{backup}"  # placeholder for the name of a backup in the home
VERBS = (
    ("install", "--no-service"),
    ("uninstall",),
    ("start",),
    ("stop",),
    ("restart",),
    ("doctor", "--fix"),
    ("backup", "create"),
    ("backup", "verify", BACKUP),
    ("backup", "restore", "--yes", BACKUP),
    ("backup", "prune", "--keep", "2"),
    ("storage", "migrate"),
    ("upgrade",),
)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """A random number generator; a failing test shows its seed."""
    number = secrets.randbits(32)
    request.node.add_report_section("setup", "seed", str(number))
    return random.Random(number)


@pytest.fixture
def seeded(ordinary_user: None, make_site: MakeSite) -> Iterator[Site]:
    """A running installation with an admin and a backup."""
    site = make_site()
    seed(site)
    yield site
    site.remove()


def seed(site: Site) -> None:
    """Install, create the first admin and a backup."""
    site.installed()
    done = site.run("bootstrap", "setup", "--name", "Ada", "--email", EMAIL, "--password-stdin", stdin=PASSWORD)
    assert done.code == 0, done
    assert site.run("backup", "create").code == 0


def arguments_of(site: Site, verb: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command-line arguments of *verb* on *site*."""
    backups = sorted(path.name for path in (site.path / "backups").glob("[!.]*"))
    return tuple(backups[0] if word == BACKUP else word for word in verb)


def check_ended(done: Result, *context: object) -> None:
    """Fail if a verb ended with an internal error."""
    output = done.out + done.err
    assert "Traceback" not in output, (*context, done)
    assert "[INTERNAL]" not in output, (*context, done)


def check_repaired(site: Site, *context: object) -> None:
    """Verify that `install` repairs everything: sign-in works, doctor finds no fault, no temporary file is left."""
    done = site.install()
    assert done.code == 0, (*context, done.out, done.err)
    assert signed_in(site) is not None, context
    report = site.json("doctor")
    faults = [one for one in json.loads(report.out)["result"]["findings"] if one["level"] == "fault"]
    assert faults == [], context
    left = [path.name for path in site.path.iterdir() if path.name.endswith((".tmp", ".erased", ".removed"))]
    assert left == [], context


def signed_in(site: Site) -> str | None:
    """Sign in and return the session token, None if the gateway does not answer with one."""
    with suppress(OSError, ValueError):
        status, body = site.request("POST", "/api/auth/sign-in/email", {"email": EMAIL, "password": PASSWORD})
        if status == 200:
            return str(body["token"])
    return None


def test_a_killed_verb_and_the_next_verb(seeded: Site, scale: Scale, rng: random.Random) -> None:
    """After any verb is killed at any time and any other verb is run, `install` repairs the installation."""
    for number in range(scale.verb_kills):
        killed, following = rng.choice(VERBS), rng.choice(VERBS)
        before_kill = rng.uniform(0.05, LONGEST_BEFORE_KILL)
        context = (number, killed, following, before_kill)
        process = seeded.popen(*arguments_of(seeded, killed))
        with suppress(subprocess.TimeoutExpired):
            process.wait(before_kill)
        process.kill()
        process.communicate()
        check_ended(seeded.run(*arguments_of(seeded, following)), *context)
        check_repaired(seeded, *context)


def test_full_disks(
    ordinary_user: None, make_site: MakeSite, small_disk: Callable[[int], Path], scale: Scale, rng: random.Random
) -> None:
    """On a nearly full disk any verb succeeds or reports the error; with free space again, `install` repairs."""
    site = make_site(parent=small_disk(DISK))
    seed(site)
    filler = site.path.parent / "filler"
    for number in range(scale.full_disks):
        verb, left = rng.choice(VERBS), rng.randrange(0, 120) * MEGABYTE
        context = (number, verb, left)
        free = shutil.disk_usage(site.path).free
        with filler.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, max(free - left, 1))
        check_ended(site.run(*arguments_of(site, verb)), *context)
        filler.unlink()
        check_repaired(site, *context)
        assert site.run("backup", "prune", "--keep", "2").code == 0, context
    site.remove()


def test_sign_ins_survive_kills(seeded: Site, scale: Scale, rng: random.Random) -> None:
    """Each session that the gateway acknowledged while its processes were killed exists in the end."""
    tokens = []
    end = time.monotonic() + scale.soak
    next_kill = time.monotonic()
    while time.monotonic() < end:
        token = signed_in(seeded)
        if token is not None:
            tokens.append(token)
        elif not seeded.processes():
            assert seeded.run("start").code == 0
        if time.monotonic() > next_kill:
            kill_one(seeded, rng)
            next_kill = time.monotonic() + rng.uniform(2.0, 10.0)
    assert seeded.install().code == 0
    deadline = time.monotonic() + START_LIMIT
    while signed_in(seeded) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(tokens) > scale.soak / 10
    assert [token for token in tokens if token not in sessions(seeded)] == []


def kill_one(site: Site, rng: random.Random) -> None:
    """Kill one process of the installation: supervisor, gateway, or a PostgreSQL process."""
    running = site.processes()
    running += [child for one in running for child in one.children() if child not in running]
    if running:
        with suppress(psutil.NoSuchProcess):
            rng.choice(running).send_signal(signal.SIGKILL)


def sessions(site: Site) -> frozenset[str]:
    """Return the tokens of all sessions in the database."""
    conninfo = running_database(site.home, EngineName(site.receipt()["engine"]))
    assert conninfo is not None
    with connect(conninfo, application_name="test") as connection:
        return frozenset(str(row[0]) for row in connection.execute("SELECT token FROM sessions"))
