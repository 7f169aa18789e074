"""Attacks that succeeded when root's process itself worked in an account's home; each must fail.

The account owns the home and everything in it. It prepares an attack, root runs a verb, and afterwards no file of
root's or of another tenant's may have been changed or shown, and no planted program may have run with uid 0.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace

import pytest
from tests.security import race
from tests.security.alternating import GetBase, alternating
from tests.security.canary import CANARY, TENANT, TENANT_UID
from tests.security.installation import THEIRS, Installation, Watch, recorder
from tests.security.interpreters import OPEN
from tests.security.machine import HOMES

MANY = 8000  # files of a backup, so that copying takes a while
PROGRAMS = ("postgres", "initdb", "pg_ctl", "pg_config", "pg_dump", "pg_restore", "psql", "pg_checksums")
VERBS_THAT_CHOOSE_PROGRAMS = ("install --no-start", "install --dry-run", "upgrade", "upgrade --dry-run")


@alternating
@pytest.mark.parametrize("directory", ["logs", "run", "secrets", "data"])
def test_doctor_changes_nothing_behind_a_link(attacked: Installation, watch: Watch, directory: str) -> None:
    """A directory of the home is a link to a directory of root's: owner and mode of its files do not change."""
    attacked.account('mv "$1" ".$1"; ln -s "$2" "$1"', directory, CANARY)
    watch.check(attacked.verb("doctor", "--fix"))


@pytest.mark.parametrize("verb", VERBS_THAT_CHOOSE_PROGRAMS)
def test_programs_named_in_the_settings_never_run_as_root(attacked: Installation, watch: Watch, verb: str) -> None:
    """The account sets ``postgres_bin`` to its own programs."""
    plant_programs(attacked)
    watch.check(attacked.verb(*verb.split()))


@alternating
@pytest.mark.parametrize("name", ["root", "tenant", "victim"])
@pytest.mark.parametrize("verb", ["install --no-start", "upgrade"])
def test_the_receipt_does_not_determine_the_owner(attacked: Installation, watch: Watch, verb: str, name: str) -> None:
    """The account writes another user into the receipt: the owner of the home does not change."""
    attacked.change_receipt(account=name)
    ended = attacked.verb(*verb.split())
    assert {owner_of(attacked, path) for path in ("", "config.toml", "data", "secrets")} == {attacked.owner[0]}, ended
    watch.check(ended)


@alternating
@pytest.mark.parametrize("name", ["root", "tenant", "victim"])
@pytest.mark.parametrize("verb", ["install --no-start", "install --dry-run"])
def test_the_receipt_does_not_determine_the_user_of_programs(
    attacked: Installation, watch: Watch, verb: str, name: str
) -> None:
    """The account writes another user into the receipt, and the path of its own programs into the settings."""
    plant_programs(attacked)
    attacked.change_receipt(account=name)
    ended = attacked.verb(*verb.split())
    assert watch.users_who_ran() <= {attacked.owner[0]}, ended
    watch.check(ended)


def test_a_copy_of_a_backup_is_never_run_as_a_program_of_root(attacked: Installation, watch: Watch) -> None:
    """The account moves a directory while a verb copies files into it, and replaces the program copy by it."""
    backup = create_program_backup(attacked)
    with race.started(attacked, race.MOVE_COPY_TO_RUNTIME, backup):
        verified = attacked.verb("backup", "verify", backup)
    watch.check_race(verified, attacked.verb("restart"), attacked.verb("start"))
    assert not [path for path in roots_files(attacked) if not path.startswith("run")]


def test_a_restore_copies_no_file_of_another_tenant(attacked: Installation, watch: Watch) -> None:
    """The account replaces its backup by a link to another home while it is being copied."""
    backup = create_backup(attacked, {})
    with race.started(attacked, race.EXCHANGE_BACKUP, backup, TENANT):
        restored = attacked.verb("backup", "restore", "--yes", backup)
    watch.check_race(restored)


