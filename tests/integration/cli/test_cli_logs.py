"""The verb ``logs``: the newest lines of either log, and --follow across rotations."""

from __future__ import annotations

import signal
import subprocess

import pytest
from tests.support.cli_home import MakePlace, Place

from mosaic_gateway.process.logfile import RotatingFile


@pytest.fixture
def logged(make_place: MakePlace) -> Place:
    """A home with ten lines in its gateway's log and three in PostgreSQL's."""
    place = make_place()
    place.home.gateway_log.write_text("".join(f"line {number}\n" for number in range(10)))
    place.home.postgres_log.write_text("a\nb\nc\n")
    return place


def test_lines(logged: Place) -> None:
    """-n limits the number of lines; 0 or a missing file shows none."""
    assert logged.run("logs", "-n", "2").out == "line 8\nline 9\n"
    assert logged.run("logs", "--lines", "0").out == ""
    result = logged.ask("logs", "--postgres")
    assert result == {"file": str(logged.home.postgres_log), "lines": ["a", "b", "c"]}
    logged.home.postgres_log.unlink()
    assert logged.ask("logs", "--postgres")["lines"] == []


def test_follow(logged: Place) -> None:
    """--follow shows each line once, in order, across rotations, until Ctrl-C."""
    log = RotatingFile(logged.home.gateway_log, size=100, keep=3)
    with logged.popen("logs", "-f", "-n", "1") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "line 9\n"
        for first in (10, 20, 30):
            for number in range(first, first + 10):
                log.write(f"line {number}\n".encode())
            for number in range(first, first + 10):
                assert following.stdout.readline() == f"line {number}\n"
        following.send_signal(signal.SIGINT)
        out, err = following.communicate(timeout=10)
    log.close()
    assert (following.returncode, out, err) == (0, "", "")
    assert logged.home.gateway_log.with_name("gateway.log.2").exists()


def test_follow_a_missing_log(logged: Place) -> None:
    """--follow waits for a log that does not exist yet."""
    logged.home.gateway_log.unlink()
    with logged.popen("logs", "--follow") as following:
        assert following.stdout is not None
        with pytest.raises(subprocess.TimeoutExpired):
            following.wait(0.5)
        logged.home.gateway_log.write_text("first\n")
        assert following.stdout.readline() == "first\n"


def test_follow_with_json(logged: Place) -> None:
    """--follow and --json together are a usage error."""
    assert logged.ask("logs", "--follow", code=2)["code"] == "USAGE"


def test_closed_pipe(logged: Place) -> None:
    """If the reader of its output exits, the verb ends without a message."""
    logged.home.gateway_log.write_text("x" * 200_000 + "\n")
    with logged.popen("logs") as process:
        assert process.stdout is not None
        process.stdout.close()
        process.wait(10)
        assert process.stderr is not None
        assert process.stderr.read() == ""
