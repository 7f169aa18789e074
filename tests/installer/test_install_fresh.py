"""A new installation, and a second install over it."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

import psutil
import pytest
from tests.support.site import MakeSite, Result, Site

from mosaic_gateway.installation.machine_record import read_machine_record

STEPS = ["home", "program", "launch", "config", "secret", "runtime", "cluster", "start"]
VOLATILE = ("logs", "run", "data", ".lock")  # changed by running processes


@pytest.fixture
def first(installed: Site) -> Result:
    """Return the result of the first install."""
    assert installed.first is not None
    return installed.first


def _files(home: Path) -> dict[str, tuple[int, int, str]]:
    facts = {}
    for root, directories, files in os.walk(home):
        if root == str(home):
            directories[:] = [name for name in directories if name not in VOLATILE]
        for name in (*directories, *files):
            if name not in VOLATILE:
                path = Path(root, name)
                status = path.lstat()
                content = b"" if path.is_dir() else path.read_bytes()
                facts[str(path)] = (status.st_mode, status.st_mtime_ns, hashlib.sha256(content).hexdigest())
    return facts


def _created_directories(site: Site) -> list[Path]:
    """Return the directories created by the install, outermost first, from root's record or the receipt."""
    record = read_machine_record(site.path)
    if record is not None:
        return list(record.directories)
    receipt = site.receipt()
    return [*map(Path, receipt["parents_created"]), *([site.path] if receipt["home_created"] else [])]