@pytest.mark.parametrize("name", ["victim", "tenant"])
def test_a_purge_removes_no_account_named_in_the_receipt(attacked: Installation, watch: Watch, name: str) -> None:
    """The account writes another account into the receipt, as one that the installation created."""
    attacked.change_receipt(account=name, account_created=True)
    watch.check(attacked.verb("uninstall", f"--purge={attacked.identity}"))


def test_a_purge_removes_no_directory_named_in_the_receipt(attacked: Installation, watch: Watch) -> None:
    """The account writes empty directories of root's into the receipt, as created for its home or as a cache."""
    for name in ("empty", "cache"):
        attacked.machine.file(f"{HOMES}/{name}").mkdir()
    attacked.change_receipt(parents_created=[f"{HOMES}/empty"], caches=[f"{HOMES}/cache"], home_created=True)
    watch.check(attacked.verb("uninstall", f"--purge={attacked.identity}"))
    assert attacked.machine.file(f"{HOMES}/empty").is_dir()
    assert attacked.machine.file(f"{HOMES}/cache").is_dir()


@pytest.mark.parametrize("identity", ["/../sshd", "../../x", "0123456/x", "a b\n[Service]"])
def test_no_unit_gets_a_name_from_the_receipt(get_base: GetBase, identity: str) -> None:
    """The account writes a path as the instance id, and root registers a service."""
    with get_base(OPEN).copied(systemctl=True) as attacked:
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
def test_only_the_lock_holder_is_signalled(attacked: Installation, watch: Watch, lock: str, verb: str) -> None:
    """The account holds a lock file of the gateway and writes the pid of a process of root's into it."""
    with attacked.machine.popen(["sh", "-c", "echo $$; exec sleep 600"]) as victim:
        assert victim.stdout is not None
        pid = victim.stdout.readline().strip()
        with race.started(attacked, race.HOLD_LOCK, f"run/{lock}.lock", pid):
            ended = attacked.verb(verb, limit=90)
        victim_was_killed = victim.poll() is not None
        kill(attacked, pid)
    watch.check(ended)
    assert not victim_was_killed


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
def test_no_file_of_root_is_shown(attacked: Installation, watch: Watch, verb: str, path: str, target: str) -> None:
    """The account replaces a file that a verb reads by a link to a file of root's."""
    attacked.account('rm -rf "$1"; ln -s "$2" "$1"', path, f"{CANARY}/{target}".rstrip("/"))
    words = verb.split()
    watch.check(attacked.verb(*words, *([f"{HOMES}/bundle.tar.gz"] if "--bundle" in words else [])))


@pytest.mark.parametrize("verb", ["backup prune --keep 1", "backup prune --keep 1 --older-than 0"])
def test_prune_removes_nothing_behind_a_link(attacked: Installation, watch: Watch, verb: str) -> None:
    """The directory of backups is a link to a directory of root's that contains names of backups."""
    attacked.account('mv backups .backups; ln -s "$1" backups', CANARY)
    watch.check(attacked.verb(*verb.split()))


@alternating
@pytest.mark.parametrize(
    "verb",
    ["install --no-start", "start", "stop", "config show", "logs", "backup create", "backup list", "uninstall"],
)
def test_a_home_below_a_directory_of_another_user_is_refused(attacked: Installation, watch: Watch, verb: str) -> None:
    """That user could replace the home at any moment by a link to a directory of another user."""
    moved = move_below_account(attacked)
    moved.machine.check("chown", str(TENANT_UID), THEIRS)
    ended = moved.verb(*verb.split())
    watch.check(ended)
    assert ended.code != 0, ended


