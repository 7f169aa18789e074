"""Attacks that worked when root acted in homes of accounts; each must lead nowhere.

The account has the home and everything in it. It prepares something, root runs a verb, and in the end nothing of root's
or of another tenant's has changed or was shown, and nothing that the account had planted ran with uid 0.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace

import pytest
from tests.security import race
from tests.security.canary import CANARY, TENANT, TENANT_UID
from tests.security.conftest import MakeBase, alternating
from tests.security.installation import THEIRS, Installation, Watch, recorder
from tests.security.interpreters import OPEN
from tests.security.machine import HOMES

MANY = 8000  # files of a backup: to copy them takes a while
PROGRAMS = ("postgres", "initdb", "pg_ctl", "pg_config", "pg_dump", "pg_restore", "psql", "pg_checksums")
VERBS_THAT_CHOOSE_PROGRAMS = ("install --no-start", "install --dry-run", "upgrade", "upgrade --dry-run")


@alternating
@pytest.mark.parametrize("directory", ["logs", "run", "secrets", "data"])
def test_doctor_gives_away_nothing_behind_a_link(attacked: Installation, watch: Watch, directory: str) -> None:
    """A directory of the home leads to root's: owner and mode of what lies there stay as they are."""
    attacked.account('mv "$1" ".$1"; ln -s "$2" "$1"', directory, CANARY)
    watch.check(attacked.verb("doctor", "--fix"))


@pytest.mark.parametrize("verb", VERBS_THAT_CHOOSE_PROGRAMS)
def test_programs_that_the_settings_name_never_run_as_root(attacked: Installation, watch: Watch, verb: str) -> None:
    """The account names its own programs as PostgreSQL's."""
    plant_programs(attacked)
    watch.check(attacked.verb(*verb.split()))


@alternating
@pytest.mark.parametrize("name", ["root", "tenant", "victim"])
@pytest.mark.parametrize("verb", ["install --no-start", "upgrade"])
def test_the_receipt_does_not_say_whose_the_home_is(attacked: Installation, watch: Watch, verb: str, name: str) -> None:
    """The account writes another user into the receipt: the home stays the account's."""
    attacked.change_receipt(account=name)
    ended = attacked.verb(*verb.split())
    assert {owner_of(attacked, path) for path in ("", "config.toml", "data", "secrets")} == {attacked.owner[0]}, ended
    watch.check(ended)


@alternating
@pytest.mark.parametrize("name", ["root", "tenant", "victim"])
@pytest.mark.parametrize("verb", ["install --no-start", "install --dry-run"])
def test_the_receipt_does_not_say_as_whom_programs_run(
    attacked: Installation, watch: Watch, verb: str, name: str
) -> None:
    """The account writes another user into the receipt, and its own programs into the settings."""
    plant_programs(attacked)
    attacked.change_receipt(account=name)
    ended = attacked.verb(*verb.split())
    assert watch.users_who_ran() <= {attacked.owner[0]}, ended
    watch.check(ended)


def test_a_copy_that_root_makes_is_never_taken_for_roots_own(attacked: Installation, watch: Watch) -> None:
    """The account takes away a directory while root copies into it, and puts it in the place of the program."""
    backup = prepare_program_in_backup(attacked)
    with race.started(attacked, race.MOVE_COPY_TO_RUNTIME, backup):
        verified = attacked.verb("backup", "verify", backup)
    watch.check_race(verified, attacked.verb("restart"), attacked.verb("start"))
    assert not [path for path in roots_files(attacked) if not path.startswith("run")]


def test_a_restore_takes_nothing_of_another_tenant(attacked: Installation, watch: Watch) -> None:
    """The account exchanges its backup for a link to another home while root copies it."""
    backup = make_backup(attacked, {})
    with race.started(attacked, race.EXCHANGE_BACKUP, backup, TENANT):
        restored = attacked.verb("backup", "restore", backup)
    watch.check_race(restored)


@pytest.mark.parametrize("name", ["victim", "tenant"])
def test_a_purge_removes_no_account_that_the_receipt_claims(attacked: Installation, watch: Watch, name: str) -> None:
    """The account writes another account into the receipt, as one that the installation has made."""
    attacked.change_receipt(account=name, account_created=True)
    watch.check(attacked.verb("uninstall", f"--purge={attacked.identity}"))


def test_a_purge_removes_no_directory_that_the_receipt_claims(attacked: Installation, watch: Watch) -> None:
    """The account claims that an empty directory of root's was made for its home, or as a cache."""
    for name in ("empty", "cache"):
        attacked.machine.file(f"{HOMES}/{name}").mkdir()
    attacked.change_receipt(parents_created=[f"{HOMES}/empty"], caches=[f"{HOMES}/cache"], home_created=True)
    watch.check(attacked.verb("uninstall", f"--purge={attacked.identity}"))
    assert attacked.machine.file(f"{HOMES}/empty").is_dir()
    assert attacked.machine.file(f"{HOMES}/cache").is_dir()