def test_a_fresh_install_reports_what_it_did(first: Result) -> None:
    """The result lists every step in order, and the requests of the smoke test with their status codes."""
    result = first.result
    assert list(first.envelope) == ["schema", "command", "ok", "result", "warnings", "error"]
    assert first.envelope["command"] == "install"
    assert first.steps == STEPS
    assert result["changed"] is True
    assert result["dry_run"] is False
    assert result["smoke_test"]["needsSetup"] is True
    assert result["smoke_test"]["requests"] == ["GET /api/bootstrap/status 200", "POST /api/bootstrap/setup 400"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/setup#token=[\w-]{43}", result["setup_url"])


def test_progress_goes_to_standard_error(first: Result) -> None:
    """Standard output contains only the JSON object; steps are reported on standard error."""
    assert len(first.out.splitlines()) == 1
    assert "Create the database cluster" in first.err


@pytest.mark.slow
def test_the_text_output_ends_with_the_setup_link(site: Site) -> None:
    """Without --json the last line of the output is the setup link."""
    words = [word for word in site.install_words() if word != "--json"]
    done = site.run(*words)
    assert done.code == 0, done.err
    assert f"{site.url}/setup#token=" in done.out.splitlines()[-1]
    assert "passed its smoke test" in done.out


def test_the_gateway_responds_to_the_bootstrap_requests(installed: Site) -> None:
    """The status reports that an admin is needed; setup with an empty body names each field."""
    assert installed.request("GET", "/api/bootstrap/status") == (200, {"needsSetup": True})
    status, body = installed.request("POST", "/api/bootstrap/setup", {})
    assert status == 400
    assert all(f"[body.{name}]" in body["message"] for name in ("name", "email", "password"))


def test_the_receipt_lists_what_the_installation_owns(installed: Site) -> None:
    """The receipt records that the installer created the home, and the schema of the database."""
    receipt = installed.receipt()
    assert receipt["state"] == "installed"
    assert receipt["engine"] == "postgres"
    assert _created_directories(installed) == [installed.path]
    assert re.fullmatch(r"[0-9a-f]{16}", receipt["instance_id"])
    assert re.fullmatch(r"[0-9a-f]{64}", receipt["schema"])


def test_other_users_cannot_read_the_home(installed: Site) -> None:
    """Other users have no permissions on any file, and the owner of the home owns all files."""
    owner = installed.path.stat()
    assert owner.st_uid == installed.uid
    for root, directories, files in os.walk(installed.path):
        for name in (".", *directories, *files):
            path = Path(root, name)
            status = path.lstat()
            if path.is_symlink():
                assert path.resolve().is_relative_to(installed.home.runtime)
                continue
            assert not stat.S_IMODE(status.st_mode) & 0o077, (root, name)
            assert (status.st_uid, status.st_gid) == (owner.st_uid, owner.st_gid), (root, name)
    assert stat.S_IMODE(installed.home.auth_secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(installed.home.config_file.stat().st_mode) == 0o600


def test_the_journal_is_gone_and_nothing_temporary_is_left(installed: Site) -> None:
    """A completed install leaves no journal and no temporary file."""
    assert not installed.home.journal.exists()
    assert not [name for _, _, names in os.walk(installed.path) for name in names if name.endswith(".tmp")]


@pytest.mark.slow
def test_secrets_are_not_disclosed(make_site: MakeSite) -> None:
    """A secret from the environment is stored, and is in no output, log, argument or other file."""
    site = make_site()
    secret = "a-better-auth-secret-from-the-environment"
    done = site.install(BETTER_AUTH_SECRET=secret)
    token = done.result["setup_url"].partition("#token=")[2]
    assert site.home.auth_secret.read_text().strip() == secret
    assert secret not in done.out + done.err
    assert token not in done.err
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        assert secret not in line
        assert token not in line
    for path in [*site.home.logs.iterdir(), site.home.config_file, site.home.receipt]:
        assert secret not in path.read_text(), path
        assert token not in path.read_text(), path
    site.close()


def test_installing_again_changes_nothing(installed: Site) -> None:
    """The second run reports no step, changes no file, and leaves the same processes running."""
    before, pids = _files(installed.path), {process.pid for process in installed.processes()}
    done = installed.install()
    assert done.result["changed"] is False
    assert done.steps == []
    assert done.result["setup_url"] is None
    assert done.result["instance_id"] == installed.receipt()["instance_id"]
    assert _files(installed.path) == before
    assert {process.pid for process in installed.processes()} == pids


def test_a_foreign_database_url_does_not_move_an_installed_home(installed: Site) -> None:
    """A DATABASE_URL of another program neither changes the engine nor is written to the settings."""
    before = installed.home.config_file.read_bytes()
    done = installed.install(DATABASE_URL="postgresql://other:user@127.0.0.1:1/other")
    assert done.result["changed"] is False
    assert done.result["engine"] == "postgres"
    assert installed.home.config_file.read_bytes() == before


def test_a_dry_run_writes_nothing_and_reports_the_steps(site: Site) -> None:
    """The steps of a dry run are those of the following run; the dry run creates nothing."""
    parent = site.path.parent
    planned = site.install("--dry-run")
    assert planned.result["dry_run"] is True
    assert not list(parent.iterdir())
    assert "instance_id" not in planned.result
    done = site.install("--no-start", "--dry-run")
    assert done.steps[-1] == "schema"
    assert site.install().result["steps"] == planned.result["steps"]
    again = site.install("--dry-run")
    assert again.steps == []
    assert again.result["changed"] is False


@pytest.mark.slow
def test_an_existing_directory_is_used_and_not_removed(site: Site) -> None:
    """An empty directory becomes the home; a purge does not remove it."""
    site.path.mkdir(mode=0o700)
    site.installed("--no-start")
    assert _created_directories(site) == []
    identity = site.receipt()["instance_id"]
    assert site.json("uninstall", f"--purge={identity}").result["purged"] is True
    assert list(site.path.iterdir()) == []


@pytest.mark.slow
def test_missing_parents_are_created_and_removed_again(site: Site, make_site: MakeSite) -> None:
    """A purge removes the parent directories that the install created."""
    deep = make_site("one/two/home")
    base = deep.path.parents[2]
    deep.installed()
    assert _created_directories(deep) == [base / "one", base / "one/two", deep.path]
    assert deep.json("uninstall", f"--purge={deep.receipt()['instance_id']}").code == 0
    assert list(base.iterdir()) == []
