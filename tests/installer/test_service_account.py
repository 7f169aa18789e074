"""The service account of root's installation: creation, use, adoption and removal, in a private copy of /etc."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.site import MakeSite, Site
from tests.support.traps.kill_points import trap_at

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.root]

LIMIT = 120.0  # seconds to wait for other test processes
NAME = "mosaic-gateway"
# Changes to /etc are discarded with the namespace. An existing account of that name is renamed and keeps its user id.
ENTER = f"""
set -e
mount -t tmpfs layer "$1"
mkdir "$1/upper" "$1/work"
mount -t overlay etc -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc
sed -i 's/^{NAME}:/other-gateway:/' /etc/passwd /etc/group
for file in /etc/shadow /etc/gshadow; do if [ -e "$file" ]; then sed -i 's/^{NAME}:/other-gateway:/' "$file"; fi; done
echo ready
exec cat
"""


@pytest.fixture(scope="module")
def own_etc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """Yield the words before a command that run it in a mount namespace with a private copy of /etc."""
    layer = tmp_path_factory.mktemp("etc")
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "sh", str(layer)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        if supervisor.stdout.readline() != "ready\n":
            supervisor.kill()
            pytest.skip("root is not allowed to mount, as in an unprivileged container")
        yield ("nsenter", "--target", str(supervisor.pid), "--mount", "--")
        supervisor.kill()


@pytest.fixture
def alone() -> Iterator[None]:
    """Wait until no other test process creates accounts: its processes would run with the same user ids."""
    path = Path(tempfile.gettempdir(), "mosaic-gateway-test-accounts.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline, "another test process still creates accounts"
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


@pytest.fixture
def root_site(make_site: MakeSite, own_etc: tuple[str, ...], open_directory: Path, alone: None) -> Iterator[Site]:
    """Return a site that root installs without --run-as."""
    created = make_site(parent=open_directory, prefix=own_etc, run_as=False)
    yield created
    created.close()


def _entries(own_etc: tuple[str, ...]) -> dict[str, int]:
    """Return the accounts and groups of the gateway: table → numeric id."""
    found = {}
    for table in ("passwd", "group"):
        words = [*own_etc, "getent", table, NAME]
        line = subprocess.run(words, capture_output=True, text=True, check=False).stdout
        if line:
            found[table] = int(line.split(":")[2])
    return found


@pytest.mark.slow
def test_life_cycle_of_the_account(root_site: Site, own_etc: tuple[str, ...]) -> None:
    """Install creates it and runs PostgreSQL and the gateway as it; uninstall retains it, purge removes it."""
    assert not _entries(own_etc)
    planned = root_site.install("--dry-run")
    assert planned.steps[:1] == ["home"]
    assert not _entries(own_etc)
    done = root_site.install()
    assert done.result["steps"] == planned.result["steps"]
    assert done.result["account"] == NAME
    entries = _entries(own_etc)
    assert set(entries) == {"passwd", "group"}
    uid = entries["passwd"]
    assert root_site.path.stat().st_uid == uid
    receipt, record = root_site.receipt(), root_site.record()
    assert (record["account"], record["account_created"]) == (NAME, True)
    servers = [process for process in root_site.processes() if process.name() == "postgres"]
    assert servers
    assert {process.uids().real for process in servers} == {uid}
    pid = root_site.json("status").result["pid"]
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in Path(f"/proc/{pid}/status").read_text()
    assert root_site.json("uninstall").result["purged"] is False
    assert _entries(own_etc) == entries
    assert root_site.json("uninstall", f"--purge={receipt['instance_id']}").result["purged"] is True
    assert not _entries(own_etc)
    assert not list(root_site.path.parent.iterdir())


@pytest.mark.slow
def test_a_failed_install_leaves_no_account(root_site: Site, own_etc: tuple[str, ...]) -> None:
    """The rollback removes the account that this run created."""
    done = root_site.install(trap=trap_at("secret renamed", act="ENOSPC"))
    assert done.code == 3, done.out
    assert not _entries(own_etc)
    assert not list(root_site.path.parent.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "trap",
    [("useradd started", 1), ("receipt renamed", 2), ("journal line", 4)],
    ids=["before", "created, not recorded", "recorded"],
)
def test_install_killed_around_the_creation_of_the_account(
    root_site: Site, own_etc: tuple[str, ...], trap: tuple[str, int]
) -> None:
    """The next run records the account as created by the installation, and purge removes it."""
    done = root_site.install("--no-start", trap=trap_at(*trap))
    assert done.code == -9, done.err
    root_site.installed("--no-start")
    receipt, record = root_site.receipt(), root_site.record()
    assert (record["account"], record["account_created"]) == (NAME, True)
    root_site.json("uninstall", f"--purge={receipt['instance_id']}")
    assert not _entries(own_etc)
    assert not list(root_site.path.parent.iterdir())


@pytest.mark.slow
def test_an_existing_account_is_used_and_not_removed(root_site: Site, own_etc: tuple[str, ...]) -> None:
    """An account that the installation did not create is recorded as such, and purge does not remove it."""
    subprocess.run([*own_etc, "useradd", "--system", "--user-group", NAME], check=True)
    try:
        root_site.installed("--no-start")
        assert root_site.record()["account_created"] is False
        root_site.json("uninstall", f"--purge={root_site.receipt()['instance_id']}")
        assert "passwd" in _entries(own_etc)
    finally:
        subprocess.run([*own_etc, "userdel", NAME], check=True)


@pytest.mark.slow
def test_a_second_home_has_an_account_of_its_own(
    make_site: MakeSite, root_site: Site, own_etc: tuple[str, ...], open_directory: Path
) -> None:
    """Purging one home removes its account; the other home and its account stay unchanged."""
    other = make_site("other", parent=open_directory, prefix=own_etc, run_as=False)
    root_site.installed("--no-start")
    other.installed("--no-start")
    first, second = root_site.receipt(), other.receipt()
    account = other.record()["account"]
    assert root_site.record()["account"] == NAME
    assert account.startswith(f"{NAME}-")
    assert root_site.path.stat().st_uid != other.path.stat().st_uid
    root_site.json("uninstall", f"--purge={first['instance_id']}")
    assert not _entries(own_etc)
    assert other.json("start").result["url"] == other.url
    assert other.install().result["account"] == account
    other.json("uninstall", f"--purge={second['instance_id']}")
    assert subprocess.run([*own_etc, "getent", "passwd", account], check=False).returncode == 2
    assert not list(open_directory.iterdir())


@pytest.mark.slow
def test_a_deleted_account_is_created_again(root_site: Site, own_etc: tuple[str, ...]) -> None:
    """Install creates it with its former user id, so that it owns the files of the home."""
    identity = root_site.installed("--no-start")["instance_id"]
    uid = root_site.path.stat().st_uid
    subprocess.run([*own_etc, "userdel", NAME], check=True)
    refused = root_site.json("status")
    assert (refused.code, refused.error["code"]) == (3, "HOME_OWNER")
    assert "mosaic-gateway install" in refused.error["hint"]
    assert root_site.installed("--no-start")["instance_id"] == identity
    assert _entries(own_etc)["passwd"] == uid
    assert root_site.json("auth", "users", "list").result["users"] == []
    root_site.json("uninstall", f"--purge={identity}")
    assert not _entries(own_etc)


@pytest.mark.slow
def test_a_user_id_that_was_reused_gives_no_access(root_site: Site, own_etc: tuple[str, ...]) -> None:
    """The account was deleted and another user has its id: no verb works until the owner of the home is changed."""
    identity = root_site.installed("--no-start")["instance_id"]
    uid = root_site.path.stat().st_uid
    subprocess.run([*own_etc, "userdel", NAME], check=True)
    subprocess.run([*own_etc, "useradd", "--system", "--uid", str(uid), "other-user"], check=True)
    for words in (root_site.install_words("--no-start"), ("status", "--json"), ("uninstall", "--json")):
        done = root_site.run(*words)
        assert (done.code, done.error["code"]) == (3, "HOME_OWNER")
    assert f"chown -R {NAME}: {root_site.path}" in done.error["hint"]
    subprocess.run([*own_etc, "useradd", "--system", "--user-group", NAME], check=True)
    subprocess.run([*own_etc, "chown", "-R", f"{NAME}:", str(root_site.path)], check=True)
    assert root_site.installed("--no-start")["instance_id"] == identity
    assert root_site.record()["uid"] == _entries(own_etc)["passwd"] != uid
    assert root_site.json("auth", "users", "list").result["users"] == []
    root_site.json("uninstall", f"--purge={identity}")
    assert not _entries(own_etc)


#: Changes a new installation (arguments: home, account) into the form that version 0.1.0, run by root, created.
AS_VERSION_0_1_0 = """
import json, os, pwd, shutil, sys
from pathlib import Path
from mosaic_gateway.installation.machine_record import read_machine_record, record_file
home, account = Path(sys.argv[1]), pwd.getpwnam(sys.argv[2])
record = read_machine_record(home)
shutil.copytree(record.programs, home / "runtime", symlinks=True)
shutil.rmtree(home / "runtime" / "bin")
for path in (home / "runtime", *home.glob("runtime/postgresql-*"), *home.glob("runtime/postgresql-*/**/*")):
    os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
