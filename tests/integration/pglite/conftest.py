"""The migration runner's own tests, on PGlite: ``database`` is its one database, emptied before each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import PgliteServer, pglite_server

from mosaic_gateway.installation.layout import Home

ONE_SESSION = "PGlite has one session: nobody else can hold a lock or a snapshot in it"
REFUSED = "refused unless alone: test_session_on_pglite.py"
#: What cannot be on PGlite, by the test's name.
INHERENT = {
    "test_the_schema_equals_that_of_the_plain_files": "compares with a server that has another pgvector",
    "test_a_lost_connection_is_told_apart_and_mended_by_running_again": "no backend can be terminated alone",
    "test_a_connection_that_is_already_dead_is_told_too": "no backend can be terminated alone",
    "test_a_partition_whose_detaching_was_cut_off_is_detached": ONE_SESSION,
    "test_the_server_process_of_a_dead_runner_is_waited_for": ONE_SESSION,
    "test_a_lock_that_is_not_to_be_had_is_waited_for": ONE_SESSION,
    "test_a_runner_that_comes_too_late_names_the_one_before": "the lock is outside of the runner",
    "test_settings_of_earlier_statements_hold_after_a_resume": REFUSED,
    "test_temporary_objects_begin_again_or_say_why_not": REFUSED,
    "test_rows_that_were_moved_to_a_temporary_table_are_not_lost_silently": REFUSED,
    "test_what_was_put_into_a_temporary_table_does_not_keep_a_file_from_beginning_again": REFUSED,
    "test_a_record_that_cannot_be_written_is_not_the_statements_fault": "whoever connects is postgres",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them take their time; some cannot be."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            name = getattr(item, "originalname", item.name)
            if name in INHERENT:
                item.add_marker(pytest.mark.skip(reason=INHERENT[name]))


@pytest.fixture(scope="session")
def sidecar(pglite_home: Home, scratch_root: Path) -> Iterator[PgliteServer]:
    """Run a sidecar that nobody else uses."""
    with pglite_server(pglite_home, scratch_root) as server:
        yield server


@pytest.fixture
def database(sidecar: PgliteServer) -> str:
    """Return the conninfo of the emptied database."""
    sidecar.empty()
    return sidecar.conninfo
