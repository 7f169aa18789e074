"""Installations that meet kills and full disks at random: what was acknowledged stays, `install` repairs the rest."""

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
from tests.installer.conftest import MakeSite, Result, Site, _place, free_port, make_site
from tests.sweep.conftest import Scale

from mosaic_gateway.engines.session import connect
from mosaic_gateway.gateway.database_access import running_database
from mosaic_gateway.installation.engine_name import EngineName

__all__ = ["_place", "free_port", "make_site"]

EMAIL, PASSWORD = "ada@example.com", "correct horse battery staple"
MEGABYTE = 1024**2
DISK = 640  # MB
LONGEST_BEFORE_KILL = 2.0  # seconds
START_LIMIT = 60.0  # seconds for a gateway to serve again
BACKUP = "{backup}"  # stands for the name of a backup in the home
VERBS = (
    ("install", "--no-service"),
    ("uninstall",),
    ("start",),
    ("stop",),
    ("restart",),
    ("doctor", "--fix"),
    ("backup", "create"),
    ("backup", "verify", BACKUP),
    ("backup", "restore", BACKUP),
    ("backup", "prune", "--keep", "2"),
    ("storage", "migrate"),
    ("upgrade",),
)


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """A source of random numbers; a test that fails shows its seed."""
    number = secrets.randbits(32)
    request.node.add_report_section("setup", "seed", str(number))
    return random.Random(number)


@pytest.fixture
def seeded(ordinary_user: None, make_site: MakeSite) -> Iterator[Site]:
    """An installation that serves, with an admin and a backup."""
    site = make_site()
    seed(site)
    yield site
    site.remove()


def seed(site: Site) -> None:
    """Install, make the admin, make a backup."""
    site.installed()
    done = site.run("bootstrap", "setup", "--name", "Ada", "--email", EMAIL, "--password-stdin", stdin=PASSWORD)
    assert done.code == 0, done
    assert site.run("backup", "create").code == 0


def words_of(site: Site, verb: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words of *verb* on *site*."""
    backups = sorted(path.name for path in (site.path / "backups").glob("[!.]*"))
    return tuple(backups[0] if word == BACKUP else word for word in verb)


def check_ended(done: Result, *context: object) -> None:
    """Fail if a verb ended by a fault of ours."""
    said = done.out + done.err
    assert "Traceback" not in said, (*context, done)
    assert "[INTERNAL]" not in said, (*context, done)


def check_repaired(site: Site, *context: object) -> None:
    """`install` brings everything back: the admin signs in, no check finds a fault, nothing unfinished lies about."""
    done = site.install()
    assert done.code == 0, (*context, done.out, done.err)
    assert signed_in(site) is not None, context
    found = site.json("doctor")
    faults = [one for one in json.loads(found.out)["result"]["findings"] if one["level"] == "fault"]
    assert faults == [], context
    left = [path.name for path in site.path.iterdir() if path.name.endswith((".tmp", ".erased", ".removed"))]
    assert left == [], context


def signed_in(site: Site) -> str | None:
    """Sign in and return the session's token, None where the gateway does not acknowledge it."""
    with suppress(OSError, ValueError):
        status, body = site.request("POST", "/api/auth/sign-in/email", {"email": EMAIL, "password": PASSWORD})
        if status == 200:
            return str(body["token"])
    return None


def test_a_verb_that_is_killed_and_the_next(seeded: Site, scale: Scale, chance: random.Random) -> None:
    """Whatever verb is killed at whatever instant, and whatever verb comes next, an install repairs it."""
    for number in range(scale.verb_kills):
        killed, following = chance.choice(VERBS), chance.choice(VERBS)
        before_kill = chance.uniform(0.05, LONGEST_BEFORE_KILL)
        context = (number, killed, following, before_kill)
        process = seeded.popen(*words_of(seeded, killed))
        with suppress(subprocess.TimeoutExpired):
            process.wait(before_kill)
        process.kill()
        process.communicate()
        check_ended(seeded.run(*words_of(seeded, following)), *context)
        check_repaired(seeded, *context)


def test_disks_that_are_full(
    ordinary_user: None, make_site: MakeSite, small_disk: Callable[[int], Path], scale: Scale, chance: random.Random
) -> None:
    """With whatever room is left, a verb succeeds or says what it lacks; with room again, an install repairs."""
    site = make_site(parent=small_disk(DISK))
    seed(site)
    filler = site.path.parent / "filler"
    for number in range(scale.full_disks):
        verb, left = chance.choice(VERBS), chance.randrange(0, 120) * MEGABYTE
        context = (number, verb, left)
        free = shutil.disk_usage(site.path).free
        with filler.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, max(free - left, 1))
        check_ended(site.run(*words_of(site, verb)), *context)
        filler.unlink()
        check_repaired(site, *context)
        assert site.run("backup", "prune", "--keep", "2").code == 0, context
    site.remove()


def test_sign_ins_outlive_kills(seeded: Site, scale: Scale, chance: random.Random) -> None:
    """While processes of the gateway are killed, each session that it acknowledged is there in the end."""
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
            kill_one(seeded, chance)
            next_kill = time.monotonic() + chance.uniform(2.0, 10.0)
    assert seeded.install().code == 0
    deadline = time.monotonic() + START_LIMIT
    while signed_in(seeded) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(tokens) > scale.soak / 10
    assert [token for token in tokens if token not in sessions(seeded)] == []


def kill_one(site: Site, chance: random.Random) -> None:
    """Kill a process of the installation: supervisor, gateway, or one of PostgreSQL's."""
    running = site.processes()
    running += [child for one in running for child in one.children() if child not in running]
    if running:
        with suppress(psutil.NoSuchProcess):
            chance.choice(running).send_signal(signal.SIGKILL)


def sessions(site: Site) -> frozenset[str]:
    """Return the tokens of all sessions in the database."""
    conninfo = running_database(site.home, EngineName(site.receipt()["engine"]))
    assert conninfo is not None
    with connect(conninfo, application_name="test") as connection:
        return frozenset(str(row[0]) for row in connection.execute("SELECT token FROM sessions"))