shutil.rmtree(record.programs)
record_file(home).unlink()
receipt = json.loads((home / "receipt.json").read_text())
(home / "receipt.json").write_text(json.dumps({**receipt, "account": "root", "account_created": True}))
"""


@pytest.mark.slow
def test_a_home_of_version_0_1_0_is_adopted(root_site: Site, own_etc: tuple[str, ...]) -> None:
    """Install creates the missing record and moves the programs out of the home.

    The account in the receipt is ignored; root recognises the account by its name, comment and home directory.
    """
    identity = root_site.installed("--no-start")["instance_id"]
    words = [*own_etc, sys.executable, "-P", "-c", AS_VERSION_0_1_0, str(root_site.path), NAME]
    subprocess.run(words, check=True, cwd="/")
    assert root_site.json("auth", "users", "list").result["users"] == []
    done = root_site.installed("--no-start")
    assert done["instance_id"] == identity
    assert "program" in [step["id"] for step in done["steps"]]
    record = root_site.record()
    assert (record["account"], record["account_created"], record["complete"]) == (NAME, True, True)
    assert not (root_site.path / "runtime").exists()
    assert root_site.installed("--no-start")["steps"] == []
    root_site.json("uninstall", f"--purge={identity}")
    assert not _entries(own_etc)
    assert not list(root_site.path.parent.iterdir())


@pytest.mark.slow
def test_created_parents_are_open_to_the_account(
    make_site: MakeSite, own_etc: tuple[str, ...], open_directory: Path, alone: None
) -> None:
    """Parents that root creates have mode 0755, the home 0700; purge removes both."""
    site = make_site("a/b/home", parent=open_directory, prefix=own_etc, run_as=False)
    site.installed("--no-start")
    assert [oct(path.stat().st_mode & 0o777) for path in (site.path.parent, site.path)] == ["0o755", "0o700"]
    site.json("uninstall", f"--purge={site.receipt()['instance_id']}")
    assert not list(open_directory.iterdir())


OTHER_PROCESS = """
import os, sys, time
os.chroot(sys.argv[1])
os.setuid(int(sys.argv[2]))
print("up", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("contained", [False, True])
def test_an_account_with_processes_is_not_removed(
    root_site: Site, own_etc: tuple[str, ...], tmp_path: Path, contained: bool
) -> None:
    """The process is reported. Processes in a container do not count: there the same id is another user."""
    root_site.installed("--no-start")
    words = [sys.executable, "-c", OTHER_PROCESS, str(tmp_path) if contained else "/", str(_entries(own_etc)["passwd"])]
    with subprocess.Popen([*own_etc, *words], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "up\n"
        purged = root_site.run("uninstall", f"--purge={root_site.receipt()['instance_id']}")
        other.kill()
    assert purged.code == 0, (purged.out, purged.err)
    assert (f"process {other.pid} runs as it" in purged.out) is not contained
    assert set(_entries(own_etc)) == (set() if contained else {"passwd", "group"})
    if not contained:
        subprocess.run([*own_etc, "userdel", NAME], check=True)


def test_a_home_that_the_account_cannot_reach_is_refused(
    make_site: MakeSite, own_etc: tuple[str, ...], tmp_path: Path, alone: None
) -> None:
    """In a directory of mode 0700 PostgreSQL could not reach its data; this is found before any change."""
    tmp_path.chmod(0o700)
    site = make_site(parent=tmp_path, prefix=own_etc, run_as=False)
    done = site.install()
    assert (done.code, done.error["code"]) == (3, "HOME_UNUSABLE")
    assert not site.path.exists()
    assert not _entries(own_etc)
