"""The migration runner's tests on PGlite: ``database`` is its single database, emptied before each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.pglite_server import PgliteServer, pglite_server

from mosaic_gateway.installation.layout import Home

ONE_SESSION = "PGlite has one session: no other session can hold a lock or a snapshot"
REFUSED = "refused unless the runner is alone: test_session_on_pglite.py"
#: Test name → why the test cannot run on PGlite.
INAPPLICABLE = {
    "test_the_schema_equals_that_of_the_plain_files": "compares with a server that has another pgvector",
    "test_a_lost_connection_is_reported_and_the_next_run_resumes": "no backend can be terminated alone",
    "test_a_connection_that_is_already_closed_is_reported": "no backend can be terminated alone",
    "test_an_interrupted_detach_of_a_partition_is_finalized": ONE_SESSION,
    "test_the_backend_of_a_killed_runner_is_waited_for": ONE_SESSION,
    "test_a_statement_is_retried_until_it_gets_its_lock": ONE_SESSION,
    "test_a_busy_lock_is_reported_with_its_holder": "the lock is outside of the runner",
    "test_settings_of_earlier_statements_are_restored_on_resume": REFUSED,
    "test_a_file_with_temporary_objects_is_run_again_or_refused": REFUSED,
    "test_rows_moved_to_a_temporary_table_are_not_lost_silently": REFUSED,
    "test_a_file_that_filled_a_temporary_table_can_be_run_again": REFUSED,
    "test_a_missing_privilege_on_the_records_is_reported": "every client connects as postgres",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests as slow, and skip those that cannot run on PGlite."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            name = getattr(item, "originalname", item.name)
            if name in INAPPLICABLE:
                item.add_marker(pytest.mark.skip(reason=INAPPLICABLE[name]))


@pytest.fixture(scope="session")
def sidecar(pglite_home: Home, scratch_root: Path) -> Iterator[PgliteServer]:
    """Run a sidecar for these tests only."""
    with pglite_server(pglite_home, scratch_root) as server:
        yield server


@pytest.fixture
def database(sidecar: PgliteServer) -> str:
    """Return the conninfo of the emptied database."""
    sidecar.empty()
    return sidecar.conninfo