def test_a_home_replaced_by_a_link_runs_nothing_as_root(attacked: Installation, watch: Watch, whole: bool) -> None:
    """In a directory of the account, the home is exchanged repeatedly with a link to a directory of root's."""
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
def test_no_file_of_the_home_blocks_a_verb(
    attacked: Installation, watch: Watch, verb: str, path: str, what: str
) -> None:
    """A file of the home is a FIFO without a writer, or a link to /dev/zero."""
    attacked.account('mkdir -p "$(dirname "$1")"; rm -f "$1"', path)
    attacked.account("ln -sfn gateway-9.9.9 runtime/current" if "gateway-9.9.9" in path else ":")
    attacked.account('if [ "$2" = fifo ]; then mkfifo "$1"; else ln -s /dev/zero "$1"; fi', path, what)
    words = verb.split()
    watch.check(attacked.verb(*words, *([f"{HOMES}/bundle.tar.gz"] if "--bundle" in words else [])))


def plant_programs(installation: Installation) -> None:
    """Create programs, as the account, and set ``postgres_bin`` to them."""
    for name in PROGRAMS:
        installation.write_program(f"{THEIRS}/bin/{name}", recorder(name))
    settings = installation.file("config.toml").read_text()
    installation.write("config.toml", f'{settings}\npostgres_bin = "{THEIRS}/bin"\n')


def create_program_backup(installation: Installation) -> str:
    """Create a backup, as the account, whose data is a program copy that acts only as root; return its name."""
    only_root = recorder("python3").replace("\n", '\n[ "$(id -u)" = 0 ] || exit 1\n', 1)
    installation.write_program(f"{THEIRS}/bin/python3", only_root)
    program = {"version": "9.9.9", "python": f"{THEIRS}/bin/python3", "files": {}}
    return create_backup(installation, {"__main__.py": "", "manifest.json": json.dumps(program)}, directories=("zz",))


def create_backup(installation: Installation, files: dict[str, str], *, directories: tuple[str, ...] = ()) -> str:
    """Create a backup, as the account, with *files* and `MANY` more as data; return its name."""
    name = "20990101T000000Z-9.9.9"
    top = f"{installation.home}/backups/{name}/data"
    many = {f"many/{number:05}": f"{number}\n" for number in range(MANY)}
    entries = []
    script = ['mkdir -p "$1/many"', *(f'mkdir "$1/{directory}"' for directory in directories)]
    script.append(f'seq 0 {MANY - 1} | split -l 1 -a 5 -d - "$1/many/"')
    installation.account("\n".join(script), top)
    for path, content in files.items():
        installation.write(f"{top}/{path}", content)
    for path, content in {**files, **many}.items():
        entries.append([f"data/{path}", len(content), hashlib.sha256(content.encode()).hexdigest()])
    manifest = {
        "backup": 1, "instance_id": installation.identity, "created_at": "2099-01-01T00:00:00+00:00",
        "version": installation.receipt()["version"], "engine": "postgres", "kind": "cold", "files": entries,
        "server_version": "18.6", "system_identifier": None, "schema": installation.receipt()["schema"],
        "tables": None, "objects": None, "verified_at": None,
    }  # fmt: skip
    installation.write(f"backups/{name}/manifest.json", json.dumps(manifest))
    return name


def move_below_account(installation: Installation) -> Installation:
    """Move the home into a directory of the account."""
    home = f"{THEIRS}/home"
    installation.machine.check("mv", installation.home, home)
    return replace(installation, home=home)


def owner_of(installation: Installation, path: str) -> int:
    """Return the user id of the owner of a path in the home."""
    return installation.file(path).lstat().st_uid


def roots_files(installation: Installation) -> list[str]:
    """Return the paths in the home that root owns."""
    top = installation.file("")
    return [str(path.relative_to(top)) for path in top.rglob("*") if path.lstat().st_uid == 0]


def units(installation: Installation) -> set[str]:
    """Return the paths of unit files of services, and of other files with such a name, in /etc."""
    return set(
        installation.machine.check("sh", "-c", "find /etc /lib/systemd -name '*.service*' 2>/dev/null").split("\n")
    )


def kill(installation: Installation, pid: str) -> None:
    """Kill a process that a test started in the machine."""
    installation.machine.run("sh", "-c", 'kill -9 "$1" 2>/dev/null; true', "sh", pid)
