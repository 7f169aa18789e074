"""Installs with other settings over an installation, and their roll-back after a failure."""

from __future__ import annotations

import socket
import tomllib
from typing import Any

import pytest
from tests.support.ports import free_port
from tests.support.site import MakeSite, Site
from tests.support.traps.kill_points import trap_at

EVERYWHERE = "0.0.0.0"  # noqa: S104 - for about a second


@pytest.fixture(scope="module")
def shared(make_site: MakeSite) -> Site:
    """Return an installed site; each test leaves it running on its port."""
    site = make_site()
    site.installed("--no-start")
    return site


def _settings(site: Site) -> dict[str, Any]:
    return tomllib.loads(site.home.config_file.read_text())


@pytest.mark.slow
def test_no_start_applies_the_schema_and_leaves_nothing_running(site: Site) -> None:
    """After --no-start no process runs; then start, status and stop work."""
    done = site.install("--no-start")
    assert done.steps[-1] == "schema"
    assert done.result["smoke_test"] is None
    site.assert_nothing_runs()
    assert site.install("--no-start").steps == []
    assert site.json("start").result["url"] == site.url
    status = site.json("status")
    assert status.result["ready"] is True
    assert status.result["instance_id"] == site.receipt()["instance_id"]
    assert site.json("stop").result["stopped"] is True
    site.assert_nothing_runs()
    assert site.json("status").error["code"] == "NOT_READY"


@pytest.mark.slow
def test_another_port_is_stored_and_the_gateway_restarted(shared: Site) -> None:
    """Only the needed steps run; the old port is free, the new one answers, comments in the file stay."""
    shared.installed()
    shared.home.config_file.write_text("# mine\n" + shared.home.config_file.read_text())
    shared.installed()
    before, shared.port = shared.port, free_port()
    done = shared.install()
    assert done.steps == ["stop", "launch", "config", "start"]
    assert _settings(shared)["port"] == shared.port
    assert "# mine" in shared.home.config_file.read_text()
    assert shared.request("GET", "/api/bootstrap/status")[0] == 200
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", before))


@pytest.mark.slow
def test_a_setting_that_does_not_show_in_the_address_also_restarts(shared: Site) -> None:
    """Listening on all addresses does not change the local URL; the gateway is still restarted."""
    shared.installed()
    done = shared.install("--host", EVERYWHERE)
    assert done.steps == ["stop", "launch", "config", "start"]
    assert _settings(shared)["host"] == EVERYWHERE
    assert shared.install("--host", "127.0.0.1").steps == ["stop", "launch", "config", "start"]


@pytest.mark.slow
def test_a_failed_change_is_rolled_back_and_the_old_gateway_runs_again(shared: Site) -> None:
    """If the smoke test cannot reach the gateway, settings, gateway and receipt are as before."""
    shared.installed()
    before = shared.home.config_file.read_bytes(), shared.home.receipt.read_bytes()
    port = str(free_port())
    failed = shared.install("--port", port, trap=trap_at("gateway asked", act="ECONNREFUSED", port=int(port)))
    assert failed.code == 5, (failed.out, failed.err)
    assert failed.error["code"] == "SMOKE_TEST_FAILED"
    assert (shared.home.config_file.read_bytes(), shared.home.receipt.read_bytes()) == before
    assert not shared.home.journal.exists()
    assert shared.request("GET", "/api/bootstrap/status")[0] == 200
    assert shared.install().steps == []


@pytest.mark.slow
def test_the_secret_of_the_first_install_is_retained(site: Site) -> None:
    """The secret from BETTER_AUTH_SECRET of the first install stays if later installs do not set it."""
    site.installed("--no-start", BETTER_AUTH_SECRET="the-first-secret-of-this-home-0000")
    site.installed("--no-start")
    assert site.home.auth_secret.read_text().strip() == "the-first-secret-of-this-home-0000"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--port", "0"), "USAGE"),
        (("--port", "many"), "USAGE"),
        (("--engine", "oracle"), "USAGE"),
        (("--engine", "server"), "USAGE"),
        (("--database-url-file", "/does/not/exist"), "NAMED_FILE"),
        (("--database-url", "postgresql://[half"), "DATABASE_URL"),
        (("--run-as", "no-such-user-here"), "RUN_AS"),
        (("--unknown",), "USAGE"),
    ],
)
def test_invalid_options_are_a_usage_error(site: Site, words: tuple[str, ...], code: str) -> None:
    """Exit code 2, an error object in JSON, and nothing created."""
    done = site.install(*words)
    assert done.code == 2
    assert done.error["code"] == code
    assert not list(site.path.parent.iterdir())


@pytest.mark.slow
def test_settings_that_cannot_be_read_are_named(site: Site) -> None:
    """An invalid config.toml stops the install; the error names the file, which is not changed."""
    site.installed("--no-start")
    site.home.config_file.write_text("port = [")
    done = site.install()
    assert done.code == 2
    assert str(site.home.config_file) in done.error["message"]
    assert site.home.config_file.read_text() == "port = ["