@pytest.mark.parametrize("identity", ["/../sshd", "../../x", "0123456/x", "a b\n[Service]"])
def test_no_unit_gets_a_name_from_the_receipt(make_made: MakeBase, identity: str) -> None:
    """The account writes an instance id with a path in it, and root registers a service."""
    with make_made(OPEN).copied(systemctl=True) as attacked:
        watch = Watch(attacked)
        before = units(attacked)
        attacked.change_receipt(instance_id=identity)
        ended = attacked.verb("install", "--service", "--no-start")
        watch.check(ended)
        names = units(attacked) - before
        assert all(re.search(r"^/etc/systemd/system/mosaic-gateway(-[0-9a-f]{8})?\.service$", name) for name in names)


@alternating
@pytest.mark.parametrize("lock", ["supervisor", "gateway"])
@pytest.mark.parametrize("verb", ["stop", "uninstall", "restart"])
def test_only_who_holds_the_lock_is_signalled(attacked: Installation, watch: Watch, lock: str, verb: str) -> None:
    """The account holds the lock of the gateway and writes the pid of a process of root's into it."""
    with attacked.machine.popen(["sh", "-c", "echo $$; exec sleep 600"]) as victim:
        assert victim.stdout is not None
        pid = victim.stdout.readline().strip()
        with race.started(attacked, race.HOLD_LOCK, f"run/{lock}.lock", pid):
            ended = attacked.verb(verb, limit=90)
        died = victim.poll() is not None
        victim_killed = "the foreign process was killed" if died else ""
        kill_group(attacked, pid)
    watch.check(ended)
    assert not victim_killed


@alternating
@pytest.mark.parametrize(
    ("verb", "path", "target"),
    [
        ("logs", "logs/gateway.log", "gateway.log"),
        ("logs --postgres", "logs/postgres.log", "shadow"),
        ("logs", "logs", ""),
        ("doctor --bundle", "logs/gateway.log", "shadow"),
        ("doctor --bundle", "logs", ""),
        ("doctor --bundle", "journal.jsonl", "journal.jsonl"),
        ("config show", "config.toml", "config.toml"),
        ("config show", "config.toml", "settings.toml"),
        ("status", "receipt.json", "receipt.json"),
        ("uninstall --dry-run", "receipt.json", "receipt.json"),
        ("backup list", "backups", ""),
    ],
)
def test_nothing_of_roots_is_shown(attacked: Installation, watch: Watch, verb: str, path: str, target: str) -> None:
    """The account puts a link to a file of root's where root reads one of the home."""
    attacked.account('rm -rf "$1"; ln -s "$2" "$1"', path, f"{CANARY}/{target}".rstrip("/"))
    words = verb.split()
    watch.check(attacked.verb(*words, *([f"{HOMES}/bundle.tar.gz"] if "--bundle" in words else [])))


@pytest.mark.parametrize("verb", ["backup prune --keep 1", "backup prune --keep 1 --older-than 0"])
def test_prune_removes_nothing_behind_a_link(attacked: Installation, watch: Watch, verb: str) -> None:
    """The directory of the backups is a link to one of root's with directories of such names."""
    attacked.account('mv backups .backups; ln -s "$1" backups', CANARY)
    watch.check(attacked.verb(*verb.split()))


@alternating
@pytest.mark.parametrize(
    "verb",
    ["install --no-start", "start", "stop", "config show", "logs", "backup create", "backup list", "uninstall"],
)
def test_a_home_below_a_directory_of_another_user_is_refused(attacked: Installation, watch: Watch, verb: str) -> None:
    """That user could exchange the home itself, at any moment, for a link to what belongs to somebody else."""
    moved = move_below_account(attacked)
    moved.machine.check("chown", str(TENANT_UID), THEIRS)
    ended = moved.verb(*verb.split())
    watch.check(ended)
    assert ended.code != 0, ended


def test_a_home_exchanged_for_a_link_runs_nothing_as_root(attacked: Installation, watch: Watch, whole: bool) -> None:
    """Below a directory of the account, the home is its own in one moment and a directory of root's in the next."""
    moved = move_below_account(attacked)
    moved.write_program(f"{THEIRS}/bin/python3", recorder("python3"))
    program = {"version": "9.9.9", "python": f"{THEIRS}/bin/python3", "files": {}}
    moved.write("runtime/gateway-9.9.9/manifest.json", json.dumps(program))
    moved.account("ln -sfn gateway-9.9.9 runtime/current")
    with race.started(moved, race.EXCHANGE_HOME, HOMES):
        for _ in range(200 if whole else 5):
            watch.check_race(moved.verb("start"))


@alternating
@pytest.mark.parametrize(
    ("verb", "path", "what"),
    [
        ("status", "receipt.json", "fifo"),
        ("status", "run/supervisor.lock", "fifo"),
        ("stop", "run/gateway.lock", "fifo"),
        ("config show", "config.toml", "fifo"),
        ("start", "config.toml", "fifo"),
        ("start", "runtime/gateway-9.9.9/manifest.json", "fifo"),
        ("backup list", "backups/20990101T000000Z-9.9.9/manifest.json", "fifo"),
        ("backup list", "backups/20990101T000000Z-9.9.9/manifest.json", "zero"),
        ("doctor", "config.toml", "zero"),
        ("doctor", "secrets/auth-secret", "zero"),
        ("doctor --bundle", "secrets/other", "zero"),
        ("doctor --bundle", "journal.jsonl", "zero"),
        ("logs", "logs/gateway.log", "fifo"),
        ("install --dry-run", "receipt.json", "zero"),
        ("uninstall --dry-run", "receipt.json", "fifo"),
        ("upgrade", "upgrade.json", "fifo"),
    ],
)
def test_no_file_of_the_home_keeps_a_verb_waiting(
    attacked: Installation, watch: Watch, verb: str, path: str, what: str
) -> None:
    """A file of the home is a pipe that nobody writes to, or leads to a device without an end."""
    attacked.account('mkdir -p "$(dirname "$1")"; rm -f "$1"', path)
    attacked.account("ln -sfn gateway-9.9.9 runtime/current" if "gateway-9.9.9" in path else ":")
    attacked.account('if [ "$2" = fifo ]; then mkfifo "$1"; else ln -s /dev/zero "$1"; fi', path, what)
    words = verb.split()
    watch.check(attacked.verb(*words, *([f"{HOMES}/bundle.tar.gz"] if "--bundle" in words else [])))


def plant_programs(installation: Installation) -> None:
    """Have the account name its own programs as PostgreSQL's."""
    for name in PROGRAMS:
        installation.write_program(f"{THEIRS}/bin/{name}", recorder(name))
    settings = installation.file("config.toml").read_text()
    installation.write("config.toml", f'{settings}\npostgres_bin = "{THEIRS}/bin"\n')


def prepare_program_in_backup(installation: Installation) -> str:
    """Have the account make a backup whose data is a program for root to run; return its name."""
    only_root = recorder("python3").replace("\n", '\n[ "$(id -u)" = 0 ] || exit 1\n', 1)
    installation.write_program(f"{THEIRS}/bin/python3", only_root)
    program = {"version": "9.9.9", "python": f"{THEIRS}/bin/python3", "files": {}}
    return make_backup(installation, {"__main__.py": "", "manifest.json": json.dumps(program)}, directories=("zz",))


def make_backup(installation: Installation, files: dict[str, str], *, directories: tuple[str, ...] = ()) -> str:
    """Have the account make a backup with *files* as data and many more, which take their time; return its name."""
    name = "20990101T000000Z-9.9.9"
    top = f"{installation.home}/backups/{name}/data"
    many = {f"many/{number:05}": f"{number}\n" for number in range(MANY)}
    found = []
    script = ['mkdir -p "$1/many"', *(f'mkdir "$1/{directory}"' for directory in directories)]
    script.append(f'seq 0 {MANY - 1} | split -l 1 -a 5 -d - "$1/many/"')
    installation.account("\n".join(script), top)
    for path, content in files.items():
        installation.write(f"{top}/{path}", content)
    for path, content in {**files, **many}.items():
        found.append([f"data/{path}", len(content), hashlib.sha256(content.encode()).hexdigest()])
    manifest = {
        "backup": 1, "instance_id": installation.identity, "created_at": "2099-01-01T00:00:00+00:00",
        "version": installation.receipt()["version"], "engine": "postgres", "kind": "cold", "files": found,
        "server_version": "18.6", "system_identifier": None, "schema": installation.receipt()["schema"],
        "tables": None, "objects": None, "verified_at": None,
    }  # fmt: skip
    installation.write(f"backups/{name}/manifest.json", json.dumps(manifest))
    return name


def move_below_account(installation: Installation) -> Installation:
    """Move the home below a directory of the account."""
    home = f"{THEIRS}/home"
    installation.machine.check("mv", installation.home, home)
    return replace(installation, home=home)


def owner_of(installation: Installation, path: str) -> int:
    """Return the user id of a path of the home."""
    return installation.file(path).lstat().st_uid


def roots_files(installation: Installation) -> list[str]:
    """Return what of the home belongs to root."""
    top = installation.file("")
    return [str(path.relative_to(top)) for path in top.rglob("*") if path.lstat().st_uid == 0]


def units(installation: Installation) -> set[str]:
    """Return the files of units, and whatever else is called so in /etc."""
    return set(
        installation.machine.check("sh", "-c", "find /etc /lib/systemd -name '*.service*' 2>/dev/null").split("\n")
    )


def kill_group(installation: Installation, pid: str) -> None:
    """End a process of ours in the machine."""
    installation.machine.run("sh", "-c", 'kill -9 "$1" 2>/dev/null; true', "sh", pid)
